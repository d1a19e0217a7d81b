"""Labels that a model's answers contradict in a way that has an explanation; pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_IMAGES = 8
BY_CHANCE = 3.0
"""Times what a guess would be right: below that, a model is right by chance."""
EXPLAINED = 0.5
"""Share of the images that an explanation must make right, and EXPLAINS times as many as are right without."""
EXPLAINS = 4.0
LEAST_OF_CLASS = 3

Indices = NDArray[np.int32]


def label_doubt(best: Indices, labels: Indices, classes: int) -> str | None:
    """A sentence where hardly any answer is right and another reading of the labels would make most of them right.

    `best`: the class of the largest output for each image, negative where there is none.
    """
    answered = best >= 0
    best, labels = best[answered], labels[answered]
    if len(best) < LEAST_IMAGES or classes < LEAST_OF_CLASS:
        return None
    right = float(np.mean(best == labels))
    if right > min(BY_CHANCE / classes, EXPLAINED / EXPLAINS):
        return None
    for explanation, share in (_by_offset(best, labels), _by_order(best, labels, classes), _by_any(best, labels)):
        if share >= EXPLAINED and share >= EXPLAINS * right:
            now, then = (f"{100 * each:.0f} %" for each in (right, share))
            return f"check the labels: {now} of the answers are right, and {then} would be if {explanation}"
    return None


def _by_offset(best: Indices, labels: Indices) -> tuple[str, float]:
    offsets, counts = np.unique(best - labels, return_counts=True)
    offset = int(offsets[np.argmax(counts)])
    return f"all labels were {abs(offset)} {'higher' if offset > 0 else 'lower'}; see --class-offset", float(
        counts.max() / len(best)
    )


def _by_order(best: Indices, labels: Indices, classes: int) -> tuple[str, float]:
    """Numbers sorted as text, and back."""
    by_text = np.argsort(np.array(sorted(range(classes), key=str)))
    shares = float(np.mean(best == by_text[labels])), float(np.mean(by_text[best] == labels))
    return "class folders were sorted the other way, as text or as numbers; see --class-order", max(shares)


def _by_any(best: Indices, labels: Indices) -> tuple[str, float]:
    """Each class answered as one other class, and no two as the same."""
    pairs = {}
    for label in np.unique(labels):
        answers = best[labels == label]
        if len(answers) >= LEAST_OF_CLASS:
            classes, counts = np.unique(answers, return_counts=True)
            pairs[int(label)] = int(classes[np.argmax(counts)]), int(counts.max())
    if len({answer for answer, _ in pairs.values()}) < len(pairs) or not pairs:
        return "", 0.0
    first, (answer, _) = next(iter(pairs.items()))
    share = sum(count for _, count in pairs.values()) / len(best)
    return f"the classes were in another order: images of class {first} are answered as class {answer}", share
