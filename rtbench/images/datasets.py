"""Where images and their labels come from: recognised by looking at what is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rtbench.errors import UsageError, visible_text
from rtbench.images.apart import read_apart
from rtbench.images.archives import Label, parquet_images, parquet_shards, tar_images, webdataset_samples
from rtbench.images.ground_truth import GroundTruth, find_ground_truth, wnid_classes
from rtbench.images.image_set import SUFFIXES, ImageFile, ImageSet, reason
from rtbench.images.labels import Reading, as_classes, by_table, few, label_folders, require_all
from rtbench.images.tables import read_label_table

KAGGLE_IMAGES = "ILSVRC/Data/CLS-LOC/val"
FIFTYONE = ("data", "labels.json")
TABLES = ("labels.json", "metadata.jsonl", "metadata.csv", "labels.csv")
SPLITS = ("val", "valid", "validation", "eval", "dev", "test", "testing", "train", "training")
"""Names of folders, in any case, that are parts of a dataset; the first that is there is read."""
HIDDEN = (".", "__MACOSX")
"""How names begin that other programs leave in a dataset: checkpoints of notebooks, resource forks of a Mac."""
MOST_KINDS = 5
MOST_SHOWN = 200
"""Letters of a path in an error: one that is too long for the system is too long for a sentence."""


def read_images(path: Path) -> ImageSet:
    """Every image of a folder, a tar or parquet files, unlabelled, in the order of their names."""
    with _readable(path):
        return _printable(_read_images(require_source(path)))


def read_labelled(path: Path, classes: int, reading: Reading = Reading()) -> ImageSet:  # noqa: B008 - it is frozen
    """The images at `path` with their labels, in any of the known layouts.

    Folders of classes; images side by side or in ImageNet's own tar, with a ground truth near them;
    WebDataset shards; parquet shards. Folders are read as wnids (`n01440764`), as class indices (`0` …
    `999`), or by any names in sorted order where there are exactly `classes` of them, the number of the
    model's outputs. Images without any labels keep none: fidelity is measured on them, accuracy is not.
    """
    with _readable(path):
        images = _read_labelled(require_source(path), classes, reading)
        return _printable(as_classes(images, classes, reading.offset))


def require_source(path: Path) -> Path:
    """What to read of what the user named: a file, a folder, or the validation images within it."""
    with _readable(path):
        if not path.is_dir() and not (path.is_file() and path.suffix in (".tar", ".parquet")):
            raise UsageError(f"{path} is not a folder", "name a folder of images, a .tar or a .parquet file")
        if not path.is_dir():
            return path
        folders = {
            entry.name.lower(): entry.name
            for entry in os.scandir(path)
            if os.path.isdir(entry) and not entry.name.startswith(HIDDEN)  # noqa: PTH112
        }
        if (path / KAGGLE_IMAGES).is_dir():
            return path / KAGGLE_IMAGES
        if (path / FIFTYONE[0]).is_dir() and (path / FIFTYONE[1]).is_file():
            return path / FIFTYONE[0]
        if folders and folders.keys() <= set(SPLITS):
            return path / folders[next(name for name in SPLITS if name in folders)]
        return path


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """UsageError where the system refuses to read what the user named, or something in it."""
    try:
        yield
    except OSError as error:
        where = visible_text(str(error.filename or path))
        where = where if len(where) < MOST_SHOWN else f"{where[:MOST_SHOWN]}…"
        raise UsageError(f"{where} cannot be read: {reason(error)}", "name images that can be read") from None


def _printable(images: ImageSet) -> ImageSet:
    """The set with names that every report can hold. Labels come before: classes are in the order of the real names."""
    files = tuple(
        file if file.name.isprintable() else replace(file, name=visible_text(file.name)) for file in images.files
    )
    return replace(images, source=visible_text(images.source), files=files)


def _read_images(path: Path) -> ImageSet:
    shards = _shards(path)
    skipped: Counter[str] = Counter()
    files = tuple(_in_shards(shards)) if shards else tuple(sorted(_files_below(path, skipped), key=_by_parts))
    if not files:
        raise _no_images(path)
    return ImageSet(str(path), files, choices=_told(skipped))


def _told(skipped: Counter[str]) -> tuple[str, ...]:
    most = sorted(skipped.items(), key=lambda each: (-each[1], each[0]))[:MOST_KINDS]
    parts = ", ".join(f"{count} {what}" for what, count in most)
    return (f"{sum(skipped.values())} files in it are not images: {parts}",) if skipped else ()


def _read_labelled(path: Path, classes: int, reading: Reading) -> ImageSet:
    if reading.table:
        return by_table(_read_images(path), read_label_table(reading.table), classes, reading)
    shards = _shards(path)
    if not shards:
        return _read_folder(path, classes, reading)
    if shards[0].suffix == ".parquet":
        return _labelled(path, "parquet", _by_label(read_apart(parquet_images, shards)))
    truth = find_ground_truth(shards[0].parent, classes) if len(shards) == 1 else None
    samples = list(read_apart(webdataset_samples, shards))
    if truth is None or any(label is not None for _, label in samples[:1]):
        return _labelled(path, "webdataset", _by_label(samples))
    return _by_truth(path, read_apart(tar_images, shards), truth)


def _shards(path: Path) -> list[Path]:
    """The parquet or tar files that hold the images, none where they are in folders."""
    if path.is_file():
        return [path]
    return parquet_shards(path) or sorted(path for path in path.glob("*.tar") if path.is_file())


def _in_shards(shards: Sequence[Path]) -> Iterator[ImageFile]:
    if shards[0].suffix == ".tar":
        return read_apart(tar_images, shards)
    return (image for image, _ in read_apart(parquet_images, shards))


def _by_parts(file: ImageFile) -> list[str]:
    return file.name.split("/")


def _files_below(folder: Path, skipped: Counter[str]) -> Iterator[ImageFile]:
    """Images in the folder and those below it, through links too; `skipped` counts the other files by their suffix.

    A folder that holds the link which leads to it is not read again, nor one twice for the same class.
    """
    root = str(folder)
    above = {_identity(str(each)) for each in (folder.resolve(), *folder.resolve().parents)}
    seen = above
    for parent, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        inside = os.path.relpath(parent, root).replace(os.sep, "/")
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - fifty thousand Paths are slow
            if name.startswith(HIDDEN):
                skipped["hidden"] += 1
            elif suffix not in SUFFIXES:
                skipped[suffix or "without a suffix"] += 1
            else:
                yield ImageFile(os.path.join(parent, name), name if inside == "." else f"{inside}/{name}")  # noqa: PTH118
        if inside != "." and "/" not in inside:
            seen = {*above, _identity(parent)}  # of this class
        folders[:] = [name for name in folders if not name.startswith(HIDDEN)]
        identities = {name: _identity(os.path.join(parent, name)) for name in folders}  # noqa: PTH118
        folders[:] = [name for name in folders if identities[name] not in seen]
        if inside != ".":
            seen |= set(identities.values())


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> None:
    """What cannot be looked into is not left out in silence."""
    raise error


def _no_images(path: Path) -> UsageError:
    if path.is_file():
        return UsageError(f"{path} has no images in it", "name another")
    found = sorted(entry.name + ("/" if os.path.isdir(entry) else "") for entry in os.scandir(path))  # noqa: PTH112
    return UsageError(
        f"{path} has no images in it: looked for image files in it or in folders of classes, .tar and .parquet files,"
        f" found {few(found) if found else 'nothing'}",
        f"put files ending in {', '.join(sorted(SUFFIXES))} there",
    )


def _read_folder(folder: Path, classes: int, reading: Reading) -> ImageSet:
    images = _read_images(folder)
    names = sorted({file.name.split("/")[0] for file in images.files if "/" in file.name})
    if not names:
        truth = find_ground_truth(folder, classes)
        if truth:
            return replace(_by_truth(folder, images.files, truth), choices=images.choices)
        table = _table_near(folder)
        return by_table(images, read_label_table(table), classes, reading) if table else images
    loose = next((file for file in images.files if "/" not in file.name), None)
    if loose:
        raise UsageError(
            f"{folder} has class folders and also {loose.name} beside them", "move it into the folder of its class"
        )
    found = label_folders(names, classes, folder, reading)
    files = tuple(replace(file, label=found.label_of[file.name.split("/")[0]]) for file in images.files)
    choices = (*found.choices, *images.choices)
    return replace(
        images,
        files=files,
        labels=found.how,
        classes=len(names),
        choices=choices,
        test_set=found.test_set,
        among=found.among,
    )


def _table_near(folder: Path) -> Path | None:
    """What Hugging Face's and FiftyOne's folders, and Kaggle's competitions, have beside images."""
    places = (folder, folder.absolute().parent)
    return next((place / name for place in places for name in TABLES if (place / name).is_file()), None)


def _by_truth(path: Path, images: Iterable[ImageFile], truth: GroundTruth) -> ImageSet:
    files = sorted(images, key=_by_parts)
    labelled = (
        replace(file, label=truth.label_of(file.name, position, len(files))) for position, file in enumerate(files)
    )
    return _labelled(path, truth.how, labelled)


def _by_label(samples: Iterable[tuple[ImageFile, Label]]) -> Iterator[ImageFile]:
    wnids = wnid_classes()
    for image, label in samples:
        if isinstance(label, str) and label not in wnids:
            raise UsageError(
                f"{image.shown} has the label {label!r:.40}, expected a class index or a wnid", "write class indices"
            )
        yield replace(image, label=wnids[label] if isinstance(label, str) else label)


def _labelled(path: Path, how: str, images: Iterable[ImageFile]) -> ImageSet:
    """An image set of what carries its labels along, all of it or nothing."""
    files = tuple(images)
    if not files:
        raise _no_images(path)
    require_all(path, how, files)
    labels = {file.label for file in files}
    return ImageSet(str(path), files) if labels == {None} else ImageSet(str(path), files, how, len(labels))
