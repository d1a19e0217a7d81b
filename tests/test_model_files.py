"""Model files that are broken, made up or no files at all: each ends in one sentence, and none fills the memory."""

from __future__ import annotations

import os
import signal
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision

from rtbench.errors import UsageError
from rtbench.export.exporter import Exporter
from rtbench.models.checkpoints import read_checkpoint
from rtbench.models.load import load_model
from rtbench.options import ModelOptions, PrepareOptions


def rezipped(path: Path, compression: int, **changes: bytes) -> None:
    """The archive written anew, with members that end as named changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, changes.get(Path(name).name.replace(".", "_"), content))


def bomb(path: Path) -> None:
    torch.save({"weight": torch.zeros(1 << 22)}, path)
    rezipped(path, zipfile.ZIP_DEFLATED)


def repeated(path: Path) -> None:
    """One number that says it is 4 TB of them."""
    torch.save({"weight": torch.zeros(1).expand(1 << 40)}, path)


def many_classes(path: Path) -> None:
    """A network's keys with a last layer of a million times as many rows as are in the file."""
    state = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    state["classifier.1.weight"] = torch.zeros(1, 1, 1, 1).expand(1 << 40, 512, 1, 1)
    torch.save(state, path)


def flipped(path: Path) -> None:
    """One bit of a weight is another one, which torch's own reader does not notice."""
    torch.save({"weight": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(4000)) + 1000] ^= 64
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["weight"].any()


def holding_itself(path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, path)


def deep(path: Path) -> None:
    content: dict[str, object] = {}
    for _ in range(200):
        content = {"model": content}
    torch.save(content, path)


def protocol_4(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path, pickle_protocol=4)


def meta(path: Path) -> None:
    torch.save({"weight": torch.zeros(3, device="meta")}, path)


def sparse(path: Path) -> None:
    torch.save({"weight": torch.eye(3).to_sparse()}, path)


def long_name(path: Path) -> None:
    """A class of which the name is a text of 100,000 characters, in the format of before PyTorch 1.6."""
    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert b"ctorch\nFloatStorage\n" in content
    path.write_bytes(content.replace(b"FloatStorage", b"Float" * 20_000, 1))


def claims_gigabytes(path: Path) -> None:
    """A pickle whose first text says that it is 1.5 GB long."""
    torch.save({"weight": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        name = next(each for each in archive.namelist() if each.endswith("data.pkl"))
        pickled = archive.read(name)
    assert b"X\x06\x00\x00\x00weight" in pickled
    changed = pickled.replace(b"X\x06\x00\x00\x00weight", b"X\x00\x00\x00\x60weight")
    rezipped(path, zipfile.ZIP_STORED, data_pkl=changed)


def without_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/version", "3")


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "hello")


def tar_of_old(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (bomb, "unpacks to more than its own size"),
        (repeated, "does not hold the values of 'weight'"),
        (many_classes, "does not hold the values of 'classifier.1.weight'"),
        (flipped, "is damaged or cut off"),
        (holding_itself, "holds no state dict and no module"),
        (deep, "holds no state dict and no module"),
        (long_name, "is damaged or cut off"),
        (claims_gigabytes, "is damaged or cut off"),
        (protocol_4, "is damaged or cut off"),
        (meta, "does not hold the values of 'weight'"),
        (sparse, "does not hold the values of 'weight'"),
        (without_pickle, "is damaged or cut off"),
        (other_zip, "is damaged or cut off"),
        (tar_of_old, "is damaged or cut off"),
    ],
)
def test_odd_files_are_told_in_a_sentence(write, words: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what is written here
        write(path)
    with pytest.raises(UsageError, match=words) as caught:
        load_model(str(path), ModelOptions())
    assert "\n" not in str(caught.value)


def test_a_storage_that_says_it_is_larger_than_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    torch.save({"weight": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("large/data.pkl")
    declared = b"M" + struct.pack("<H", 1000)
    assert pickled.count(declared) == 2
    for number in (60_000, 2**31 - 1):
        rezipped(path, zipfile.ZIP_STORED, data_pkl=pickled.replace(declared, b"J" + struct.pack("<i", number)))
        with pytest.raises(UsageError, match="is damaged or cut off"):
            read_checkpoint(path)


def test_whole_numbers_are_not_taken_for_weights(tmp_path: Path) -> None:
    state = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    state["features.0.weight"] = state["features.0.weight"].to(torch.int8)
    torch.save(state, tmp_path / "int8.pt")
    with pytest.raises(UsageError, match=r"nearest is squeezenet1_1: features\.0\.weight has int8 values"):
        load_model(str(tmp_path / "int8.pt"), ModelOptions())


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fast.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(1000)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    state = read_checkpoint(path).state
    assert state is not None
    assert state["weight"].equal(torch.ones(1000))


def test_code_of_the_users_that_raises_is_told_in_a_sentence(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(type("Scripted", (torch.nn.Module,), {})())
        module.define("def forward(self, batch):\n  raise ValueError('not today')\n  return batch\n")
        module.save(str(tmp_path / "raises.pt"))
        module = torch.jit.script(type("Scripted", (torch.nn.Module,), {})())
        module.define("def forward(self, batch, other):\n  return batch\n")
        module.save(str(tmp_path / "two.pt"))
    for name in ("raises.pt", "two.pt"):
        with pytest.raises(UsageError, match="does not run on a 224x224 input: ") as caught:
            load_model(str(tmp_path / name), ModelOptions(trust_code=True))
        assert "\n" not in str(caught.value)


def test_what_is_no_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for suffix in ("fake", "onnx", "engine"):
        (tmp_path / f"folder.{suffix}").mkdir()
        os.mkfifo(tmp_path / f"pipe.{suffix}")
        (tmp_path / f"dangling.{suffix}").symlink_to("nowhere")
    (tmp_path / "dangling.pt").symlink_to("nowhere")
    (tmp_path / "looped.pt").symlink_to("looped.pt")
    (tmp_path / "no-text.fake").write_bytes(b"\xff\xfe")
    (tmp_path / os.fsdecode(b"\xff.fake")).write_text("{}")
    (tmp_path / ("long" * 60 + ".fake")).write_text("{}")  # of which no record is a problem
    sources = [*map(str, tmp_path.iterdir()), "a" * 5000, "/dev/null", "\0", ""]
    for source in sources:
        for weights, reference in ((None, None), (Path(source), source)):
            exporter = Exporter(lambda *_: None)
            if "long" in source:
                exporter.load(source, PrepareOptions(), None, 1)
                continue
            with pytest.raises(UsageError) as caught:
                exporter.load(source, PrepareOptions(weights=weights), reference, 1)
            assert str(caught.value).isprintable()


def test_a_crash_of_the_process_that_reads_a_file_names_the_file(rtbench, tmp_path: Path) -> None:
    class Crashing:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})",)

    torch.save(Crashing(), tmp_path / "model.pt")
    done = rtbench("export", "model.pt", "--trust-code")
    assert done.returncode == 1
    assert "rtbench: the process that read model.pt was killed by SIGSEGV in load; see" in done.stderr.splitlines()[-1]
