"""Lines of the CSV files in a run directory, which a kill may have cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path


def file_name(row: str) -> str:
    """A row's id as a file name: `ort:cpu/int8` is `ort-cpu-int8`."""
    return "".join(char if char.isalnum() or char in "._" else "-" for char in row)


def whole_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file, none where it is missing; one that a kill has cut is left out."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole, newline="")))


def line_of(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
