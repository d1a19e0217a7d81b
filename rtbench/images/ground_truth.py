"""Labels of images in one folder: ImageNet's devkit, plain lists, Kaggle's table."""

from __future__ import annotations

import csv
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath

from rtbench.errors import UsageError, visible_text
from rtbench.images.apart import bounded_time, read_apart
from rtbench.images.image_set import class_index, read_bytes, reason

LabelOf = Callable[[str, int, int], "int | None"]
"""The label of an image by its name, its place in the order of names, and how many images there are; None
where it has none."""

DEVKIT_GLOB = "ILSVRC2012_devkit*.tar*"
DEVKIT_FOLDERS = (".", "data", "ILSVRC2012_devkit_t12/data")
DEVKIT_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSETS = "meta.mat"
MOST_SYNSETS = 1 << 26
MOST_MATLAB_S = 5
"""Of the CPU's time for the MATLAB file, which takes a tenth of a second; a damaged one may take years."""
"""Bytes of it that are read; ImageNet's own has less than a fiftieth."""
KAGGLE = "LOC_val_solution.csv"
LISTS = ("val.txt", "validation.txt", "ground_truth.txt", "*synset_labels.txt")
PARENTS = 4
"""How many folders above the images are searched for labels of ImageNet's own names (Kaggle's are four
above); lists of general names only next to the images or in the folder above."""


@dataclass(frozen=True)
class GroundTruth:
    how: str
    label_of: LabelOf


def imagenet_wnids() -> list[str]:
    """The 1000 WordNet ids of ImageNet-1k in class order."""
    return (resources.files("rtbench") / "data" / "imagenet_wnids.txt").read_text(encoding="ascii").split()


def wnid_classes() -> dict[str, int]:
    return {wnid: index for index, wnid in enumerate(imagenet_wnids())}


def find_ground_truth(folder: Path, classes: int) -> GroundTruth | None:
    """The labels in `folder` or a little above it, None where there are none of a known kind."""
    places = (folder, *folder.resolve().parents[:PARENTS])
    for place in places:
        found = _devkit_archive(place) or _devkit_folder(place) or _kaggle(place)
        if found:
            return found
    return _list(places[0], classes) or _list(places[1], classes)


def _devkit_archive(place: Path) -> GroundTruth | None:
    path = next((path for path in sorted(place.glob(DEVKIT_GLOB)) if _is_file(path)), None)
    if path is None:
        return None
    labels = list(read_apart(archived_labels, [path]))
    return GroundTruth(f"devkit ({path.name})", _by_number(path, labels))


def archived_labels(path: Path) -> list[int | None]:
    """The labels of a devkit's archive; called through `read_apart`."""
    truth = synsets = b""
    with tarfile.open(path) as tar:
        for member in tar:
            name = PurePosixPath(member.name).name
            file = tar.extractfile(member) if member.isfile() and name in (DEVKIT_TRUTH, SYNSETS) else None
            if file and name == SYNSETS:
                synsets = file.read(MOST_SYNSETS)
            elif file:
                truth = file.read(MOST_SYNSETS)
    if not truth or not synsets:
        raise UsageError(f"{path} lacks {DEVKIT_TRUTH} or {SYNSETS}", "download it again")
    return _by_devkit(path, truth.decode(errors="replace"), dict(_classes_by_id(synsets)))


def _devkit_folder(place: Path) -> GroundTruth | None:
    for folder in DEVKIT_FOLDERS:
        truth, synsets = place / folder / DEVKIT_TRUTH, place / folder / SYNSETS
        if _is_file(truth) and _is_file(synsets):
            labels = _by_devkit(truth, read_text(truth), dict(read_apart(classes_by_id, [synsets])))
            return GroundTruth(f"devkit ({truth.name})", _by_number(truth, labels))
        if _is_file(truth):
            return GroundTruth(f"devkit ({truth.name})", _without_synsets(truth))
    return None


def classes_by_id(synsets: Path) -> Iterator[tuple[int, int]]:
    """Our class of each of the devkit's ids, by its MATLAB file; called through `read_apart`."""
    return _classes_by_id(read_bytes(str(synsets)))


def _classes_by_id(synsets: bytes) -> Iterator[tuple[int, int]]:
    from scipy.io import loadmat

    with bounded_time(MOST_MATLAB_S):
        table = loadmat(BytesIO(synsets), squeeze_me=True)["synsets"]
    wnids = wnid_classes()
    for leaf in table[table["num_children"] == 0]:
        if str(leaf["WNID"]) in wnids:
            yield int(leaf["ILSVRC2012_ID"]), wnids[str(leaf["WNID"])]


def _by_devkit(path: Path, truth: str, classes: dict[int, int]) -> list[int | None]:
    """The devkit's ids are in an order of its own, which its MATLAB file maps to classes."""
    words = truth.split()
    stranger = next((word for word in words if class_index(word) is None), None)
    if stranger:
        raise UsageError(f"{path} has {visible_text(stranger):.40}, which is not a class's number", "download it again")
    return [classes.get(int(word)) for word in words]


def _kaggle(place: Path) -> GroundTruth | None:
    path = place / KAGGLE
    if not _is_file(path):
        return None
    wnids = wnid_classes()
    lines = csv.DictReader(StringIO(read_text(path), newline=""))
    try:
        if not {"ImageId", "PredictionString"} <= set(lines.fieldnames or ()):
            raise UsageError(f"{path} has no columns ImageId and PredictionString", "download it again")
        labels = {line["ImageId"]: wnids.get((line["PredictionString"] or "").split(" ")[0]) for line in lines}
    except csv.Error as error:
        raise UsageError(f"{path} is not a table: {error}", "download it again") from None
    return GroundTruth(KAGGLE, lambda name, *_: labels.get(PurePosixPath(name).stem))


def _list(place: Path, classes: int) -> GroundTruth | None:
    """A text of one line an image: a wnid or a class index, after the image's name or in their order."""
    path = next((path for pattern in LISTS for path in sorted(place.glob(pattern)) if _is_file(path)), None)
    if path is None:
        return None
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    width = len(lines[0]) if lines else 0
    if width not in (1, 2) or any(len(line) != width for line in lines):
        raise UsageError(f"{path} is not a list of labels", "write a wnid or class index a line, after a name or alone")
    labels = list(_classes_of(path, [line[-1] for line in lines], classes))
    if width == 1:
        return GroundTruth(f"list ({path.name})", _by_number(path, labels))
    by_name = {PurePosixPath(line[0]).name: label for line, label in zip(lines, labels, strict=True)}
    return GroundTruth(f"list ({path.name})", lambda name, *_: by_name.get(PurePosixPath(name).name))


def _classes_of(path: Path, words: Sequence[str], classes: int) -> Iterator[int]:
    wnids = wnid_classes()
    for word in words:
        number = class_index(word)
        label = wnids.get(word, -1) if number is None else number
        if not 0 <= label < classes:
            raise UsageError(
                f"{path} has {visible_text(word):.40}, which is not a class of a model with {classes} outputs",
                f"write wnids, or class indices from 0 to {classes - 1}",
            )
        yield label


def _is_file(path: Path) -> bool:
    """Whether it can be read as one: a folder above the images may be another's, and a pipe would never end."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's raises where the folder may not be looked into


def read_text(path: Path) -> str:
    """The text of a list, in which names may have any bytes, as file names do."""
    try:
        return read_bytes(str(path)).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "make it readable or move it away") from None


def image_number(name: str) -> int | None:
    """The number that ImageNet's own names end in."""
    found = re.search(r"_(\d{8})$", PurePosixPath(name).stem)
    return int(found[1]) if found else None


def _by_number(path: Path, labels: Sequence[int | None]) -> LabelOf:
    """Line N belongs to the image whose name ends in the number N, as ImageNet's do. Images of other names
    are taken in their order, but only where there are as many as lines: else they are others."""

    def label_of(name: str, position: int, count: int) -> int | None:
        number = image_number(name)
        if number is None:
            return labels[position] if count == len(labels) else None
        if not 1 <= number <= len(labels):
            raise UsageError(f"{path} has {len(labels)} labels and none for {name}", "use the list of these images")
        return labels[number - 1]

    return label_of


def _without_synsets(path: Path) -> LabelOf:
    def label_of(name: str, position: int, count: int) -> int | None:  # noqa: ARG001
        if image_number(name) is None:
            return None
        raise UsageError(
            f"{path} numbers classes in the devkit's own order and {SYNSETS}, which has it, is not next to it",
            f"put the devkit's data/{SYNSETS} there",
        )

    return label_of
