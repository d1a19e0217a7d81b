"""What was measured is kept, whatever comes after: more Ctrl-C, a full disk, a kill before the reports."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rtbench
from rtbench.measure.accuracy import Predictions
from rtbench.records.run import Run
from rtbench.runs.directory import REPORTS, RunDirectory
from rtbench.runs.predictions import read_predictions
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples

Compare = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def compare(tmp_path: Path, image_cache: Path) -> Iterator[Compare]:
    """Start a comparison in the folder of the test; `most_bytes` that it may write into one file."""
    started = []

    def start(*arguments: str | Path, most_bytes: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rtbench", "compare", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"XDG_CACHE_HOME": str(image_cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], code: int) -> str:
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    return stderr


def models(folder: Path, **scripts: dict[str, object]) -> list[Path]:
    for name, script in scripts.items():
        (folder / f"{name}.fake").write_text(json.dumps(script))
    return [folder / f"{name}.fake" for name in scripts]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_rows_of_like_names_have_each_their_own_answers(
    tmp_path: Path, ten_classes: Path, image_cache: Path
) -> None:
    scripts: dict[str, dict[str, object]] = {"m b": {}, "m-b": {"noise": 0.3, "precision": "int8"}}
    paths = models(tmp_path, **scripts)
    asked = {"data": ten_classes, "runs": 5, "cache_dir": image_cache}
    alone = [rtbench.compare(path, out=tmp_path / f"alone-{path.stem}", **asked).rows[0] for path in paths]
    together = rtbench.compare(*paths, out=tmp_path / "run", **asked)
    assert len({row.id for row in together.rows}) == 2
    assert [row.accuracy for row in together.rows] == [row.accuracy for row in alone]
    assert alone[0].accuracy != alone[1].accuracy
    for folder in ("predictions", "logs"):
        assert len([path for path in (tmp_path / "run" / folder).iterdir() if "fake" in path.name]) == 2


@pytest.mark.parametrize("repeated", ["a model", "a name", "a runtime"])
def test_what_is_given_twice_is_told_apart_or_measured_once(
    repeated: str, tmp_path: Path, ten_classes: Path, image_cache: Path
) -> None:
    (one,) = models(tmp_path, one={})
    (tmp_path / "other").mkdir()
    (other,) = models(tmp_path / "other", one={"noise": 100.0})
    given = {"a model": [one, one], "a name": [one, other], "a runtime": [one]}[repeated]
    run = rtbench.compare(
        *given, out=tmp_path / "run", data=ten_classes, runs=5, cache_dir=image_cache, runtimes=["fake", "fake"]
    )
    ids = [row.id for row in run.rows]
    assert ids == (["fake/fp32"] if repeated == "a runtime" else ["one/fake/fp32", "one-2/fake/fp32"])
    answers = read_predictions(tmp_path / "run", ids)
    assert (answers[ids[0]] == answers[ids[-1]]) == (repeated != "a name")


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05, 0.2, 0.5])
def test_more_ctrl_c_lose_nothing(compare: Compare, tmp_path: Path, ten_classes: Path, after_s: float) -> None:
    run = tmp_path / "run"
    scripts = {"one": {"classes": 10_000, "latency_ms": []}, "two": {"classes": 10_000, "latency_ms": []}}
    process = compare(
        *models(tmp_path, **scripts), "--data", ten_classes, "--out", run, "--runs", "2000", "--patience", "0"
    )
    while not (run / "samples.csv").exists() or (run / "samples.csv").stat().st_size < 5000:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(after_s)
    while process.poll() is None:  # one of these comes while Python shuts down
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    ended(process, 130)
    record, samples = read_run(run), read_samples(run)
    assert not record.complete
    assert [row.latency.runs if row.latency else 0 for row in record.rows] == [
        sum(map(len, samples.get(row.id, []))) for row in record.rows
    ]
    assert {"command.json", "report.html", "logs"} <= {path.name for path in run.iterdir()}
    shutil.rmtree(run / "logs")  # what is gone on with does not need them
    before = samples["one/fake/fp32"][0].tolist()
    resumed = compare("--resume", run)
    while read_samples(run)["one/fake/fp32"][0].tolist() == before and resumed.poll() is None:
        if sum(map(len, read_samples(run)["one/fake/fp32"])) > sum(map(len, samples["one/fake/fp32"])):
            break
        time.sleep(0.02)
    resumed.send_signal(signal.SIGINT)
    ended(resumed, 130)
    assert read_samples(run)["one/fake/fp32"][0].tolist() == before


AT_THE_END = """
import os, signal, sys
import rtbench.cli.app
from rtbench.__main__ import main

def interrupted() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        sys.exit(130)

def change(number, handler, real=signal.signal) -> None:
    at_the_end = handler in (signal.SIG_IGN, signal.default_int_handler)
    if at_the_end:
        os.kill(os.getpid(), signal.SIGINT)
    real(number, handler)

rtbench.cli.app.main = interrupted
signal.signal = change
main()
"""


def test_ctrl_c_at_the_very_end_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_before_measuring_leaves_nothing(compare: Compare, tmp_path: Path, ten_classes: Path) -> None:
    run = tmp_path / "run"
    process = compare(*models(tmp_path, one={}), "--data", ten_classes, "--out", run)
    while not (run / "command.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode not in (0, 1, 2)
    assert not run.exists() or (run / "result.json").exists()


@pytest.fixture
def complete(compare: Compare, tmp_path: Path, ten_classes: Path) -> Path:
    run = tmp_path / "run"
    scripts = {"one": {}, "two": {"latency_ms": [2.0]}}
    ended(compare(*models(tmp_path, **scripts), "--data", ten_classes, "--out", run, "--runs", "40"), 0)
    return run


@pytest.mark.parametrize("missing", [("report.html",), REPORTS])
def test_resuming_makes_the_reports_that_are_missing(
    compare: Compare, complete: Path, missing: tuple[str, ...]
) -> None:
    before = content(complete)
    for name in missing:
        (complete / name).unlink()
    (complete / ".report.html.12345.partial").write_text("half of it")
    ended(compare("--resume", complete), 0)
    assert content(complete) == before
    assert "is complete, there is nothing to resume" in ended(compare("--resume", complete), 2)


def test_reports_that_do_not_fit_on_the_disk_are_named_and_made_later(
    compare: Compare, tmp_path: Path, ten_classes: Path
) -> None:
    run = tmp_path / "run"
    asked = [*models(tmp_path, one={}), "--data", ten_classes, "--out", run, "--runs", "40"]
    stderr = ended(compare(*asked, most_bytes=300_000), 2)
    assert "cannot write report.html: File too large; what was measured is kept" in stderr
    assert stderr.count("\n") == 1
    assert read_run(run).complete
    assert not list(run.rglob(".*"))
    ended(compare("--resume", run), 0)
    assert (run / "report.html").stat().st_size > 300_000


@pytest.mark.parametrize(
    ("file", "most_bytes", "options"),
    [("samples.csv", 25_000, {"runs": 1000}), ("predictions", 16_500, {"runs": 20, "batch_size": 1})],
)
def test_a_disk_that_is_full_ends_the_measuring_and_not_a_row(
    compare: Compare, tmp_path: Path, file: str, most_bytes: int, options: dict[str, int]
) -> None:
    from conftest import write_images

    for index in range(10):  # with names so long that predictions are a larger file than the record
        write_images(tmp_path / "data" / f"{index}-{'x' * 240}", 8, side=8)
    run = tmp_path / "run"
    asked = [*models(tmp_path, one={}), "--data", tmp_path / "data", "--out", run]
    asked += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    stderr = ended(compare(*asked, most_bytes=most_bytes), 2)
    assert stderr.count("\n") == 1, stderr
    assert f"{file}" in stderr
    assert "File too large; what was measured is kept: free some space, then rtbench compare --resume" in stderr
    (row,) = read_run(run).rows
    assert row.status == "ok"
    kept = {row: [each.tolist() for each in rounds] for row, rounds in read_samples(run).items()}
    ended(compare("--resume", run), 0)
    done = read_run(run)
    assert done.complete
    assert done.rows[0].accuracy
    assert done.rows[0].accuracy.images == 80
    rounds = [each.tolist() for each in read_samples(run)["fake/fp32"]]
    assert rounds[: len(kept["fake/fp32"]) - 1] == kept["fake/fp32"][:-1]  # the last may have been cut
    assert sum(map(len, rounds)) == options["runs"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("filled", [False, True])
def test_a_small_disk(compare: Compare, small_disk: Path, tmp_path: Path, ten_classes: Path, filled: bool) -> None:
    run = small_disk / "run"
    if filled:
        (small_disk / "others").write_bytes(b"x" * 65536)
    asked = [*models(tmp_path, one={}), "--data", ten_classes, "--out", run, "--runs", "1000"]
    stderr = ended(compare(*asked), 2)
    assert stderr.count("\n") == 1, stderr
    assert "No space left on device" in stderr
    if filled:
        assert "what was measured" not in stderr
        assert not run.exists()
        return
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    kept = [each.tolist() for each in read_samples(moved)["fake/fp32"]]
    assert kept
    ended(compare("--resume", moved), 0)
    rounds = [each.tolist() for each in read_samples(moved)["fake/fp32"]]
    assert rounds[: len(kept) - 1] == kept[:-1]
    assert read_run(moved).complete


def test_answers_in_a_file_of_an_earlier_version_are_gone_on_with(tmp_path: Path) -> None:
    from full_run import a_run

    run: Run = a_run().model_copy(update={"complete": False})
    row = run.rows[0].id
    first = RunDirectory(tmp_path / "run")
    first.save_command(["compare"])
    first.save(run)
    names, labels = ["a.png", "b.png"], [(1,), (2,)]
    first.append_predictions(row, names[:1], labels[:1], Predictions.unanswered(1, 5), {})
    (written,) = (first.path / "predictions").iterdir()
    earlier = written.rename(written.with_name("ort-cpu-int8.csv"))
    earlier.write_text("file,label,top1,top2,top3,top4,top5,confidence\na.png,1,-1,-1,-1,-1,-1,0\n")
    del first
    second = RunDirectory(tmp_path / "run", resume=True)
    assert len(second.read_predictions(row, names, 1000)) == 1
    second.append_predictions(row, names[1:], labels[1:], Predictions.unanswered(1, 5), {})
    assert list(earlier.parent.iterdir()) == [earlier]
    assert earlier.read_text().splitlines()[1:] == ["a.png,1,-1,-1,-1,-1,-1,0,,", "b.png,2,-1,-1,-1,-1,-1,0,,"]
    assert len(second.read_predictions(row, names, 1000)) == 2
