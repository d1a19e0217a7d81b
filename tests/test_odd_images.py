"""Images, archives and lists that are odd or damaged: each is named or refused in a sentence, and ends nothing else."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_images
from PIL import Image
from test_sources import (
    WNIDS,
    add,
    devkit,
    flat_folder_below_the_unpacked_devkit,
    kaggles_layout,
    picture,
    write_flat,
)

from rtbench.errors import UsageError
from rtbench.images import apart
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.datasets import read_images, read_labelled, require_source
from rtbench.images.image_set import MOST_PIXELS
from rtbench.images.preprocessing import RESNET
from rtbench.runs.result import read_run

RECIPE = RESNET.model_copy(update={"input_size": 16, "resize": 18})


def cached(source: Path, classes: int = 10) -> CachedImages:
    return cache_images(read_labelled(source, classes), RECIPE, source.parent / "cache", 1, lambda *_: None)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A small file whose header promises so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def narrow(path: Path) -> None:
    Image.new("L", (1, 65_000)).save(path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "dds": (lambda path: path.write_bytes(b"DDS " + struct.pack("<I", 124) + bytes(200)), "it is not JPEG, PNG"),
    "eps": (lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "it is not JPEG, PNG"),
    "vast": (lambda path: path.write_bytes(png_that_says(9_500, 9_500)), "pixels"),
    "vaster": (lambda path: path.write_bytes(png_that_says(30_000, 30_000)), "178956970 pixels"),
    "pipe": (pipe, "it is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
    "link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "sparse": (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "bytes, and 536,870,912 are the most"),
    "short": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ""),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_image_is_named_and_the_others_are_read(tmp_path: Path, odd: str) -> None:
    write_images(tmp_path / "data" / "3", 3)
    write, words = ODD[odd]
    write(tmp_path / "data" / "3" / "1b.png")
    result = cached(tmp_path / "data")
    assert list(result.unreadable) == [2]
    assert f"{tmp_path}/data/3/1b.png cannot be read: " in result.unreadable[2]
    assert words in result.unreadable[2]
    assert len(result.unreadable[2].splitlines()) == 1
    assert [bool(pixels.any()) for pixels in result.open()] == [True, True, False, True]


def test_a_line_of_pixels_is_not_resized_to_all_memory(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "3", 1)
    narrow(tmp_path / "data" / "3" / "tall.png")
    Image.new("L", (65_000, 1)).save(tmp_path / "data" / "3" / "wide.png")
    images = read_labelled(tmp_path / "data", 10)
    result = cache_images(images, RESNET, tmp_path / "cache", 1, lambda *_: None)
    assert [why.partition(" read: ")[2] for why in result.unreadable.values()] == [
        f"256 by 16,640,000 pixels, and {MOST_PIXELS:,} are the most",
        f"16,640,000 by 256 pixels, and {MOST_PIXELS:,} are the most",
    ]


def test_other_formats_than_those_of_their_names_are_read(tmp_path: Path) -> None:
    """ImageNet has a PNG named .JPEG."""
    (tmp_path / "data").mkdir()
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF"):
        (tmp_path / "data" / f"{kind}.jpg").write_bytes(encoded(pixels, kind))
    assert cached(tmp_path / "data").unreadable == {}


def test_names_that_are_not_utf8_are_shown_with_escapes_everywhere(comparing_on, tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "3", 2)
    for name, content in ((b"\xff\xfe.png", picture(0)), (b"new\nline.png", picture(1)), (b"bad\xe9.png", b"no image")):
        Path(os.fsdecode(os.fsencode(tmp_path / "data" / "3") + b"/" + name)).write_bytes(content)
    done = comparing_on(tmp_path / "data")
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert run.dataset is not None
    assert run.dataset.unreadable == [rf"{tmp_path}/data/3/bad\udce9.png cannot be read: it is not" + FORMATS_SAID]
    with (tmp_path / "run" / "predictions" / "fake-fp32.csv").open(newline="", encoding="utf-8") as file:
        names = [line["file"] for line in csv.DictReader(file)]
    assert names == ["3/0.png", "3/1.png", r"3/bad\udce9.png", r"3/new\nline.png", r"3/\udcff\udcfe.png"]


FORMATS_SAID = " JPEG, PNG, WEBP, BMP, GIF, PPM or TIFF"


def test_class_folders_keep_the_order_of_their_bytes(tmp_path: Path) -> None:
    """A byte that is not UTF-8 comes last, as torchvision has it; its escape would not."""
    for name in (b"\xff", b"a", b"b"):
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        write_images(folder, 1)
    assert [(file.name, file.label) for file in read_labelled(tmp_path, 3).files] == [
        ("a/0.png", 0),
        ("b/0.png", 1),
        (r"\udcff/0.png", 2),
    ]


@pytest.fixture
def comparing_on(rtbench, tmp_path: Path):
    (tmp_path / "one.fake").write_text(json.dumps({"latency_ms": [1.0]}))

    def run(data: Path, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return rtbench("compare", "one.fake", "--data", data, "--out", tmp_path / "run", "--runs", "5", *more)

    return run


def test_links_to_folders_above_are_not_followed(tmp_path: Path) -> None:
    for index in range(10):
        write_images(tmp_path / "data" / str(index), 3)
    (tmp_path / "data" / "0" / "up").symlink_to("..")
    (tmp_path / "data" / "1" / "up").symlink_to("../..")
    (tmp_path / "data" / "2" / "self").symlink_to(".")
    images = read_labelled(tmp_path / "data", 10)
    assert [(file.name, file.label) for file in images.files] == [
        (f"{label}/{index}.png", label) for label in range(10) for index in range(3)
    ]


def test_folders_that_link_to_each_other_are_read_once_a_class(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in "abcdefgh":
        write_images(store / name, 1)
        for other in "abcdefgh":
            if other != name:
                (store / name / f"to {other}").symlink_to(store / other)
    (tmp_path / "data").mkdir()
    for label in ("0", "1"):
        (tmp_path / "data" / label).symlink_to(store)
    assert [file.label for file in read_labelled(tmp_path / "data", 2).files] == [0] * 8 + [1] * 8


def webdataset_of(path: Path, labels: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for index, (part, label) in enumerate(labels):
            add(tar, f"{index}.jpg", picture(index))
            add(tar, f"{index}.{part}", label)
    return path


LABELS = {
    b"3": 3,
    b'"%s"' % WNIDS[5].encode(): 5,
    b"-1": None,
    b"null": None,
    b"true": "has the label True, not a class index",
    b"false": "has the label False",
    b"-2": "has the label -2",
    b"2.0": "has the label 2.0",
    b"[1]": "has the label [1]",
    b'"cat"': "has the label 'cat', expected a class index or a wnid",
    b"1000": "has the label 1000, which is not a class of a model with 1000 outputs",
    b"9" * 5000: "is not JSON",
    b"9" * 500: "which is not a class of a model with 1000 outputs",
    b"[" * 100_000: "is not JSON",
    b"NaN": "has the label nan",
}


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label[:12].decode())
def test_a_label_is_a_class_index_or_the_data_is_refused(tmp_path: Path, label: bytes) -> None:
    shard = webdataset_of(tmp_path / "shard.tar", [("json", b'{"label": %s}' % label)])
    expected = LABELS[label]
    if isinstance(expected, str):
        with pytest.raises(UsageError) as caught:
            read_labelled(shard, 1000)
        assert expected in caught.value.message
        assert len(caught.value.message) < 1000
    else:
        assert [file.label for file in read_labelled(shard, 1000).files] == [expected]


@pytest.mark.parametrize(
    ("text", "label"),
    [(b"-1", None), (b"7\n", 7), (b"9" * 6000, "expected a class index"), (b"", "expected a class index")],
)
def test_a_label_in_a_text_is_read_the_same(tmp_path: Path, text: bytes, label: int | str | None) -> None:
    shard = webdataset_of(tmp_path / "shard.tar", [("cls", text)])
    if isinstance(label, str):
        with pytest.raises(UsageError, match=label):
            read_labelled(shard, 10)
    else:
        assert [file.label for file in read_labelled(shard, 10).files] == [label]


def test_some_images_without_a_class_are_refused_and_none_with_one_is_no_accuracy(comparing_on, tmp_path: Path) -> None:
    bare = [("json", b'{"label": -1}')] * 3
    done = comparing_on(webdataset_of(tmp_path / "bare.tar", bare))
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "run").rows[0].accuracy is None
    with pytest.raises(UsageError, match=r"3 of 4 images in .* have no label by webdataset"):
        read_labelled(webdataset_of(tmp_path / "mixed.tar", [*bare, ("json", b'{"label": 1}')]), 10)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([1.0, 2.0]), "has the label 1.0, not a class index"),
        (pa.array([True, False]), "has the label True"),
        (pa.array([[1], [2]]), "has the label [1]"),
        (pa.array(["cat", "dog"]), "has the label 'cat', expected a class index or a wnid"),
        (pa.array([-2, 1]), "has the label -2"),
        (pa.array([-1, 1]), "1 of 2 images in"),
        (pa.array([None, 1]), "1 of 2 images in"),
    ],
    ids=["float", "bool", "list", "words", "-2", "-1", "null"],
)
def test_parquet_labels_follow_the_same_rule(tmp_path: Path, column: pa.Array, words: str) -> None:
    pq.write_table(pa.table({"image": [picture(0), picture(1)], "label": column}), tmp_path / "a.parquet")
    with pytest.raises(UsageError) as caught:
        read_labelled(tmp_path, 10)
    assert words in caught.value.message


def test_a_parquet_cell_that_holds_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    cells = pa.array([{"bytes": picture(0), "path": "a"}, {"bytes": None, "path": "b"}, None])
    pq.write_table(pa.table({"image": cells, "label": [1, 2, 3]}), tmp_path / "data" / "a.parquet")
    result = cached(tmp_path / "data")
    assert list(result.unreadable) == [1, 2]
    assert f"a.parquet/b in {tmp_path}/data/a.parquet cannot be read: its cell holds no bytes" in result.unreadable[1]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (pa.array(["text", "more"]), "no image can be read: .*its cell holds 'text'"),
        (pa.array([[b"a"], [b"b"]]), r"no image can be read: .*its cell holds \[b'a'\]"),
        (pa.array([1, 2]), "no image can be read: .*its cell holds 1"),
        (pa.array([{"url": "a"}, {"url": "b"}]), "has url in its column image and no bytes"),
    ],
    ids=["strings", "lists", "numbers", "urls"],
)
def test_a_parquet_column_of_something_else_is_refused(tmp_path: Path, images: pa.Array, words: str) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": images, "label": [1, 2]}), tmp_path / "data" / "a.parquet")
    with pytest.raises(UsageError, match=words):
        cached(tmp_path / "data")


def test_rows_behind_damaged_pages_are_named_and_those_before_them_are_right(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.parquet"
    cells = [np.random.default_rng(index).bytes(4000) for index in range(200)]
    pq.write_table(
        pa.table({"image": cells, "label": [0] * 200}),
        path,
        compression="zstd",
        data_page_size=10_000,
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40_000] = b"\xff" * 40_000
    path.write_bytes(content)
    files = read_labelled(tmp_path / "data", 1).files
    right, wrong = [], []
    for index in [0, 150, 1, 199, 63, 64, 2]:
        try:
            assert files[index].read() == cells[index]
            right.append(index)
        except (OSError, pa.ArrowInvalid):
            wrong.append(index)
    assert right[:2] == [0, 1]
    assert {150, 199} <= set(wrong)


def devkit_with(folder: Path, truth: bytes | None = None, synsets: bytes | None = None) -> Path:
    source = flat_folder_below_the_unpacked_devkit(folder)
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    for name, content in (("ILSVRC2012_validation_ground_truth.txt", truth), ("meta.mat", synsets)):
        if content is not None:
            (data / name).write_bytes(content)
    return source


def archive_of(folder: Path, content: bytes) -> Path:
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(content)
    return write_flat(folder / "val")


def whole_archive() -> bytes:
    file = io.BytesIO()
    truth, synsets = devkit()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        add(tar, "data/ILSVRC2012_validation_ground_truth.txt", truth)
        add(tar, "data/meta.mat", synsets)
    return file.getvalue()


def listed(folder: Path, content: bytes) -> Path:
    write_flat(folder / "val")
    (folder / "val" / "val.txt").write_bytes(content)
    return folder / "val"


def kaggle_with(folder: Path, change: Callable[[bytes], bytes]) -> Path:
    path = kaggles_layout(folder) / "LOC_val_solution.csv"
    path.write_bytes(change(path.read_bytes()))
    return folder


def shard_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def endless_tar() -> bytes:
    """A tar whose first member's size leads back to itself."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header[:512]) + bytes(2048)


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "meta.mat of junk": (lambda folder: devkit_with(folder, synsets=b"junk" * 99), "meta.mat cannot be read: "),
    "meta.mat cut": (lambda folder: devkit_with(folder, synsets=devkit()[1][:5000]), "meta.mat cannot be read: "),
    "meta.mat empty": (lambda folder: devkit_with(folder, synsets=b""), "meta.mat cannot be read: "),
    "truth of words": (
        lambda folder: devkit_with(folder, truth=b"1\ncat\n3"),
        "has cat, which is not a class",
    ),
    "truth not UTF-8": (lambda folder: devkit_with(folder, truth=b"1\n\xff\n3"), r"has \udcff, which is not a class's"),
    "truth of digits": (lambda folder: devkit_with(folder, truth=b"9" * 9999), "which is not a class's number"),
    "gzip cut": (lambda folder: archive_of(folder, whole_archive()[:-2000]), "t12.tar.gz cannot be read: "),
    "gzip damaged": (
        lambda folder: archive_of(folder, whole_archive()[:3000] + bytes(500) + whole_archive()[3500:]),
        "t12.tar.gz cannot be read: ",
    ),
    "gzip of junk": (lambda folder: archive_of(folder, b"\x1f\x8b" + bytes(99)), "t12.tar.gz cannot be read: "),
    "list not UTF-8": (
        lambda folder: listed(folder, b"\xff\xfe1\n\xff"),
        r"has \udcff\udcfe1, which is not a class",
    ),
    "list of digits": (lambda folder: listed(folder, b"9" * 9999), "which is not a class of a model"),
    "list of UTF-16": (lambda folder: listed(folder, "1\n2\n".encode("utf-16")), "which is not a class of a model"),
    "kaggle short": (lambda folder: kaggle_with(folder, lambda text: re.sub(b"03,.*", b"03", text)), "1 of 6 images"),
    "kaggle not UTF-8": (
        lambda folder: kaggle_with(folder, lambda text: text.replace(b"03,n", b"03,\xff")),
        "1 of 6 images",
    ),
    "kaggle long": (lambda folder: kaggle_with(folder, lambda text: text + b"a," + b"x" * 200_000), "is not a table"),
    "kaggle without columns": (
        lambda folder: kaggle_with(folder, lambda text: b"\xff\0" + text),
        "has no columns Image",
    ),
    "tar that leads back": (lambda folder: shard_of(folder / "a.tar", endless_tar()), "is damaged or not an"),
    "parquet of junk": (
        lambda folder: shard_of(folder / "a.parquet", b"PAR1" + b"\xff" * 99 + b"PAR1"),
        "cannot be read",
    ),
    "parquet empty": (lambda folder: shard_of(folder / "a.parquet", b""), "a.parquet cannot be read: "),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_list_or_archive_is_refused_in_a_sentence(tmp_path: Path, bad: str) -> None:
    write, words = BAD[bad]
    with pytest.raises(UsageError) as caught:
        read_labelled(write(tmp_path), 1000)
    assert words in caught.value.message
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_ends_its_reader_is_refused_and_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "deadly_readers.py").write_text(
        "import os, signal, time\n"
        "def crash(path): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "def hang(path): time.sleep(1000)\n"
        "def eat(path): return [bytearray(8 << 30)]\n"
        "def odd(path): raise KeyError('a\\nb')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(apart, "SILENT_S", 2.0)
    import deadly_readers as deadly

    for read, words in (
        (deadly.crash, "the process that read it was killed by SIGSEGV"),
        (deadly.hang, "the process that read it gave no answer for 2 s"),
        (deadly.eat, "MemoryError"),
        (deadly.odd, r"KeyError: 'a\nb'"),
    ):
        with pytest.raises(UsageError) as caught:
            list(apart.read_apart(read, [Path("meta.mat")]))
        assert f"meta.mat cannot be read: {words}" in caught.value.message


def test_a_crash_in_a_reader_ends_the_command_with_2_and_one_line(comparing_on, tmp_path: Path) -> None:
    done = comparing_on(devkit_with(tmp_path, synsets=b"junk" * 99))
    assert done.returncode == 2
    assert "meta.mat cannot be read: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_pipes_in_place_of_lists_and_archives_are_not_waited_for(tmp_path: Path) -> None:
    folder = write_flat(tmp_path / "val")
    for name in ("val.txt", "LOC_val_solution.csv", "ILSVRC2012_devkit_t12.tar.gz", "meta.mat", "a.tar", "a.parquet"):
        os.mkfifo(folder / name)
    os.mkfifo(folder / "ILSVRC2012_validation_ground_truth.txt")
    assert read_labelled(folder, 1000).labelled == []
    with pytest.raises(UsageError, match=r"a\.tar is not a folder"):
        require_source(folder / "a.tar")


@pytest.mark.parametrize("read", [require_source, read_images, lambda path: read_labelled(path, 10)])
@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 30)], ids=["name", "path"])
def test_a_path_that_is_too_long_is_told(tmp_path: Path, read, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read: File name too long") as caught:
        read(tmp_path / name)
    assert len(str(caught.value)) < 400


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from rtbench.errors import UsageError
from rtbench.images.datasets import read_labelled
if os.getuid() == 0:
    os.setuid(65534)
try:
    print(len(read_labelled(Path(sys.argv[1]), 10).files))
except UsageError as error:
    print(error.message)
"""


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        ("data", "data cannot be read: Permission denied"),
        ("data/3", "data/3 cannot be read: Permission denied"),
        ("ILSVRC2012_devkit_t12", "3"),
    ],
    ids=["all", "a class", "another's"],
)
def test_a_folder_that_may_not_be_read_is_told_and_not_left_out(tmp_path: Path, closed: str, words: str) -> None:
    for folder in [tmp_path, *tmp_path.parents[:-2]]:
        folder.chmod(0o755)
    data = tmp_path / "data"
    write_images(data / "3" if closed.startswith("data") else data, 3)
    (tmp_path / closed).mkdir(exist_ok=True)
    (tmp_path / closed).chmod(0)
    try:
        done = subprocess.run([sys.executable, "-c", READ_AS_NOBODY, data], capture_output=True, text=True, check=True)
    finally:
        (tmp_path / closed).chmod(0o755)
    assert done.stdout.strip().endswith(words)


def test_a_reader_that_does_not_end_is_ended_by_its_time_of_the_cpu() -> None:
    code = (
        "from rtbench.images.apart import bounded_time\n"
        "with bounded_time(60): pass\n"
        "with bounded_time(1):\n    while True: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGXCPU
