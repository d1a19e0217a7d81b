"""Top-1 and top-5 from predictions and labels, and what a row loses against the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rtbench.records.measurement import Accuracy, ClassLoss, Difference
from rtbench.stats import mcnemar_test, paired_interval, wilson_interval

TOP = 5
NO_CLASS = -1
WORST_CLASSES = 5

CPU_BATCH = {"torch": 4, "ort": 4, "tf": 4}
GPU_BATCH = 64
"""Images a batch where the user says nothing. Measured on two CPU cores: ONNX Runtime is 10 to 20 % faster
with 4 than with single images and no faster with more, its INT8 included. PyTorch gives its memory back and
takes it again where a batch is larger: EfficientNet-Lite0 takes twice as long an image with 8 as with 4."""


@dataclass(frozen=True)
class Predictions:
    """For each image the TOP classes, or fewer where there are fewer, largest output first, (N, TOP), and
    the probability of the first, (N,). An image without an answer has NO_CLASS throughout."""

    classes: NDArray[np.int32]
    confidences: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.classes)

    def first(self, count: int) -> Predictions:
        return Predictions(self.classes[:count], self.confidences[:count])

    @classmethod
    def none(cls, top: int) -> Predictions:
        return cls(np.empty((0, top), dtype=np.int32), np.empty(0, dtype=np.float32))

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions:
        classes = np.concatenate([part.classes for part in parts])
        return cls(classes, np.concatenate([part.confidences for part in parts]))

    @classmethod
    def unanswered(cls, count: int, top: int) -> Predictions:
        return cls(np.full((count, top), NO_CLASS, dtype=np.int32), np.zeros(count, dtype=np.float32))


def predict_batch(logits: NDArray[np.float32], among: Sequence[int] = ()) -> Predictions:
    """Predictions from outputs (N, classes), logits or probabilities; of equal outputs the lower class wins.

    `among`: the classes that are chosen among, where those are not all.
    """
    if among:
        found = predict_batch(logits[:, among])
        chosen = np.append(np.array(among, dtype=np.int32), np.int32(NO_CLASS))  # at -1
        return Predictions(chosen[found.classes], found.confidences)
    classes = np.argsort(-logits, axis=1, kind="stable")[:, :TOP].astype(np.int32)
    confidences = _probabilities(logits)[np.arange(len(logits)), classes[:, 0]]
    without = ~np.isfinite(logits).all(axis=1)
    classes[without], confidences[without] = NO_CLASS, 0
    return Predictions(classes, confidences)


def _probabilities(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
            return outputs
        raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        softened: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return softened


def score_predictions(
    predictions: Predictions,
    labels: NDArray[np.int32],
    own: Predictions | None,
    *,
    unreadable: int = 0,
    batch_size: int = 1,
    names: Mapping[int, str] = MappingProxyType({}),
) -> Accuracy:
    """Accuracy over the images that have predictions, which may be only the first of those labelled.

    `labels`: (N,), or (N, K) where several are right for an image, filled up with NO_CLASS; it counts as the first.

    `own`: the predictions of the model's own row, for what this one loses against it on the images that
    both have. `names` of classes. `unreadable` images are among the wrong ones.
    """
    count = len(predictions)
    labels = (labels if labels.ndim > 1 else labels[:, None])[:count]
    hits = _hits(predictions, labels)
    top1, top5 = int(hits[:, 0].sum()), int(hits.any(axis=1).sum())
    has_top5 = predictions.classes.shape[1] == TOP
    both = min(count, len(own)) if own else 0
    mine, theirs = predictions.first(both), own.first(both) if own else None
    return Accuracy(
        images=count,
        top1=top1 / count,
        top5=top5 / count if has_top5 else None,
        top1_ci95=wilson_interval(top1, count),
        top5_ci95=wilson_interval(top5, count) if has_top5 else None,
        agreement=float((mine.classes[:, 0] == theirs.classes[:, 0]).mean()) if theirs and both else None,
        unreadable=unreadable,
        batch_size=batch_size,
        difference=_difference(mine, theirs, labels[:both], names)
        if theirs is not None and both and own is not predictions
        else None,
    )


def _hits(predictions: Predictions, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which of the classes predicted are the label's. No label makes an image right that has no answer."""
    given = predictions.classes
    hits: NDArray[np.bool_] = (given[:, :, None] == labels[:, None, :]).any(axis=2) & (given != NO_CLASS)
    return hits


def _difference(mine: Predictions, own: Predictions, labels: NDArray[np.int32], names: Mapping[int, str]) -> Difference:
    right, own_right = _hits(mine, labels)[:, 0], _hits(own, labels)[:, 0]
    lost, gained = int((own_right & ~right).sum()), int((right & ~own_right).sum())
    return Difference(
        images=len(labels),
        top1=(gained - lost) / len(labels),
        top1_ci95=paired_interval(gained, lost, len(labels)),
        lost=lost,
        gained=gained,
        mcnemar_p=mcnemar_test(gained, lost),
        flipped=int(flipped(mine, own).sum()),
        worst_classes=_worst_classes(right, own_right, labels[:, 0], names),
    )


def flipped(mine: Predictions, own: Predictions) -> NDArray[np.bool_]:
    """Which images got another top-1 than from the model's own row; both of the same images."""
    differ: NDArray[np.bool_] = mine.classes[:, 0] != own.classes[:, 0]
    return differ


def _worst_classes(
    right: NDArray[np.bool_], own_right: NDArray[np.bool_], labels: NDArray[np.int32], names: Mapping[int, str]
) -> list[ClassLoss]:
    """The classes that lost most images on balance, at most WORST_CLASSES of those that lost any."""
    size = int(labels.max()) + 1
    images, kept, had = (
        np.bincount(labels, weights=weights, minlength=size).astype(int) for weights in (None, right, own_right)
    )
    order = sorted(range(size), key=lambda label: (kept[label] - had[label], label))
    return [
        ClassLoss(
            label=label,
            name=names.get(label, str(label)),
            images=int(images[label]),
            own_right=int(had[label]),
            right=int(kept[label]),
        )
        for label in order[:WORST_CLASSES]
        if kept[label] < had[label]
    ]
