"""Where images and their labels come from: recognised by looking at what is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from rtbench.errors import UsageError
from rtbench.images.archives import parquet_images, parquet_shards, tar_images, webdataset_samples
from rtbench.images.ground_truth import GroundTruth, find_ground_truth, wnid_classes
from rtbench.images.image_set import SUFFIXES, ImageFile, ImageSet

KAGGLE_IMAGES = "ILSVRC/Data/CLS-LOC/val"
SPLIT_FOLDERS = ("val", "validation", "train", "test")


def read_images(path: Path) -> ImageSet:
    """Every image of a folder, a tar or parquet files, unlabelled, in the order of their names."""
    path = require_source(path)
    shards = _shards(path)
    files = tuple(_in_shards(shards)) if shards else tuple(sorted(_files_below(path), key=_by_parts))
    if not files:
        raise _no_images(path)
    return ImageSet(str(path), files).unlabelled() if shards else ImageSet(str(path), files)


def read_labelled(path: Path, classes: int) -> ImageSet:
    """The images at `path` with their labels, in whichever form they lie there.

    Folders of classes; images side by side or in ImageNet's own tar, with a ground truth near them;
    WebDataset shards; parquet shards. Folders are read as wnids (`n01440764`), as class indices (`0` …
    `999`), or by any names in sorted order where there are exactly `classes` of them, the number of the
    model's outputs. Images without any labels keep none: fidelity is measured on them, accuracy is not.
    """
    path = require_source(path)
    shards = _shards(path)
    if not shards:
        return _read_folder(path, classes)
    if shards[0].suffix == ".parquet":
        return _labelled(path, "parquet", (image for shard in shards for image in parquet_images(shard)), classes)
    truth = find_ground_truth(shards[0].parent, classes) if len(shards) == 1 else None
    if truth is None or any(label is not None for _, label in islice(webdataset_samples(shards[0]), 1)):
        return _labelled(path, "webdataset", _webdataset(shards), classes)
    return _by_truth(path, tar_images(shards[0]), truth, classes)


def require_source(path: Path) -> Path:
    """What to read of what the user named: a file, a folder, or the validation images within it."""
    if not path.exists() or not (path.is_dir() or path.suffix in (".tar", ".parquet")):
        raise UsageError(f"{path} is not a folder", "name a folder of images, a .tar or a .parquet file")
    if not path.is_dir():
        return path
    if (path / KAGGLE_IMAGES).is_dir():
        return path / KAGGLE_IMAGES
    folders = {entry.name for entry in os.scandir(path) if entry.is_dir()}
    if folders and folders <= set(SPLIT_FOLDERS):
        return path / next(name for name in SPLIT_FOLDERS if name in folders)
    return path


def _shards(path: Path) -> list[Path]:
    """The parquet or tar files that hold the images, none where they lie in folders."""
    if path.is_file():
        return [path]
    return parquet_shards(path) or sorted(path.glob("*.tar"))


def _in_shards(shards: Sequence[Path]) -> Iterator[ImageFile]:
    for shard in shards:
        yield from tar_images(shard) if shard.suffix == ".tar" else parquet_images(shard)


def _by_parts(file: ImageFile) -> list[str]:
    return file.name.split("/")


def _files_below(folder: Path) -> Iterator[ImageFile]:
    root = str(folder)
    for parent, _, names in os.walk(root, followlinks=True):
        inside = os.path.relpath(parent, root).replace(os.sep, "/")
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122 - fifty thousand Paths are slow
                yield ImageFile(os.path.join(parent, name), name if inside == "." else f"{inside}/{name}")  # noqa: PTH118


def _no_images(path: Path) -> UsageError:
    if path.is_file():
        return UsageError(f"{path} has no images in it", "name another")
    found = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(path))
    return UsageError(
        f"{path} has no images in it: looked for image files in it or in folders of classes, .tar and .parquet files,"
        f" found {_few(found) if found else 'nothing'}",
        f"put files ending in {', '.join(sorted(SUFFIXES))} there",
    )


def _read_folder(folder: Path, classes: int) -> ImageSet:
    images = read_images(folder)
    names = sorted({file.name.split("/")[0] for file in images.files if "/" in file.name})
    if not names:
        truth = find_ground_truth(folder, classes)
        return _by_truth(folder, images.files, truth, classes) if truth else images
    loose = next((file for file in images.files if "/" not in file.name), None)
    if loose:
        raise UsageError(
            f"{folder} has class folders and also {loose.name} beside them", "move it into the folder of its class"
        )
    how, label_of = _label_folders(names, classes, folder)
    files = tuple(replace(file, label=label_of[file.name.split("/")[0]]) for file in images.files)
    return replace(images, files=files, labels=how, classes=len(names))


def _by_truth(path: Path, images: Iterable[ImageFile], truth: GroundTruth, classes: int) -> ImageSet:
    files = sorted(images, key=_by_parts)
    labelled = (
        replace(file, label=truth.label_of(file.name, position, len(files))) for position, file in enumerate(files)
    )
    return _labelled(path, truth.how, labelled, classes)


def _webdataset(shards: Sequence[Path]) -> Iterator[ImageFile]:
    wnids = wnid_classes()
    for shard in shards:
        for image, written in webdataset_samples(shard):
            if isinstance(written, str) and written not in wnids:
                raise UsageError(
                    f"{image.name} in {shard} has the label {written!r}, neither a class index nor a wnid",
                    "write class indices",
                )
            yield replace(image, label=wnids[written] if isinstance(written, str) else written)


def _labelled(path: Path, how: str, images: Iterable[ImageFile], classes: int) -> ImageSet:
    """An image set of what carries its labels along, all of it or nothing."""
    files = tuple(images)
    if not files:
        raise _no_images(path)
    labels = {file.label for file in files}
    if labels == {None}:
        return ImageSet(str(path), files)
    bare = [file.name for file in files if file.label is None]
    if bare:
        raise UsageError(
            f"{len(bare)} of {len(files)} images in {path} have no label by {how} ({_few(bare)})",
            "add their labels or take those images away",
        )
    worst = max(label for label in labels if label is not None)
    if worst >= classes:
        raise UsageError(
            f"{path} has the label {worst}, which is no class of a model with {classes} outputs",
            f"labels must be 0 to {classes - 1}",
        )
    return ImageSet(str(path), files, labels=how, classes=len(labels))


def _label_folders(names: list[str], classes: int, folder: Path) -> tuple[str, dict[str, int]]:
    wnids = wnid_classes()
    known = [name for name in names if name in wnids]
    if known and classes == len(wnids):
        stranger = next((name for name in names if name not in wnids), None)
        if stranger:
            raise UsageError(
                f"{folder} has folders named by ImageNet wnid, but {stranger} is none of the 1000", "rename or move it"
            )
        return "wnid", {name: wnids[name] for name in names}
    if all(name.isdecimal() for name in names):
        indices = {name: int(name) for name in names}
        worst = max(names, key=int)
        if indices[worst] >= classes:
            raise UsageError(
                f"folder {worst} in {folder} is no class index of a model with {classes} outputs",
                f"number folders 0 to {classes - 1}",
            )
        return "index", indices
    if len(names) == classes:
        return "folder order", {name: index for index, name in enumerate(names)}
    raise UsageError(
        f"{folder} has {len(names)} class folders ({_few(names)}) and the model has {classes} outputs",
        "name folders by wnid or by class index, or have one for every class",
    )


def _few(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:2]) + (", …" if len(first) > 2 else "")
