"""An image, wherever its bytes lie, and a set of images in a fixed order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from rtbench.errors import UsageError

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})
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

    @property
    def place(self) -> tuple[int, ...]:
        """Where within the file at `path` the bytes lie; nothing where they are the whole file."""
        return ()

    @property
    def shown(self) -> str:
        """How an error names it."""
        return self.path

    def read(self) -> bytes:
        """The encoded bytes; OSError where they cannot be had."""
        return Path(self.path).read_bytes()

    def decode(self, content: bytes) -> Image.Image:
        """RGB pixels from the file's bytes; raises UsageError, naming the file, where they are no image."""
        try:
            with Image.open(BytesIO(content)) as image:
                image.decodermaxblock = len(content)  # decoded at one go, not in pieces of 64 KiB
                rgb = as_rgb(image)
                rgb.load()
        except UnidentifiedImageError:
            raise UsageError(f"{self.shown} is no image", "remove or replace it") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(f"{self.shown} cannot be read as an image: {error}", "remove or replace it") from None
        if self.box:
            rgb = rgb.crop(self.box)
        return rgb


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB: itself where it is that already, since Pillow would copy it."""
    return image if image.mode == "RGB" else image.convert("RGB")


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
        files = tuple(replace(file, label=None) for file in self.files)
        return replace(self, files=files, labels="none", classes=None)

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
