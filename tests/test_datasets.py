"""Folders of images to labels."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from rtbench.errors import UsageError
from rtbench.images.datasets import read_images, read_labelled
from rtbench.images.ground_truth import imagenet_wnids
from rtbench.images.image_set import ImageFile, ImageSet, spread_indices


def touch(folder: Path, *names: str) -> Path:
    """Files with nothing in them: labels come from names alone."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def labels(images: ImageSet) -> dict[str, int | None]:
    return {file.name: file.label for file in images.files}


def test_the_wnids_are_the_thousand_of_imagenet_in_class_order() -> None:
    wnids = imagenet_wnids()
    assert len(wnids) == len(set(wnids)) == 1000
    assert wnids == sorted(wnids)  # the class order of ImageNet-1k is that of the wnids
    # tench, goldfish, tabby, toilet tissue
    assert [wnids[index] for index in (0, 1, 281, 999)] == ["n01440764", "n01443537", "n02123045", "n15075141"]


def test_every_other_wnid_keeps_its_own_class_index(tmp_path: Path) -> None:
    wnids = imagenet_wnids()
    images = read_labelled(touch(tmp_path, *(f"{wnid}/one.JPEG" for wnid in wnids[::2])), 1000)
    assert (images.labels, images.classes, len(images.files)) == ("wnid", 500, 500)
    assert {file.name.split("/")[0]: file.label for file in images.files} == {
        wnid: index for index, wnid in enumerate(wnids) if index % 2 == 0
    }


def test_labels_of_the_imagenet_sample_are_line_numbers_of_its_own_list(imagenet_sample: Path) -> None:
    lines = (imagenet_sample.parent / "wnids.txt").read_text().split()
    images = read_labelled(imagenet_sample, 1000)
    assert len(images.files) == 500
    assert all(lines[file.label] == Path(file.path).parent.name for file in images.files)
    assert sorted(file.label for file in images.files) == list(range(0, 1000, 2))


def test_folders_named_by_class_index_count_as_numbers(tmp_path: Path) -> None:
    images = read_labelled(touch(tmp_path, "2/a.png", "10/b.png", "007/c.png", "999/d.png"), 1000)
    assert labels(images) == {"2/a.png": 2, "10/b.png": 10, "007/c.png": 7, "999/d.png": 999}
    assert (images.labels, images.classes) == ("index", 4)


def test_folders_of_any_names_are_numbered_as_torchvision_numbers_them(tmp_path: Path) -> None:
    names = ["zebra", "Ant", "bee", "Zoo", "élan", "2nd"]
    touch(tmp_path, *(f"{name}/{name}{number}.png" for name in names for number in range(2)))
    images = read_labelled(tmp_path, 6)
    assert (images.labels, images.classes) == ("folder order", 6)
    reference = ImageFolder(str(tmp_path))
    assert {file.path: file.label for file in images.files} == dict(reference.samples)


def test_a_thousand_folders_of_other_names_are_numbered_in_order(tmp_path: Path) -> None:
    images = read_labelled(touch(tmp_path, *(f"class{index:03}/one.png" for index in range(1000))), 1000)
    assert images.labels == "folder order"
    assert [file.label for file in images.files] == list(range(1000))


def test_wnids_of_a_model_with_classes_of_its_own_are_mere_names(tmp_path: Path) -> None:
    images = read_labelled(touch(tmp_path, "n02123045/a.png", "n01440764/b.png"), 2)
    assert labels(images) == {"n01440764/b.png": 0, "n02123045/a.png": 1}
    assert images.labels == "folder order"


def test_images_deeper_down_belong_to_their_class_folder(tmp_path: Path) -> None:
    images = read_labelled(touch(tmp_path, "0/deep/er/a.png", "1/b.png"), 2)
    assert labels(images) == {"0/deep/er/a.png": 0, "1/b.png": 1}


def test_class_folders_that_are_links_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    store = touch(tmp_path / "store", "0/a.png", "1/b.png")
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for name in ("0", "1"):
        (chosen / name).symlink_to(store / name)
    assert len(ImageFolder(str(chosen)).samples) == 2
    assert labels(read_labelled(chosen, 2)) == {"0/a.png": 0, "1/b.png": 1}


@pytest.mark.parametrize(
    ("names", "classes", "words"),
    [
        (["n01440764/a.png", "n99999999/b.png"], 1000, "n99999999"),
        (["n01440764/a.png", "cats/b.png"], 1000, "cats"),
        (["n01440764/a.png", "5/b.png"], 1000, "5 is none of the 1000"),
        (["0/a.png", "10/b.png", "9/c.png"], 10, "folder 10 "),
        (["7/a.png", "1000/b.png"], 1000, "folder 1000 "),
        (["cat/a.png", "dog/b.png"], 10, "has 2 class folders (cat, dog), the model 10 outputs"),
        (["cat/a.png", "dog/b.png", "eel/c.png"], 2, "has 3 class folders (cat, dog, …), the model 2 outputs"),
        (["0/a.png", "cat/b.png"], 10, "has 2 class folders"),
        (["cat/a.png", "dog/b.png", "stray.png"], 2, "stray.png"),
        (["0/a.png", "notes.txt", "z.jpeg"], 10, "z.jpeg"),
    ],
    ids=lambda value: "" if isinstance(value, list | int) else value,
)
def test_folders_that_cannot_be_labels_are_named(tmp_path: Path, names: list[str], classes: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_labelled(touch(tmp_path, *names), classes)
    assert words in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy


def test_a_folder_without_class_folders_has_no_labels(tmp_path: Path) -> None:
    images = read_labelled(touch(tmp_path, "b.png", "a.JPG", "notes.txt"), 1000)
    assert labels(images) == {"a.JPG": None, "b.png": None}
    assert (images.labels, images.classes, images.labelled) == ("none", None, [])


def test_only_images_count_and_a_folder_named_like_one_does_not(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "dog/b.webp", "readme/notes.txt", "cat/Thumbs.db")
    (tmp_path / "cat" / "not.png").mkdir()
    images = read_labelled(tmp_path, 2)
    assert labels(images) == {"cat/a.png": 0, "dog/b.webp": 1}


@pytest.mark.parametrize("read", [read_images, lambda folder: read_labelled(folder, 10)], ids=["images", "labelled"])
def test_no_folder_and_no_images_are_told_apart(tmp_path: Path, read) -> None:
    with pytest.raises(UsageError, match="missing is not a folder"):
        read(tmp_path / "missing")
    touch(tmp_path, "a.png")
    with pytest.raises(UsageError, match=r"a\.png is not a folder"):
        read(tmp_path / "a.png")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match="empty has no images in it"):
        read(tmp_path / "empty")
    touch(tmp_path, "texts/notes.txt")
    with pytest.raises(UsageError, match="texts has no images in it"):
        read(tmp_path / "texts")


def test_images_are_in_the_order_of_their_paths_without_labels(tmp_path: Path) -> None:
    images = read_images(touch(tmp_path, "b/x.png", "a.png", "b/a.png", "c.png"))
    assert [file.name for file in images.files] == ["a.png", "b/a.png", "b/x.png", "c.png"]
    assert all(file.label is None and file.path == str(tmp_path / file.name) for file in images.files)


@pytest.mark.parametrize("total", [0, 1, 2, 7, 64, 500, 1000])
def test_spread_indices_are_even_increasing_and_within(total: int) -> None:
    for count in {0, 1, 2, 3, 64, total // 2, max(total - 1, 0), total, total + 1, 2000}:
        chosen = spread_indices(total, count)
        assert len(chosen) == min(total, count)
        assert all(0 <= index < total for index in chosen)
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert all(gap >= 1 for gap in gaps)
        assert not gaps or max(gaps) - min(gaps) <= 1
        if 0 < count < total:  # no end of the order is left out: each of `count` equal parts has one
            assert {index * count // total for index in chosen} <= set(range(count))
            assert total - chosen[-1] <= -(-total // count)
            assert chosen[0] == 0
        assert chosen == spread_indices(total, count)


def test_spreading_a_set_keeps_labels_with_their_images() -> None:
    files = tuple(ImageFile(f"{index}.png", f"{index}.png", label=index) for index in range(10))
    whole = ImageSet("here", files, labels="index", classes=10)
    part = whole.spread(4)
    assert [file.label for file in part.files] == [0, 2, 5, 7]
    assert all(file.name == f"{file.label}.png" for file in part.files)
    assert (part.source, part.labels, part.classes, part.available) == ("here", "index", 4, 10)
    assert whole.spread(10) == whole.spread(99) == whole


def test_labels_can_be_taken_away() -> None:
    files = (ImageFile("a", "a", label=3), ImageFile("b", "b", label=None))
    whole = ImageSet("here", files, labels="index", classes=10)
    assert whole.labelled == [0]
    bare = whole.unlabelled()
    assert (bare.labelled, bare.labels) == ([], "none")
    assert [(file.path, file.name) for file in bare.files] == [(file.path, file.name) for file in files]
