"""What a terminal says under the table: a line for each cause, whatever the number of rows; reports have them all."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rtbench.records.run import Run
from rtbench.report import cells
from rtbench.report.losses import images_notes
from rtbench.review.builds import build_spreads, fastest_on_device

NAMED = 3
"""How many rows of one cause are named."""
NUMBER = re.compile(r"\d[\d.,]*")


def brief_reasons(run: Run) -> list[str]:
    """Why rows have not ended well."""
    pairs = ((row.id, f"{row.status}: {row.reason}") for row in run.rows if row.status != "ok")
    return by_cause(pairs, " ")


def brief_notes(run: Run) -> list[str]:
    """What a reader must know to believe the table, without what its columns and the answer say."""
    lines = by_cause(((row.id, warning) for row in run.rows for warning in cells.warnings_of(row)), ": ")
    lines += cells.lead_notes(run)
    lines += [*map(str, build_spreads(run.rows)), *fastest_on_device(run.rows)]
    lines += cells.mlperf_notes(run)
    lines += cells.interruption_notes(run)
    lines += images_notes(run.dataset) if run.dataset else []
    return [*lines, *cells.background_notes(run)]


def by_cause(said: Iterable[tuple[str, str]], between: str) -> list[str]:
    """A line for rows that say the same but for its numbers, which are then those of the first."""
    causes: dict[str, list[tuple[str, str]]] = {}
    for row, text in said:
        causes.setdefault(NUMBER.sub("#", text), []).append((row, text))
    lines = []
    for pairs in causes.values():
        rows = list(dict.fromkeys(row for row, _ in pairs))
        text = pairs[0][1]
        alike = all(each == text for _, each in pairs)
        lines.append(f"{names_of(rows)}{between}{text}{'' if alike else f' ({rows[0]})'}")
    return lines


def names_of(rows: list[str]) -> str:
    """`a, b, c and 4 other rows`."""
    more = len(rows) - NAMED
    return ", ".join(rows[:NAMED]) + (f" and {more} other row{'s' if more > 1 else ''}" if more > 0 else "")
