"""An image, wherever its bytes are, and a set of images in a fixed order."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from rtbench.errors import visible_text

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
"""What those suffixes stand for. Pillow knows forty more, some of which start other programs."""
MOST_PIXELS = 89_478_485
"""As many as Pillow itself takes without a warning: 0.4 GB in its memory, and some of that again while resizing."""
MOST_BYTES = 1 << 29
"""Of one encoded image, or one list of labels."""
MOST_DIGITS = 9
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image: a file, or a box of it (left, upper, right, lower in pixels).

    Fifty thousand of these are held at once and sent to other processes: nothing but short strings and
    numbers is kept.
    """

    path: str
    name: str
    label: int | None = None
    box: Box | None = None
    also: tuple[int, ...] = ()
    """Labels that are right too."""

    @property
    def place(self) -> tuple[int, ...]:
        """Where within the file at `path` the bytes are; nothing where they are the whole file."""
        return ()

    @property
    def shown(self) -> str:
        """How an error names it."""
        return self.path

    def read(self) -> bytes:
        """The encoded bytes; OSError where they cannot be had."""
        return read_bytes(self.path)

    def decode(self, content: bytes) -> Image.Image:
        """RGB pixels from the file's bytes. Raises whatever Pillow does where they are damaged, ValueError where they
        are no image of FORMATS or one of more than MOST_PIXELS."""
        try:
            image = Image.open(BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
        with image:
            require_size(*image.size)
            image.decodermaxblock = len(content)  # decoded at one go, not in pieces of 64 KiB
            rgb = as_rgb(image)
            rgb.load()
        return rgb.crop(self.box) if self.box else rgb


def read_bytes(path: str, offset: int = 0, size: int | None = None) -> bytes:
    """A file's bytes, or `size` of them from `offset`; OSError where it is not a regular file, which is never opened,
    or has too many or too few."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - fifty thousand Paths are slow
        raise OSError(0, "it is not a regular file")
    with open(path, "rb") as file:  # noqa: PTH123
        there = os.fstat(file.fileno()).st_size
        wanted = there if size is None else size
        if wanted > MOST_BYTES:
            raise OSError(0, f"it has {wanted:,} bytes, and {MOST_BYTES:,} are the most")
        if offset < 0 or wanted < 0 or offset + wanted > there:
            raise OSError(0, "the tar ends before the image does")
        file.seek(offset)
        return file.read(wanted)


def require_size(width: int, height: int) -> None:
    """ValueError where an image has more than MOST_PIXELS or none."""
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"{width:,} by {height:,} pixels, and {MOST_PIXELS:,} are the most")


def reason(error: Exception) -> str:
    """Why a file could not be read, on one line, whatever the library has raised and said."""
    if isinstance(error, OSError | ValueError):
        said = getattr(error, "strerror", None) or str(error)
    else:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return visible_text(" ".join(said.split()))[:200] or type(error).__name__


def class_index(text: str) -> int | None:
    """None where it is not a number, or of more digits than a class has: Python reads at most 4300 of them."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB: itself where it is that already, since Pillow would copy it. Greys of 16 bits keep their
    upper 8: Pillow's own conversion makes all but the darkest of them white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def as_grey(image: Image.Image) -> Image.Image:
    return image if image.mode == "L" else image.convert("L")


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order. `labels` says how labels were read; `classes` counts the different ones.

    `available`: how many there were before a subset of them was taken.
    """

    source: str
    files: tuple[ImageFile, ...]
    labels: str = "none"
    classes: int | None = None
    sample: bool = False
    available: int | None = None
    test_set: str | None = None
    """Which other test set of ImageNet's classes it is."""
    among: tuple[int, ...] = ()
    """The classes that answers are chosen among, where those are not all of the model's."""
    choices: tuple[str, ...] = ()
    """How it was read where it could be otherwise, and what was left out, in sentences."""

    def spread(self, count: int) -> ImageSet:
        """`count` of the images or all where there are no more, evenly spread, in the same order.

        Where all have labels, every class gives as many as every other to within one, as far as it has
        them, evenly spread over the class.
        """
        if count >= len(self.files):
            return self
        files = tuple(self.files[index] for index in self._spread_over_classes(count))
        classes = len({file.label for file in files}) if self.classes else None
        return replace(self, files=files, classes=classes, available=len(self.files))

    def _spread_over_classes(self, count: int) -> list[int]:
        by_class: dict[int, list[int]] = defaultdict(list)
        for index, file in enumerate(self.files):
            if file.label is None:
                return spread_indices(len(self.files), count)
            by_class[file.label].append(index)
        members = [by_class[label] for label in sorted(by_class)]
        return sorted(
            group[position]
            for group, share in zip(members, even_shares([len(group) for group in members], count), strict=True)
            for position in spread_indices(len(group), share)
        )

    def unlabelled(self) -> ImageSet:
        """The same images without their labels."""
        files = tuple(replace(file, label=None, also=()) for file in self.files)
        return replace(self, files=files, labels="none", classes=None, among=())

    @property
    def labelled(self) -> list[int]:
        """Indices of the images that have a label."""
        return [index for index, file in enumerate(self.files) if file.label is not None]


def spread_indices(total: int, count: int) -> list[int]:
    """At most `count` indices below `total`, evenly spread, increasing, the same every time."""
    if count >= total:
        return list(range(total))
    return [index * total // count for index in range(count)]


def even_shares(sizes: list[int], count: int) -> list[int]:
    """How many to take of groups of these sizes, `count` in all: alike to within one, as far as they go.

    Which groups give one more is evenly spread over those that can.
    """
    shares = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        able = [index for index, size in enumerate(sizes) if size > shares[index]]
        step = min(left // len(able), min(sizes[index] - shares[index] for index in able))
        chosen = able if step else [able[position] for position in spread_indices(len(able), left)]
        for index in chosen:
            shares[index] += step or 1
        left -= len(chosen) * (step or 1)
    return shares
