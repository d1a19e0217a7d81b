"""Readers of images, archives, lists of labels and the cache, given damaged files of every kind."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judge import INPUTS, SEED, Tally, judge
from mutate import mutations
from PIL import Image
from scipy.io import savemat

from rtbench.images.apart import Reader
from rtbench.images.archives import parquet_images, tar_images, webdataset_samples
from rtbench.images.cache import cache_images
from rtbench.images.cache_chunks import read_chunks
from rtbench.images.cache_entries import list_entries
from rtbench.images.cropping import Geometry
from rtbench.images.datasets import read_labelled
from rtbench.images.decoding import Decoder
from rtbench.images.ground_truth import (
    DEVKIT_TRUTH,
    KAGGLE,
    archived_labels,
    classes_by_id,
    find_ground_truth,
    imagenet_wnids,
)
from rtbench.images.image_set import FORMATS, ImageFile
from rtbench.images.preprocessing import RESNET

WNIDS = imagenet_wnids()
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 30, 4), dtype=np.uint8)
RECIPES = [RESNET, RESNET.model_copy(update={"preprocess": "tf"})]
NAMES = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 7)]


def quiet(*_: object) -> None:
    pass


def encoded(mode: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


IMAGES = {
    "JPEG": [encoded("RGB", "JPEG"), encoded("L", "JPEG"), encoded("CMYK", "JPEG", progressive=True)],
    "PNG": [encoded(mode, "PNG") for mode in ("RGB", "RGBA", "P", "1", "LA", "I;16")],
    "WEBP": [encoded("RGB", "WEBP"), encoded("RGBA", "WEBP", lossless=True)],
    "BMP": [encoded(mode, "BMP") for mode in ("RGB", "P", "1")],
    "GIF": [encoded("P", "GIF"), encoded("P", "GIF", save_all=True, append_images=[Image.new("P", (9, 9))])],
    "PPM": [encoded("RGB", "PPM"), encoded("L", "PPM"), b"P3 2 2 255 " + b"1 2 3 " * 4, b"Pf 2 2 -1.0\n" + bytes(16)],
    "TIFF": [
        *(encoded("RGB", "TIFF", compression=how) for how in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *(encoded(mode, "TIFF") for mode in ("CMYK", "F", "I;16")),
        encoded("1", "TIFF", compression="group4"),
    ],
}


def decode(files: Sequence[ImageFile], recipe: int = 0) -> None:
    """As a decoding process does it: each image is read, or named with a reason of one line."""
    geometry = Geometry.of(RECIPES[recipe])
    with tempfile.NamedTemporaryFile() as pixels:
        decoder = Decoder(quiet)
        decoder.open(Path(pixels.name), 0, geometry)
        decoded = decoder.decode(0, files, {})
        decoder._file.close()
    assert len(decoded.contents) == len(files)
    for why in decoded.unreadable.values():
        assert why.isprintable(), why
        assert len(why) < 2000, why


def read_image(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        Path(file.name).write_bytes(data)
        decode([ImageFile(file.name, "0/a.jpg")], len(data) % 2)


def read_archive(read: Callable[[Path], Iterable[object]], name: str, data: bytes) -> None:
    """As its own process reads it, and then the decoding process its images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        found = Reader(quiet).read(read, path)
        files = [each[0] if isinstance(each, tuple) else each for each in found]
        decode([file for file in files if isinstance(file, ImageFile)][:20])


def read_list(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        truth = find_ground_truth(Path(folder), 1000)
        for position, image in enumerate(NAMES):
            label = truth.label_of(image, position, len(NAMES)) if truth else None
            assert label is None or 0 <= label < 1000


def read_labels(name: str, data: bytes) -> None:
    """The files of the folder, as `--data` takes them."""
    with tempfile.TemporaryDirectory() as folder:
        for image in NAMES:
            (Path(folder) / image).touch()
        (Path(folder) / name).write_bytes(data)
        images = read_labelled(Path(folder), 1000)
        assert all(file.label is None or 0 <= file.label < 1000 for file in images.files)


def read_entry(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder) / ("0123456789ab" * 2)
        entry.mkdir()
        (entry / name).write_bytes(data)
        read_chunks(entry / "chunks.jsonl")
        assert len(list_entries(Path(folder))) == 1


def tarred(members: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def samples() -> dict[str, bytes]:
    members = {}
    for index, image in enumerate((IMAGES["JPEG"][0], IMAGES["PNG"][0])):
        members |= {f"val/{index}.jpg": image, f"val/{index}.cls": b"7"}
        members |= {f"{index} of {'a long name ' * 9}é.png": image, f"val/{index}.json": b'{"label": 3, "a": [1, {}]}'}
    return members


def tables() -> list[bytes]:
    rows = [{"bytes": image, "path": f"{index}.jpg"} for index, image in enumerate(IMAGES["JPEG"])] * 40
    made = []
    for columns, options in (
        ({"image": rows, "label": list(range(len(rows)))}, {"row_group_size": 50}),
        ({"image": [row["bytes"] for row in rows], "label": ["n01440764"] * len(rows)}, {"compression": "zstd"}),
        ({"img": ["text", "more"], "label": [1.5, None]}, {"compression": "none", "use_dictionary": False}),
    ):
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file, data_page_size=2000, **options)
        made.append(file.getvalue())
    return made


def devkit() -> tuple[bytes, bytes, bytes]:
    """The ground truth, MATLAB files without and with compression in front of each other."""
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    leaves = [(float(number + 1), wnid, "words", 0.0) for number, wnid in enumerate(WNIDS[:20])]
    synsets = {"synsets": np.array([*leaves, (21.0, "n00001740", "entity", 3.0)], dtype=kinds).reshape(-1, 1)}
    plain, packed = io.BytesIO(), io.BytesIO()
    savemat(plain, synsets)
    savemat(packed, synsets, do_compression=True)
    return b"".join(b"%d\n" % number for number in range(1, 7)), plain.getvalue(), packed.getvalue()


def archives() -> list[bytes]:
    truth, plain, packed = devkit()
    return [
        tarred({f"data/{DEVKIT_TRUTH}": truth, "data/meta.mat": mat}, mode)
        for mat, mode in ((plain, "w"), (plain, "w:gz"), (packed, "w:bz2"), (packed, "w:xz"))
    ]


LISTS = [
    "\n".join(WNIDS[:6]).encode(),
    b"1\n2\n3\n4\n5\n6\n",
    "".join(f"{name} {index}\n" for index, name in enumerate(NAMES)).encode(),
]
TABLE = "ImageId,PredictionString\n" + "".join(f"{name[:-5]},{WNIDS[3]} 1 2 3 4 \n" for name in NAMES)
ABOUT = json.dumps(
    {
        "source": "data",
        "images": 6,
        "geometry": Geometry.of(RECIPES[0])._asdict(),
    },
    indent=2,
).encode()


def chunks() -> bytes:
    from rtbench.images.cache_chunks import chunk_line
    from rtbench.images.decoding import Decoded

    return b"".join(chunk_line(start, Decoded([(9, 1)] * 32, 7, {3: "a.png cannot be read"})) for start in (0, 32, 64))


Family = tuple[Callable[[bytes], None], Sequence[bytes]]
TARS = [tarred(samples(), form=form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
FAMILIES: dict[str, Family] = {
    **{f"images {kind}": (read_image, seeds) for kind, seeds in IMAGES.items()},
    "images mixed": (read_image, [each for seeds in IMAGES.values() for each in seeds]),
    "tar": (partial(read_archive, tar_images, "a.tar"), TARS),
    "webdataset": (partial(read_archive, webdataset_samples, "a.tar"), TARS),
    "parquet": (partial(read_archive, parquet_images, "a.parquet"), tables()),
    "list": (partial(read_list, "val.txt"), LISTS),
    "list as data": (partial(read_labels, "val.txt"), LISTS),
    "kaggle": (partial(read_list, KAGGLE), [TABLE.encode()]),
    "devkit archive": (partial(read_archive, archived_labels, "ILSVRC2012_devkit_t12.tar.gz"), archives()),
    "meta.mat": (partial(read_archive, classes_by_id, "meta.mat"), devkit()[1:]),
    "chunks.jsonl": (partial(read_entry, "chunks.jsonl"), [chunks()]),
    "about.json": (partial(read_entry, "about.json"), [ABOUT]),
}
APART = ("images", "tar", "webdataset", "parquet", "devkit", "meta.mat")
"""Read in processes of their own, which a crash ends and nothing else: the file is named."""


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_files_are_read_or_refused(family: str) -> None:
    reader, seeds = FAMILIES[family]
    share = 7 if family.startswith("images ") else 1
    inputs = mutations(seeds, INPUTS // share + 1, SEED)
    tally: Tally = judge(family, reader, inputs, contained=family.startswith(APART))
    assert not tally.faults, str(tally)
    assert tally.ok + tally.refused > 0


def read_seed(data: bytes) -> None:
    family, _, index = data.decode().rpartition(" ")
    reader, seeds = FAMILIES[family]
    reader(seeds[int(index)])


def test_the_seeds_themselves_are_read() -> None:
    assert set(IMAGES) == set(FORMATS)
    whole = {name: seeds for name, (_, seeds) in FAMILIES.items() if name not in ("parquet", "list as data")}
    named = [f"{name} {index}".encode() for name, seeds in whole.items() for index in range(len(seeds))]
    tally = judge("seeds", read_seed, named)  # some of those left out are there to be refused
    assert tally.ok == len(named), tally


def test_a_cache_with_damage_anywhere_is_made_whole(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / "data" / "0").mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS + index).convert("RGB").save(tmp_path / "data" / "0" / f"{index}.png")
    images, recipe = read_labelled(tmp_path / "data", 1), RESNET.model_copy(update={"input_size": 8, "resize": 8})
    first = cache_images(images, recipe, tmp_path / "cache", 1, quiet)
    entry, expected, fingerprint = first.path.parent, np.array(first.open()), first.fingerprint
    del first  # it has the entry in use
    whole = {path: path.read_bytes() for path in entry.iterdir()}
    for path, content in whole.items():
        for damaged in mutations([content], INPUTS // 100 + 3, SEED):
            path.write_bytes(damaged)
            again = cache_images(images, recipe, tmp_path / "cache", 1, quiet)
            np.testing.assert_array_equal(again.open(), expected)
            assert (again.fingerprint, again.unreadable) == (fingerprint, {})
            del again
