"""What the notes say of accuracy: what rows lose against their model, and on which images."""

from __future__ import annotations

from rtbench.records.measurement import Difference
from rtbench.records.run import Dataset, Row, Run

NAMED = 3
"""How many unreadable images and worst classes are named; `result.json` has them all."""


def accuracy_notes(run: Run) -> list[str]:
    lines = images_notes(run.dataset) if run.dataset else []
    return lines + [_loss(row, row.accuracy.difference) for row in run.rows if row.accuracy and row.accuracy.difference]


def images_notes(data: Dataset) -> list[str]:
    lines = []
    if data.available:
        lines.append(
            f"Only {data.images} of {data.available} images were used, evenly spread over the classes (--limit)."
        )
    if data.unreadable:
        named = "; ".join(data.unreadable[:NAMED]) + ("; …" if len(data.unreadable) > NAMED else "")
        lines.append(f"{len(data.unreadable)} of {data.images} images cannot be read and count as wrong: {named}.")
    return lines


def _loss(row: Row, difference: Difference) -> str:
    points = 100 * difference.top1
    low, high = (100 * end for end in difference.top1_ci95)
    if points < 0:
        said = f"loses {-points:.2f} points [{-high:.2f}, {-low:.2f}]"
    elif points > 0:
        said = f"gains {points:.2f} points [{low:.2f}, {high:.2f}]"
    else:
        said = f"shows no change [{low:.2f}, {high:.2f}]"
    note = (
        f"{row.id} {said} of top-1 against the model itself: {difference.lost} lost and {difference.gained} gained of"
        f" {difference.images} images, McNemar's exact p = {difference.mcnemar_p:.2g};"
        f" {difference.flipped} changed class"
    )
    worst = [
        f"{each.name} ({each.own_right} to {each.right} of {each.images})"
        for each in difference.worst_classes[:NAMED]
        if each.own_right - each.right > 1  # one image is not a pattern
    ]
    return f"{note}, most in {', '.join(worst)}." if worst else f"{note}."
