"""Top-1 and top-5 from predictions and labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtbench.records import Accuracy
from rtbench.stats import wilson_interval


def score_predictions(
    predictions: NDArray[np.int32], labels: NDArray[np.int32], reference: NDArray[np.int32] | None
) -> Accuracy:
    """Accuracy of `predictions`, (N, up to 5) classes with the largest output first.

    `reference`: the top-1 classes of the model's own row for the same images, for the agreement.
    """
    top1 = int((predictions[:, 0] == labels).sum())
    has_top5 = predictions.shape[1] == 5
    top5 = int((predictions == labels[:, None]).any(axis=1).sum())
    count = len(labels)
    return Accuracy(
        images=count,
        top1=top1 / count,
        top5=top5 / count if has_top5 else None,
        top1_ci95=wilson_interval(top1, count),
        top5_ci95=wilson_interval(top5, count) if has_top5 else None,
        agreement=float((predictions[:, 0] == reference).mean()) if reference is not None else None,
    )
