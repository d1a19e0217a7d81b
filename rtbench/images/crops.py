"""Crops of the cache, read by the processes that use them."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtbench.images.cropping import Pixels


class Crops:
    """A mapped file of crops, (N, H, W, C). What was read is let go of again: the pages stay in the
    system's cache, but fifty thousand images would otherwise count as 7 GB of this process."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._pixels: Pixels = np.frombuffer(self._map, dtype=kind, offset=file.tell()).reshape(shape)

    def take(self, indices: Sequence[int]) -> Pixels:
        """A copy of these crops, in this order."""
        taken: Pixels = self._pixels[list(indices)]
        self._map.madvise(mmap.MADV_DONTNEED)
        return taken
