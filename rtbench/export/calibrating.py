"""Calibration images, decoded, as inputs of the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.images import preprocessing
from rtbench.images.image_set import spread_indices
from rtbench.records.model import Calibration, Preprocessing


@dataclass(frozen=True)
class Calibrating:
    record: Calibration
    pixels: Path
    recipe: Preprocessing

    @property
    def count(self) -> int:
        return self.record.images

    @property
    def made_from(self) -> dict[str, str]:
        return {
            "calibration": self.record.fingerprint,
            "calibration_method": self.record.method,
            "preprocessing": self.recipe.model_dump_json(exclude={"source"}),
        }

    def inputs(self, count: int | None = None) -> Iterator[NDArray[np.float32]]:
        """All of them, or `count` evenly spread, float32 (1, C, H, W)."""
        pixels = np.load(self.pixels, mmap_mode="r")
        for index in spread_indices(len(pixels), count or len(pixels)):
            yield preprocessing.normalise(pixels[index : index + 1], self.recipe)
