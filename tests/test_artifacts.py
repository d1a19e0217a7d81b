"""The artifact folder: pairs of a file and its manifest that no kill leaves unusable, and files that are the user's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rtbench import artifacts
from rtbench.errors import UsageError, WorkerFailed
from rtbench.export.adopt_engine import adopt_engine
from rtbench.images.preprocessing import RESNET
from rtbench.records.model import Artifact, EngineBuild, Model, Recipe

NEW, OLD = {"model": "new"}, {"model": "old"}


def make(folder: Path, made_from: dict[str, str], content: bytes = b"content") -> Artifact:
    def write(path: Path) -> dict[str, object]:
        path.write_bytes(content)
        return {"kept_fp32": ["a node"]}

    return artifacts.make(folder / "onnx-int8.onnx", "onnx", "int8", made_from, {"tool": "1"}, write)


def reuse(folder: Path, made_from: dict[str, str]) -> Artifact | None:
    return artifacts.reusable(folder / "onnx-int8.onnx", "onnx", "int8", made_from)


def never() -> None:
    raise AssertionError("nobody else writes here")


KILLED = """
import os, signal, sys
from pathlib import Path
from rtbench import artifacts

folder, steps = Path(sys.argv[1]), int(sys.argv[2])

STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir")

def count(event, arguments):
    global steps
    if event in STEPS and str(folder) in str(arguments):
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1

def write(path):
    with path.open("wb") as file:
        file.write(b"new")
        file.flush()
    path.with_name(path.name + ".rest").write_bytes(b"left over")
    return {"kept_fp32": ["a node"]}

sys.addaudithook(count)
with artifacts.writing(folder, lambda: None):
    path = folder / "onnx-int8.onnx"
    if not artifacts.reusable(path, "onnx", "int8", {"model": "new"}):
        artifacts.make(path, "onnx", "int8", {"model": "new"}, {"tool": "1"}, write)
print("steps left", steps)
"""


@pytest.mark.parametrize("before", ["nothing", "an older one"])
def test_whenever_it_is_killed_the_next_run_makes_it_whole(tmp_path, before):
    killed = 0
    while True:
        folder = tmp_path / str(killed)
        folder.mkdir()
        if before == "an older one":
            make(folder, OLD, b"old")
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(killed)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        with artifacts.writing(folder, never):
            artifact = reuse(folder, NEW) or make(folder, NEW, b"new")
        assert reuse(folder, NEW) == artifact
        assert artifact.kept_fp32 == ["a node"]
        assert sorted(each.name for each in folder.iterdir()) == ["onnx-int8.json", "onnx-int8.onnx"]
        assert (folder / "onnx-int8.onnx").read_bytes() == b"new"
        killed += 1
    assert killed > 8


def test_what_is_not_left_by_rtbench_stays(tmp_path):
    (tmp_path / ".making-pictures").mkdir()
    (tmp_path / ".notes.partial").write_text("mine")
    (tmp_path / ".making-12-abcdefgh").mkdir()
    (tmp_path / ".onnx-int8.json.12.partial").write_text("")
    with artifacts.writing(tmp_path, never):
        assert sorted(each.name for each in tmp_path.iterdir()) == [".making-pictures", ".notes.partial"]
        (tmp_path / ".making-13-abcdefgh").mkdir()  # of an exporter that is killed meanwhile
    assert sorted(each.name for each in tmp_path.iterdir()) == [".making-pictures", ".notes.partial"]


def test_a_process_that_writes_is_waited_for(tmp_path):
    """What it has begun is left alone, until it ends, here by being killed."""
    code = (
        "import sys, tempfile; from pathlib import Path; from rtbench import artifacts\n"
        "def write(path):\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
        f"with artifacts.writing(Path({str(tmp_path)!r}), lambda: None):\n"
        f"    artifacts.make(Path({str(tmp_path)!r}) / 'torch-fp32.pt', 'state_dict', 'fp32', {{}}, {{}}, write)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "writing\n"
    seen = []

    def wait() -> None:
        seen.extend(each.name for each in tmp_path.iterdir())
        other.kill()

    with artifacts.writing(tmp_path, wait):
        assert list(tmp_path.iterdir()) == []
    assert len(seen) == 1
    assert seen[0].startswith(f".making-{other.pid}-")
    other.communicate()


@pytest.mark.parametrize("mine", ["onnx-int8.onnx", "onnx-int8.json", "onnx-int8.onnx.data"])
@pytest.mark.parametrize("how", ["file", "folder", "dangling link"])
def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path, mine, how):
    file = tmp_path / mine
    if how == "file":
        file.write_text('{"mine": 1}')
    elif how == "folder":
        file.mkdir()
    else:
        file.symlink_to(tmp_path / "absent")
    before = os.lstat(file)
    with pytest.raises(UsageError, match=f"{mine} exists and was not made by this version of rtbench"):
        make(tmp_path, NEW)
    assert os.lstat(file).st_mtime_ns == before.st_mtime_ns
    assert [each.name for each in tmp_path.iterdir()] == [mine]


@pytest.mark.parametrize("content", [b'{"layers": 18}', b"[]", b"", b"\xff\xfe", b"{" * 100_000])
def test_a_model_json_of_the_users_is_not_ours(tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.json exists and was not made by this version of rtbench"):
        artifacts.require_own_model(tmp_path)


def test_a_model_json_of_rtbench_is_ours(tmp_path):
    artifacts.require_own_model(tmp_path)
    model = Model(name="m", source="m", arch=None, sha256="ab", parameters=1, classes=9, preprocessing=RESNET)
    artifacts.save_model(tmp_path, model)
    artifacts.require_own_model(tmp_path)


def edit(manifest: Path, **fields: object) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | fields))


def test_what_can_be_measured_is_not_believed_of_a_manifest(tmp_path):
    made = make(tmp_path, NEW)
    edit(tmp_path / "onnx-int8.json", size_bytes=1, precision="fp32", format="state_dict", path="/elsewhere")
    assert reuse(tmp_path, NEW) == made
    edit(tmp_path / "onnx-int8.json", sha256="0" * 64)
    assert reuse(tmp_path, NEW) is None


def built(folder: Path) -> Path:
    """An engine with its manifest, as far as adopting looks at it."""
    artifacts.save_model(
        folder, Model(name="m", source="m", arch=None, sha256="ab", parameters=1, classes=9, preprocessing=RESNET)
    )
    build = EngineBuild(
        library="tensorrt",
        library_version="10",
        compute_capability="7.5",
        gpu=None,
        driver=None,
        recipe=Recipe(name="own", precision="int8", compute_capability="7.5"),
        source="onnx-int8-trt.onnx",
        source_sha256="ab",
        seconds=1.0,
        timing_cache=False,
    )

    def write(path: Path) -> dict[str, object]:
        path.write_bytes(b"engine")
        return {"build": build}

    path = folder / "trt-int8.engine"
    artifacts.make(path, "engine", "int8", {}, {}, write)
    return path


def test_nor_of_an_engine_of_its_own(tmp_path):
    path = built(tmp_path)
    edit(tmp_path / "trt-int8.json", size_bytes=1)
    assert adopt_engine(path)[1].size_bytes == len(b"engine")
    edit(tmp_path / "trt-int8.json", precision="fp16")
    with pytest.raises(UsageError, match="not the file that its manifest describes"):
        adopt_engine(path)


def test_a_file_that_has_changed_is_told(tmp_path):
    made = make(tmp_path, NEW)
    artifacts.require_unchanged(made)
    Path(made.path).write_bytes(b"another")
    with pytest.raises(WorkerFailed, match="has changed since it was hashed"):
        artifacts.require_unchanged(made)
    Path(made.path).unlink()
    with pytest.raises(WorkerFailed, match="has changed since it was hashed"):
        artifacts.require_unchanged(made)
