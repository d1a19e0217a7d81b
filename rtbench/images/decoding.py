"""What runs in a decoding process: encoded images in, crops written into the cache's file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtbench.errors import UsageError, visible_text
from rtbench.images.apart import bound_memory
from rtbench.images.cropping import Geometry, Pixels, crop, pixel_type
from rtbench.images.image_set import ImageFile, reason


@dataclass(frozen=True)
class Decoded:
    """What became of one chunk of images: how many encoded bytes each has and the CRC-32 of them, the CRC-32
    of all their pixels, and why images (by place in the chunk) could not be read."""

    contents: list[tuple[int, int]]
    crc: int
    unreadable: dict[int, str]


class Decoder:
    def __init__(self, report: Callable[..., None]) -> None:
        bound_memory()
        self._report = report

    def open(self, pixels: Path, header: int, geometry: Geometry) -> None:
        """Write crops into `pixels`, which has room for all of them after `header` bytes."""
        self._file = pixels.open("r+b", buffering=0)
        self._header, self._geometry = header, geometry
        self._blank = np.zeros(geometry.shape, dtype=pixel_type(geometry))

    def decode(self, first: int, files: Sequence[ImageFile], deadly: Mapping[int, str]) -> Decoded:
        """Decode a chunk of images whose first is number `first`. One that cannot be read is left black.

        `deadly` images (by place in the chunk) are not tried, for these reasons. Reports each place before it is tried.
        """
        contents, crc, unreadable = [], 0, {}
        for position, file in enumerate(files):
            self._report(position)
            content, pixels, why = b"", self._blank, deadly.get(position)
            if why is None:
                content, pixels, why = self._crop_of(file)
            if why is not None:
                unreadable[position] = visible_text(f"{file.shown} cannot be read: {why}")
            self._write(first + position, pixels)
            contents.append((len(content), zlib.crc32(content)))
            crc = zlib.crc32(pixels.data, crc)
        return Decoded(contents, crc, unreadable)

    def _crop_of(self, file: ImageFile) -> tuple[bytes, Pixels, str | None]:
        """The encoded bytes and the crop of one image, or why there is none."""
        content = b""
        try:
            content = file.read()
            return content, crop(file.decode(content), self._geometry), None
        except UsageError as error:
            return content, self._blank, error.message
        except Exception as error:  # noqa: BLE001 - one untrusted image, of which decoders raise anything
            return content, self._blank, reason(error)

    def _write(self, number: int, pixels: Pixels) -> None:
        try:
            written = os.pwrite(self._file.fileno(), pixels.data, self._header + number * pixels.nbytes)
        except OSError as error:
            raise UsageError(f"decoded images cannot be kept: {error.strerror}", "free some space") from None
        if written < pixels.nbytes:
            raise UsageError("decoded images cannot be kept: the disk is full", "free some space or name a --cache-dir")
