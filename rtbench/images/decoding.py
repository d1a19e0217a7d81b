"""What runs in a decoding process: encoded images in, crops written into the cache's file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtbench.errors import UsageError
from rtbench.images.cropping import Geometry, Pixels, crop, pixel_type
from rtbench.images.image_set import ImageFile


@dataclass(frozen=True)
class Decoded:
    """What became of one chunk of images: how many encoded bytes each has and the CRC-32 of them, the CRC-32
    of all their pixels, and why images (by place in the chunk) could not be read."""

    contents: list[tuple[int, int]]
    crc: int
    unreadable: dict[int, str]


class Decoder:
    def __init__(self, report: Callable[..., None]) -> None:
        pass

    def open(self, pixels: Path, header: int, geometry: Geometry) -> None:
        """Write crops into `pixels`, which has room for all of them after `header` bytes."""
        self._file = pixels.open("r+b", buffering=0)
        self._header, self._geometry = header, geometry
        side = geometry.input_size
        self._blank = np.zeros((side, side, 3), dtype=pixel_type(geometry))

    def decode(self, first: int, files: Sequence[ImageFile]) -> Decoded:
        """Decode a chunk of images whose first is number `first`. One that cannot be read is left black."""
        contents, crc, unreadable = [], 0, {}
        for position, file in enumerate(files):
            content, pixels = b"", self._blank
            try:
                content = file.read()
                pixels = crop(file.decode(content), self._geometry)
            except OSError as error:
                unreadable[position] = f"{file.shown} cannot be read: {error.strerror}"
            except UsageError as error:
                unreadable[position] = error.message
            self._write(first + position, pixels)
            contents.append((len(content), zlib.crc32(content)))
            crc = zlib.crc32(pixels.data, crc)
        return Decoded(contents, crc, unreadable)

    def _write(self, number: int, pixels: Pixels) -> None:
        try:
            written = os.pwrite(self._file.fileno(), pixels.data, self._header + number * pixels.nbytes)
        except OSError as error:
            raise UsageError(f"decoded images cannot be kept: {error.strerror}", "free some space") from None
        if written < pixels.nbytes:
            raise UsageError("decoded images cannot be kept: the disk is full", "free some space or name a --cache-dir")
