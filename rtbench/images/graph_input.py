"""What the input of a graph takes: which numbers, in which layout, by which scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3)
"""Of grey inputs, and of coloured ones."""


def channels_last(shape: Sequence[object]) -> bool:
    """Whether an input of four axes is (batch, height, width, channels), as TensorFlow's are."""
    return shape[3] in CHANNELS and shape[1] not in CHANNELS


class GraphInput:
    """`quantised`: scale and zero point of whole numbers that stand for others; without it they are pixels."""

    def __init__(self, kind: np.dtype[Any], *, channels_last: bool, quantised: tuple[float, int] | None = None) -> None:
        self._kind, self._channels_last, self._quantised = kind, channels_last, quantised

    def __str__(self) -> str:
        layout = f"{self._kind} {'NHWC' if self._channels_last else 'NCHW'}"
        if self._quantised is None:
            return layout
        scale, zero = self._quantised
        return f"{layout}, scale {scale:.6g}, zero point {zero}"

    def of(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """The batch, (N, C, H, W), as the graph takes it."""
        if self._channels_last:
            batch = batch.transpose(0, 2, 3, 1)
        if self._kind.kind in "iu":
            scale, zero = self._quantised or (1.0, 0)
            ends = np.iinfo(self._kind)
            batch = np.clip(np.rint(batch / np.float32(scale)) + zero, ends.min, ends.max)
        return np.ascontiguousarray(batch, dtype=self._kind)
