"""What the input of a graph takes: which numbers, in which layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class GraphInput:
    def __init__(self, kind: np.dtype[Any], *, channels_last: bool) -> None:
        self._kind, self._channels_last = kind, channels_last

    def __str__(self) -> str:
        return f"{self._kind} {'NHWC' if self._channels_last else 'NCHW'}"

    def of(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """The batch, (N, C, H, W), as the graph takes it; pixels are whole numbers."""
        if self._kind == np.uint8:
            batch = np.rint(batch)
        if self._channels_last:
            batch = batch.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(batch, dtype=self._kind)
