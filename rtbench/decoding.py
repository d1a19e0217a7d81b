"""What runs in a decoding process: encoded images in, crops written into the cache's file."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtbench.errors import UsageError
from rtbench.images import ImageFile
from rtbench.preprocessing import crop, pixel_type
from rtbench.records import Preprocessing


@dataclass(frozen=True)
class Decoded:
    """What became of one chunk of images: the SHA-256 of each one's bytes in turn, the CRC-32 of all
    their pixels, and why images (by place in the chunk) could not be read."""

    digests: bytes
    crc: int
    unreadable: dict[int, str]


class Decoder:
    def __init__(self, report: Callable[..., None]) -> None:
        pass

    def open(self, pixels: Path, header: int, recipe: Preprocessing) -> None:
        """Write crops into `pixels`, which has room for all of them after `header` bytes."""
        self._file = pixels.open("r+b", buffering=0)
        self._header, self._recipe = header, recipe
        side = recipe.input_size
        self._blank = np.zeros((side, side, 3), dtype=pixel_type(recipe))

    def decode(self, first: int, files: Sequence[ImageFile]) -> Decoded:
        """Decode a chunk of images whose first is number `first`. One that cannot be read is left black."""
        digests, crc, unreadable = b"", 0, {}
        for position, file in enumerate(files):
            content, pixels = b"", self._blank
            try:
                content = file.read()
                pixels = crop(file.decode(content), self._recipe)
            except OSError as error:
                unreadable[position] = f"{file.shown} cannot be read: {error.strerror}"
            except UsageError as error:
                unreadable[position] = error.message
            raw = pixels.tobytes()
            self._write(first + position, raw)
            digests += hashlib.sha256(content).digest()
            crc = zlib.crc32(raw, crc)
        return Decoded(digests, crc, unreadable)

    def _write(self, number: int, pixels: bytes) -> None:
        try:
            written = os.pwrite(self._file.fileno(), pixels, self._header + number * len(pixels))
        except OSError as error:
            raise UsageError(f"decoded images cannot be kept: {error.strerror}", "free some space") from None
        if written < len(pixels):
            raise UsageError("decoded images cannot be kept: the disk is full", "free some space or name a --cache-dir")
