"""The data as people have it: a tiny copy of every form, made here, read in place."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat

from rtbench.errors import UsageError
from rtbench.images.cache import cache_images
from rtbench.images.cropping import crop
from rtbench.images.datasets import read_images, read_labelled
from rtbench.images.ground_truth import imagenet_wnids
from rtbench.images.image_set import ImageSet
from rtbench.images.preprocessing import RESNET

WNIDS = imagenet_wnids()
RECIPE = RESNET.model_copy(update={"input_size": 16, "resize": 18})
CLASSES = [281, 5, 999, 0, 5, 700]
"""Of the six images that every source here holds, in the order of their names."""
DEVKIT_ORDER = [*WNIDS[500:], *WNIDS[:500]]
"""What the made devkit numbers from 1: like the real one's, not the order of the classes."""


def picture(index: int) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 30 - index, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def val_name(index: int) -> str:
    return f"ILSVRC2012_val_{index + 1:08}.JPEG"


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_flat(folder: Path, *, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / val_name(index)).write_bytes(picture(index))
    return folder


def write_val_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for index in reversed(range(6)):
            add(tar, val_name(index), picture(index))
    return path


def devkit() -> tuple[bytes, bytes]:
    """ILSVRC2012_validation_ground_truth.txt and meta.mat."""
    truth = "".join(f"{DEVKIT_ORDER.index(WNIDS[label]) + 1}\n" for label in CLASSES).encode()
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    leaves = [(float(number + 1), wnid, "words", 0.0) for number, wnid in enumerate(DEVKIT_ORDER)]
    synsets = np.array([*leaves, (1001.0, "n00001740", "entity", 3.0)], dtype=kinds)
    file = io.BytesIO()
    savemat(file, {"synsets": synsets.reshape(-1, 1)})
    return truth, file.getvalue()


def write_devkit_archive(folder: Path) -> None:
    truth, synsets = devkit()
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth)
        add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", synsets)
        add(tar, "ILSVRC2012_devkit_t12/readme.txt", b"read me")


def unpack_devkit(folder: Path) -> None:
    truth, synsets = devkit()
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_bytes(truth)
    (data / "meta.mat").write_bytes(synsets)


def val_tar_with_devkit_archive(folder: Path) -> Path:
    write_devkit_archive(folder)
    return write_val_tar(folder / "ILSVRC2012_img_val.tar")


def folder_of_both_archives(folder: Path) -> Path:
    val_tar_with_devkit_archive(folder)
    return folder


def flat_folder_below_the_unpacked_devkit(folder: Path) -> Path:
    unpack_devkit(folder)
    return write_flat(folder / "val")


def flat_folder_with_a_list_of_names(folder: Path) -> Path:
    lines = [f"{val_name(index)} {label}" for index, label in enumerate(CLASSES)]
    (folder / "val.txt").write_text("\n".join(reversed(lines)) + "\n")
    return write_flat(folder)


def flat_folder_with_a_list_of_wnids(folder: Path) -> Path:
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(WNIDS[label] for label in CLASSES))
    return write_flat(folder)


def tar_with_a_list_of_indices(folder: Path) -> Path:
    (folder / "ground_truth.txt").write_text("\n".join(map(str, CLASSES)))
    return write_val_tar(folder / "val.tar")


def kaggles_layout(folder: Path) -> Path:
    write_flat(folder / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    lines = ["ImageId,PredictionString"]
    lines += [
        f"{val_name(index)[:-5]},{WNIDS[label]} 10 20 30 40 {WNIDS[label]} 1 2 3 4 "
        for index, label in enumerate(CLASSES)
    ]
    (folder / "LOC_val_solution.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    return folder


def kaggles_images(folder: Path) -> Path:
    return kaggles_layout(folder) / "ILSVRC" / "Data" / "CLS-LOC" / "val"


def parquet_table(first: int, end: int) -> pa.Table:
    images = [{"bytes": picture(index), "path": val_name(index)} for index in range(first, end)]
    return pa.table({"image": images, "label": pa.array(CLASSES[first:end], pa.int64())})


def hugging_face(folder: Path) -> Path:
    (folder / "data").mkdir()
    for shard, (first, end) in enumerate([(0, 4), (4, 6)]):
        path = folder / "data" / f"validation-{shard:05}-of-00002.parquet"
        pq.write_table(parquet_table(first, end), path, row_group_size=3)
    pq.write_table(parquet_table(0, 2), folder / "data" / "train-00000-of-00001.parquet")
    return folder


def one_parquet_file(folder: Path) -> Path:
    columns = {"image": [picture(index) for index in range(6)], "label": CLASSES}
    pq.write_table(pa.table(columns), folder / "all.parquet")
    return folder / "all.parquet"


def webdataset(folder: Path) -> Path:
    for shard, (first, end) in enumerate([(0, 3), (3, 6)]):
        with tarfile.open(folder / f"imagenet-val-{shard:06}.tar", "w") as tar:
            for index in range(first, end):
                label = {"cls": str(CLASSES[index]), "json": json.dumps({"label": CLASSES[index]})}
                part = "cls" if index % 2 else "json"
                add(tar, f"val/{index:06}.jpg", picture(index))
                add(tar, f"val/{index:06}.{part}", label[part].encode())
    return folder


def webdataset_with_wnids_first(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for index in range(6):
            add(tar, f"{index:06}.cls", WNIDS[CLASSES[index]].encode())
            add(tar, f"{index:06}.jpg", picture(index))
    return folder / "shard.tar"


SOURCES = {
    val_tar_with_devkit_archive: "devkit (ILSVRC2012_devkit_t12.tar.gz)",
    folder_of_both_archives: "devkit (ILSVRC2012_devkit_t12.tar.gz)",
    flat_folder_below_the_unpacked_devkit: "devkit (ILSVRC2012_validation_ground_truth.txt)",
    flat_folder_with_a_list_of_names: "list (val.txt)",
    flat_folder_with_a_list_of_wnids: "list (imagenet_2012_validation_synset_labels.txt)",
    tar_with_a_list_of_indices: "list (ground_truth.txt)",
    kaggles_layout: "LOC_val_solution.csv",
    kaggles_images: "LOC_val_solution.csv",
    hugging_face: "parquet",
    one_parquet_file: "parquet",
    webdataset: "webdataset",
    webdataset_with_wnids_first: "webdataset",
}


@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__)
def test_every_form_gives_the_same_images_with_their_labels(tmp_path: Path, write) -> None:
    source = write(tmp_path)
    images = read_labelled(source, 1000)
    assert [file.label for file in images.files] == CLASSES
    assert (images.labels, images.classes) == (SOURCES[write], 5)
    assert [file.read() for file in images.files] == [picture(index) for index in range(6)]
    unlabelled = read_images(source)
    assert sorted(file.read() for file in unlabelled.files) == sorted(picture(index) for index in range(6))
    assert {file.label for file in unlabelled.files} == {None}


@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__)
def test_images_are_decoded_where_they_lie(tmp_path: Path, write) -> None:
    (tmp_path / "source").mkdir()
    images = read_labelled(write(tmp_path / "source"), 1000)
    cached = cache_images(images, RECIPE, tmp_path / "cache", 2, lambda *_: None)
    expected = [crop(Image.open(io.BytesIO(picture(index))), RECIPE) for index in range(6)]
    np.testing.assert_array_equal(cached.open(), expected)


def test_a_long_row_group_is_read_forwards_and_back(tmp_path: Path) -> None:
    pixels = [picture(index % 7) + bytes([index]) for index in range(200)]
    pq.write_table(pa.table({"image": pixels, "label": [0] * 200}), tmp_path / "all.parquet", row_group_size=150)
    files = read_labelled(tmp_path / "all.parquet", 1).files
    for index in [0, 1, 70, 149, 150, 199, 3, 2, 140, 151, 64, 63]:
        assert files[index].read() == pixels[index]


def test_a_part_of_imagenets_images_keeps_its_labels(tmp_path: Path) -> None:
    folder = flat_folder_below_the_unpacked_devkit(tmp_path)
    for index in (0, 3):
        (folder / val_name(index)).unlink()
    assert [file.label for file in read_labelled(folder, 1000).files] == [5, 999, 5, 700]


def test_folders_of_indices_as_imagenetv2_has_them(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / str(label)).mkdir(exist_ok=True)
    for index, label in enumerate(CLASSES):
        (tmp_path / str(label) / f"{index}.jpeg").write_bytes(picture(index))
    images = read_labelled(tmp_path, 1000)
    assert images.labels == "index"
    assert {file.name: file.label for file in images.files} == {
        f"{label}/{index}.jpeg": label for index, label in enumerate(CLASSES)
    }


def test_the_validation_images_are_found_in_a_folder_of_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder = tmp_path / split / WNIDS[3]
        folder.mkdir(parents=True)
        (folder / f"{split}.JPEG").write_bytes(picture(0))
    images = read_labelled(tmp_path, 1000)
    assert [(file.name, file.label) for file in images.files] == [(f"{WNIDS[3]}/val.JPEG", 3)]


def test_images_side_by_side_without_a_ground_truth_have_no_labels(tmp_path: Path) -> None:
    assert read_labelled(write_flat(tmp_path / "val"), 1000).labelled == []
    assert read_labelled(write_val_tar(tmp_path / "val.tar"), 1000).labelled == []


def test_other_images_near_imagenets_labels_do_not_get_them(tmp_path: Path) -> None:
    """A wrong label is worse than none: names without ImageNet's numbers are matched by their order only
    where there are exactly as many as labels."""
    unpack_devkit(tmp_path)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index in range(6):
        assert read_labelled(write_flat(tmp_path / "val"), 1000).labelled == list(range(6))
        (photographs / f"{index}.jpg").write_bytes(picture(index))
        found = [file.label for file in read_labelled(photographs, 1000).files]
        assert found == (CLASSES if index == 5 else [None] * (index + 1))
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    assert read_labelled(photographs, 1000).labelled == []


def truth_without_synsets(folder: Path) -> Path:
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_bytes(devkit()[0])
    return write_flat(folder)


def more_images_than_labels(folder: Path) -> Path:
    unpack_devkit(folder)
    return write_flat(folder / "val", count=8)


def a_list_of_other_classes(folder: Path) -> Path:
    (folder / "val.txt").write_text("\n".join(["1000", *map(str, CLASSES[1:])]))
    return write_flat(folder)


def a_list_that_is_none(folder: Path) -> Path:
    (folder / "val.txt").write_text("this is not a list\n")
    return write_flat(folder)


def images_that_kaggles_table_lacks(folder: Path) -> Path:
    images = kaggles_images(folder)
    (images / "ILSVRC2012_val_00000009.JPEG").write_bytes(picture(9))
    return images


def a_label_past_the_last_class(folder: Path) -> Path:
    pq.write_table(pa.table({"image": [picture(0)], "label": [1000]}), folder / "a.parquet")
    return folder


def parquet_without_images(folder: Path) -> Path:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), folder / "a.parquet")
    return folder


def a_damaged_parquet_file(folder: Path) -> Path:
    (folder / "a.parquet").write_bytes(b"PAR1 and nothing")
    return folder


def a_compressed_tar(folder: Path) -> Path:
    with tarfile.open(folder / "val.tar", "w:gz") as tar:
        add(tar, val_name(0), picture(0))
    return folder / "val.tar"


def a_sample_without_its_label(folder: Path) -> Path:
    webdataset(folder)
    with tarfile.open(folder / "imagenet-val-000002.tar", "w") as tar:
        add(tar, "000009.jpg", picture(9))
    return folder


def words_for_labels(folder: Path) -> Path:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        add(tar, "0.jpg", picture(0))
        add(tar, "0.cls", b"tabby cat")
    return folder


def neither_images_nor_archives(folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing here")
    (folder / "more").mkdir()
    return folder


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (truth_without_synsets, "meta.mat, which has it, is not next to it"),
        (more_images_than_labels, "has 6 labels and none for ILSVRC2012_val_00000007.JPEG"),
        (a_list_of_other_classes, "has 1000, which is not a class of a model with 1000 outputs"),
        (a_list_that_is_none, "val.txt is not a list of labels"),
        (images_that_kaggles_table_lacks, "1 of 7 images in"),
        (a_label_past_the_last_class, "has the label 1000, which is not a class of a model with 1000 outputs"),
        (parquet_without_images, "has the columns text, label and none named image"),
        (a_damaged_parquet_file, "a.parquet cannot be read: "),
        (a_compressed_tar, "is damaged or not an uncompressed tar"),
        (a_sample_without_its_label, "1 of 7 images in"),
        (words_for_labels, "has the label 'tabby cat', expected a class index or a wnid"),
        (neither_images_nor_archives, "looked for image files in it or in folders of classes, .tar and .parquet files"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path: Path, write, words: str) -> None:
    source = write(tmp_path)
    with pytest.raises(UsageError) as caught:
        read_labelled(source, 1000)
    assert words in caught.value.message
    assert caught.value.remedy


def test_what_was_found_instead_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found more/, notes\.txt"):
        read_labelled(neither_images_nor_archives(tmp_path), 1000)


def test_members_of_a_cut_tar_are_unreadable_images(tmp_path: Path) -> None:
    source = tar_with_a_list_of_indices(tmp_path)
    images: ImageSet = read_labelled(source, 1000)
    with source.open("r+b") as file:
        file.truncate(max(file_.offset for file_ in images.files) + 100)
    cached = cache_images(images, RECIPE, tmp_path / "cache", 1, lambda *_: None)
    assert list(cached.unreadable) == [0]  # the last in the tar
    assert "the tar ends before the image does" in cached.unreadable[0]
    assert val_name(0) in cached.unreadable[0]


def test_a_limit_is_balanced_over_classes_and_the_same_every_time(tmp_path: Path) -> None:
    images = read_labelled(hugging_face(tmp_path), 1000)
    part = images.spread(5)
    assert sorted(file.label for file in part.files) == [0, 5, 281, 700, 999]
    assert (part.available, part.classes) == (6, 5)
    assert images.spread(5) == part
    assert [file.label for file in images.spread(2).files] == [281, 0]
