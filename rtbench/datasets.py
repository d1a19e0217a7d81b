"""Where images and their labels come from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from rtbench.errors import UsageError

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ImageFile:
    """One image: a file, or a box of it (left, upper, right, lower in pixels)."""

    path: Path
    name: str
    label: int | None = None
    box: Box | None = None

    def decode(self, content: IO[bytes]) -> Image.Image:
        """RGB pixels from the file's bytes; raises UsageError, naming the file, where they are no image."""
        try:
            with Image.open(content) as image:
                rgb: Image.Image = image.convert("RGB")
        except UnidentifiedImageError:
            raise UsageError(f"{self.path} is no image", "remove or replace it") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{self.path} cannot be read as an image: {error}", "remove or replace it") from None
        if self.box:
            rgb = rgb.crop(self.box)
        return rgb


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order. `labels` says how labels were read; `classes` is the number of folders."""

    source: str
    files: tuple[ImageFile, ...]
    labels: str = "none"
    classes: int | None = None
    sample: bool = False

    def spread(self, count: int) -> ImageSet:
        """`count` of the images, evenly spread over the order, or all where there are no more."""
        return replace(self, files=tuple(self.files[i] for i in spread_indices(len(self.files), count)))

    def unlabelled(self) -> ImageSet:
        """The same images without their labels."""
        return replace(self, files=tuple(replace(file, label=None) for file in self.files), labels="none")

    @property
    def labelled(self) -> list[int]:
        """Indices of the images that have a label."""
        return [index for index, file in enumerate(self.files) if file.label is not None]


def spread_indices(total: int, count: int) -> list[int]:
    """At most `count` indices below `total`, evenly spread, increasing, the same every time."""
    if count >= total:
        return list(range(total))
    return [index * total // count for index in range(count)]


def imagenet_wnids() -> list[str]:
    """The 1000 WordNet ids of ImageNet-1k in class order."""
    return (resources.files("rtbench") / "data" / "imagenet_wnids.txt").read_text(encoding="ascii").split()


def read_images(folder: Path) -> ImageSet:
    """Every image below a folder, unlabelled, in the order of their paths."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name a folder of images")
    paths = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    )
    if not paths:
        raise UsageError(f"{folder} has no images in it", f"put files ending in {', '.join(sorted(SUFFIXES))} there")
    return ImageSet(str(folder), tuple(ImageFile(path, path.relative_to(folder).as_posix()) for path in paths))


def read_labelled(folder: Path, classes: int) -> ImageSet:
    """The images below a folder, labelled by the folders they lie in where there are such.

    Folders are read as wnids (`n01440764`), as class indices (`0` … `999`), or by any names in sorted
    order where there are exactly `classes` of them, the number of the model's outputs. Images that lie
    directly in `folder` have no labels: fidelity is measured on them, accuracy is not.
    """
    images = read_images(folder)
    names = sorted({file.name.split("/")[0] for file in images.files if "/" in file.name})
    if not names:
        return images
    loose = next((file for file in images.files if "/" not in file.name), None)
    if loose:
        raise UsageError(
            f"{folder} has class folders and also {loose.name} beside them", "move it into the folder of its class"
        )
    how, label_of = _label_folders(names, classes, folder)
    files = tuple(replace(file, label=label_of[file.name.split("/")[0]]) for file in images.files)
    return replace(images, files=files, labels=how, classes=len(names))


def _label_folders(names: list[str], classes: int, folder: Path) -> tuple[str, dict[str, int]]:
    wnids = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
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
