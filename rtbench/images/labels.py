"""What the names of class folders, or numbers in a list, mean to a model: which class is whose."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from rtbench.errors import UsageError, visible_text
from rtbench.images.ground_truth import image_number, wnid_classes
from rtbench.images.image_set import ImageFile, ImageSet
from rtbench.images.tables import LabelTable, numbered_class, read_class_map
from rtbench.terms import ClassOrder

IMAGENET = 1000
BACKGROUND = IMAGENET + 1
"""Outputs of TensorFlow's ImageNet networks, whose first class is the background."""
OTHER_TESTS = {"ImageNetV2": "imagenetv2", "ImageNet-Sketch": "sketch"}
"""Test sets of all of ImageNet's classes, and what is in the names of their folders."""
FOLDER_LABELS = frozenset({"wnid", "index", "folder order", "class map", "class names"})
"""How labels are read off the names of folders, which so are those of classes."""


@dataclass(frozen=True)
class Reading:
    """How labels are read, where the user or the model says."""

    order: ClassOrder | None = None
    offset: int | None = None
    table: Path | None = None
    class_map: Path | None = None
    all_classes: bool = False
    names: tuple[str, ...] = ()
    """Of the model's classes."""


@dataclass(frozen=True)
class FolderLabels:
    how: str
    label_of: dict[str, int]
    choices: tuple[str, ...] = ()
    test_set: str | None = None
    among: tuple[int, ...] = ()


def label_folders(names: list[str], classes: int, folder: Path, reading: Reading) -> FolderLabels:
    """The label of each class folder: by the class map, by the names of the model's classes, its wnid's, its number,
    or its place in the order of names."""
    order = reading.order
    if reading.class_map:
        return FolderLabels("class map", dict(_by_map(names, reading.class_map, classes)))
    known = _folded(reading.names)
    if order is None and known and all(_fold(name) in known for name in names):
        said = "folders are classes by the model's own names for them; --class-order text takes them in order instead"
        return FolderLabels("class names", {name: known[_fold(name)] for name in names}, (said,))
    wnids = wnid_classes()
    if order is None and classes in (IMAGENET, BACKGROUND) and any(name in wnids for name in names):
        stranger = next((name for name in names if name not in wnids), None)
        if stranger:
            raise UsageError(
                f"{folder} has folders named by ImageNet wnid, but {stranger} is none of the 1000", "rename or move it"
            )
        label_of = {name: wnids[name] for name in names}
        return _of_test_set(FolderLabels("wnid", label_of), folder, reading)
    whole = len(names) == classes
    if all(name.isdecimal() for name in names):
        numbered = _numbered(sorted(names), classes, folder, order, whole=whole)
        return _of_test_set(numbered, folder, reading) if classes in (IMAGENET, BACKGROUND) else numbered
    if not whole:
        raise UsageError(
            f"{folder} has {len(names)} class folders ({few(names)}), the model {classes} outputs",
            "name folders by wnid or class index, or have one for every class",
        )
    return FolderLabels("folder order", _places(sorted(names)))


def _by_map(names: Sequence[str], path: Path, classes: int) -> Iterator[tuple[str, int]]:
    mapped = read_class_map(path)
    for name in names:
        if name not in mapped:
            raise UsageError(f"{path} has no class for {visible_text(name)}", "add it, or move its images away")
        if not 0 <= mapped[name] < classes:
            raise UsageError(
                f"{path} has the class {mapped[name]} for {visible_text(name)}, and the model has {classes}",
                f"write classes from 0 to {classes - 1}",
            )
        yield name, mapped[name]


def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _folded(names: Sequence[str]) -> dict[str, int]:
    """By the name of a class without its case and punctuation, and by the first of several that commas part."""
    short = {_fold(name.partition(",")[0]): index for index, name in reversed(list(enumerate(names)))}
    return short | {_fold(name): index for index, name in reversed(list(enumerate(names)))}


def _of_test_set(found: FolderLabels, folder: Path, reading: Reading) -> FolderLabels:
    """With the name of the other test set of ImageNet's classes that it is, and the classes that it has alone."""
    places = [_fold(each.name).replace(" ", "") for each in (folder.absolute(), folder.absolute().parent)]
    classes = set(found.label_of.values())
    for name, subset in imagenet_subsets().items():
        if classes == subset or (_fold(name).replace(" ", "") in places and classes <= subset):
            among = () if reading.all_classes else tuple(sorted(subset))
            said = f"the images are of {name}, so answers are chosen among its {len(subset)} classes alone;"
            choices = (f"{said} --all-classes takes them all",) if among else ()
            return replace(found, test_set=name, among=among, choices=(*found.choices, *choices))
    by_name = (name for name, mark in OTHER_TESTS.items() if any(mark in place for place in places))
    return replace(found, test_set=next(by_name, None))


def imagenet_subsets() -> dict[str, set[int]]:
    """The classes of ImageNet's test sets that have but some of them."""
    text = (resources.files("rtbench") / "data" / "imagenet_subsets.txt").read_text(encoding="ascii")
    lines = (line.split() for line in text.splitlines())
    return {name: set(map(int, classes)) for name, *classes in lines}


def by_table(images: ImageSet, table: LabelTable, classes: int, reading: Reading) -> ImageSet:
    """The images with the labels that a table has; those for which it has none at all are left out."""
    given = [(file, table.labels_of(file.name, image_number(file.name))) for file in images.files]
    bare = [file.name for file, labels in given if labels is None]
    if bare:
        raise UsageError(
            f"{table.path} has no label for {len(bare)} of {len(given)} images ({few(bare)})",
            "add their labels or remove those images",
        )
    number, choices = _numbers(table, {each for _, labels in given for each in labels or ()}, classes, reading)
    files = [
        replace(file, label=number[labels[0]], also=tuple(number[each] for each in labels[1:]))
        for file, labels in given
        if labels
    ]
    if not files:
        raise UsageError(f"{table.path} has no label for any image", "name the table of these images")
    if len(files) < len(given):
        choices = (*choices, f"{len(given) - len(files)} images have no label in {table.path.name} and were left out")
    found = len({file.label for file in files})
    choices = (*choices, *images.choices)
    return replace(images, files=tuple(files), labels=f"table ({table.path.name})", classes=found, choices=choices)


def _numbers(
    table: LabelTable, labels: Collection[str | int], classes: int, reading: Reading
) -> tuple[dict[str | int, int], tuple[str, ...]]:
    """The class of each label of a table: by the class map, as a number, by wnid, by the table's or the model's names,
    or by its place in the order of all."""
    if reading.class_map:
        return dict(_by_map([str(each) for each in labels], reading.class_map, classes)), ()
    texts = {str(each) for each in labels}
    if all(text.isdecimal() for text in texts):
        return {each: numbered_class(table.path, str(each)) for each in labels}, ()
    wnids, known = wnid_classes(), _folded(table.names or reading.names)
    if texts <= wnids.keys():
        return {each: wnids[str(each)] for each in labels}, ()
    if all(_fold(text) in known for text in texts):
        return {each: known[_fold(str(each))] for each in labels}, ()
    if len(texts) == classes:
        place = {text: index for index, text in enumerate(sorted(texts))}
        said = f"labels of {table.path.name} are classes in the order of their names; --class-map chooses otherwise"
        return {each: place[str(each)] for each in labels}, (said,)
    raise UsageError(
        f"{table.path} has {len(texts)} labels ({few(sorted(texts))}) and the model has {classes} outputs",
        "say with --class-map which class each is of",
    )


def _numbered(names: list[str], classes: int, folder: Path, order: ClassOrder | None, *, whole: bool) -> FolderLabels:
    """Folders of numbers, which torchvision's ImageFolder reads as any other names."""
    indices = {name: int(name) for name in names}
    worst = max(names, key=int)
    fits = indices[worst] < classes
    if whole and (order == "text" or (order is None and not fits)):
        said = f"folders {names[0]} to {worst} are classes in the order of their names as text"
        return FolderLabels(
            "folder order", _places(names), _said(names, said, "as torchvision's ImageFolder", "number")
        )
    if not fits and not whole:
        raise UsageError(
            f"folder {worst} in {folder} is not a class index of a model with {classes} outputs",
            f"number folders 0 to {classes - 1}",
        )
    if not fits:
        return FolderLabels("folder order", _places(sorted(names, key=int)))
    said = f"folders {names[0]} to {worst} are classes by their numbers"
    by_text = whole and _places(names) != indices
    return FolderLabels(
        "index", indices, _said(names, said, "not as torchvision's ImageFolder", "text") if by_text else ()
    )


def _said(names: list[str], said: str, beside: str, other: ClassOrder) -> tuple[str, ...]:
    if names == sorted(names, key=int):
        return ()
    return (f"{said}, {beside} sorts them ({', '.join(names[:3])}, …); --class-order {other} chooses otherwise",)


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def as_classes(images: ImageSet, classes: int, offset: int | None) -> ImageSet:
    """The labels as outputs of a model with so many: one higher where its first is the background.

    UsageError where one is of no output.
    """
    labels = {each for file in images.files if file.label is not None for each in (file.label, *file.also)}
    if not labels:
        return images
    choices = images.choices
    if offset is None and classes == BACKGROUND and max(labels) < IMAGENET and images.labels != "folder order":
        offset = 1
        choices = (
            *choices,
            f"labels are one higher, since the first of {classes} outputs is the background;"
            " --class-offset 0 leaves them as they are",
        )
    if offset:
        files = tuple(
            replace(file, label=file.label + offset, also=tuple(each + offset for each in file.also))
            if file.label is not None
            else file
            for file in images.files
        )
        among = tuple(each + offset for each in images.among)
        images = replace(images, files=files, among=among, choices=choices)
    for worst in (max(labels) + (offset or 0), min(labels) + (offset or 0)):
        if not 0 <= worst < classes:
            raise UsageError(
                f"{images.source} has the label {worst}, which is not a class of a model with {classes} outputs",
                f"labels must be 0 to {classes - 1}; --class-offset adds to all of them",
            )
    return images


def require_all(path: Path, how: str, files: Sequence[ImageFile]) -> None:
    """UsageError where some of the images have a label and others have none."""
    bare = [file.name for file in files if file.label is None]
    if bare and len(bare) < len(files):
        raise UsageError(
            f"{len(bare)} of {len(files)} images in {path} have no label by {how} ({few(bare)})",
            "add their labels or remove those images",
        )


def few(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:2]) + (", …" if len(first) > 2 else "")
