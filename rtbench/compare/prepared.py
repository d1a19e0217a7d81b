"""A model prepared for a comparison, and where preparing puts things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.images.cache import CachedImages
from rtbench.images.image_set import ImageSet, spread_indices
from rtbench.measure.accuracy import Predictions
from rtbench.records.model import Artifact, Model
from rtbench.terms import Precision

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Place:
    """Where preparing puts things, and with how many threads it works."""

    engines: Path
    """Parent of the artifact folders."""
    folder: Path | None
    """The artifact folder itself, where the user named one."""
    cache: Path
    logs: Path
    threads: int
    timeout_s: float
    held: Path | None = None
    """Where artifacts that are measured are held under their hash."""


@dataclass(frozen=True)
class Prepared:
    """A model ready to be compared. `reference` has the model's own outputs for `fidelity_indices`."""

    model: Model
    folder: Path
    image_set: ImageSet
    images: CachedImages
    fidelity_indices: list[int]
    reference: NDArray[np.float32] | None
    artifacts: list[Artifact]
    failures: dict[tuple[str, Precision], str] = field(default_factory=dict)
    """By format, of an engine its recipe's label, and precision."""
    unavailable: dict[tuple[str, Precision], str] = field(default_factory=dict)
    own: Predictions | None = None
    """The model's own answers to the labelled images, where no row gives them."""

    def to_judge_by(self, most: int) -> tuple[list[int], NDArray[np.float32] | None]:
        """At most so many of `fidelity_indices`, evenly spread, and the model's own outputs for them."""
        chosen = spread_indices(len(self.fidelity_indices), most)
        indices = [self.fidelity_indices[position] for position in chosen]
        return indices, None if self.reference is None else self.reference[chosen]
