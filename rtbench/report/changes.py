"""What changed between two runs, as a terminal table and as Markdown."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rtbench.diff import FIGURES, UNITS, Change, Diff, Figure
from rtbench.report.cells import NOTHING
from rtbench.report.markdown import code, escaped

HEADERS = ("row", "figure", "before", "after", "change", "95 %", "verdict")
COLOURS = {"better": "green", "worse": "red", "no difference shown": "", "not comparable": "dim"}
FORMS = {"latency": ("{:#.4g} ms", 1.0), "accuracy": ("{:.2f} %", 100.0), "size": ("{:.2f} MiB", 1 / 2**20)}


def render_diff(diff: Diff) -> Group:
    table = Table(box=None, pad_edge=False)
    for header in HEADERS:
        right = header in ("before", "after", "change")
        table.add_column(
            header, justify="right" if right else "left", overflow="fold", no_wrap=right or header == "row"
        )
    for row in diff.rows:
        for figure in FIGURES:
            change: Change = getattr(row, figure)
            name = row.id if figure == FIGURES[0] else ""
            table.add_row(*(Text(cell) for cell in (name, *_cells(figure, change))), style=COLOURS[change.verdict])
    return Group(table, Text(), *(Text(note) for note in _notes(diff)))


def render_diff_markdown(diff: Diff) -> str:
    lines = ["| " + " | ".join(HEADERS) + " |", "|---|---|---:|---:|---:|---|---|"]
    for row in diff.rows:
        for figure in FIGURES:
            cells = _cells(figure, getattr(row, figure))
            lines.append("| " + " | ".join([code(row.id), *map(escaped, cells)]) + " |")
    return "\n".join([*lines, "", *(f"- {escaped(note)}" for note in _notes(diff)), ""])


def _cells(figure: Figure, change: Change) -> tuple[str, ...]:
    verdict = change.verdict if change.reason is None else f"{change.verdict}: {change.reason}"
    form, scale = FORMS[figure]
    before, after = (
        NOTHING if value is None else form.format(scale * value) for value in (change.before, change.after)
    )
    if change.change is None or change.ci95 is None:
        return figure, before, after, NOTHING, NOTHING, verdict
    low, high = (f"{100 * end:+.1f}" for end in change.ci95)
    between = NOTHING if low == high else f"{low} to {high}"
    return figure, before, after, f"{100 * change.change:+.1f} {UNITS[figure]}", between, verdict


def _notes(diff: Diff) -> list[str]:
    return [
        *diff.notes,
        "Latency is the median, and its 95 % interval allows for the spread between runs. A verdict allows for the"
        f" number of rows too ({len(diff.rows)}).",
    ]
