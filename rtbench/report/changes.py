"""What changed between two runs, for the terminal and as Markdown."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from rtbench.report.cells import NOTHING
from rtbench.report.lines import aligned
from rtbench.report.markdown import code, escaped
from rtbench.review.diff import FIGURES, UNITS, Change, Diff, Figure, RowChange

HEADERS = ("figure", "before", "after", "change", "95 %", "verdict")
RIGHT = (False, True, True, True, False, False)
COLOURS = {"better": "green", "worse": "red", "no difference shown": "", "not comparable": "dim"}
MS = ("{:#.4g} ms", 1.0)
FORMS = {"latency": MS, "p10": MS, "accuracy": ("{:.2f} %", 100.0), "size": ("{:.2f} MiB", 1 / 2**20)}


def render_diff(diff: Diff) -> Group:
    """Each row's name and under it a line a figure, which fits 80 columns whatever the name."""
    compared = [(row, figure, change) for row in diff.rows for figure, change in _figures(row)]
    header, *lines = aligned([HEADERS, *(_cells(figure, change) for _, figure, change in compared)], RIGHT)
    shown = [Text(header, style="bold")]
    named = None
    for (row, _, change), line in zip(compared, lines, strict=True):
        if row is not named:
            shown.append(Text(row.id))
            named = row
        shown.append(Text(line, style=COLOURS[change.verdict]))
    return Group(*shown, Text(), *(Text(line) for line in [*_incomparable(diff), *_notes(diff)]))


def render_diff_markdown(diff: Diff) -> str:
    lines = [f"| row | {' | '.join(HEADERS)} |", "|---|---|---:|---:|---:|---|---|"]
    for row in diff.rows:
        for figure, change in _figures(row):
            lines.append("| " + " | ".join([code(row.id), *map(escaped, _cells(figure, change))]) + " |")
    return "\n".join([*lines, "", *(f"- {escaped(line)}" for line in [*_incomparable(diff), *_notes(diff)]), ""])


def _figures(row: RowChange) -> list[tuple[Figure, Change]]:
    """The figures that can be compared."""
    every: list[tuple[Figure, Change]] = [(figure, getattr(row, figure)) for figure in FIGURES]
    return [(figure, change) for figure, change in every if change.verdict != "not comparable"]


def _cells(figure: Figure, change: Change) -> tuple[str, ...]:
    form, scale = FORMS[figure]
    before, after = (
        NOTHING if value is None else form.format(scale * value) for value in (change.before, change.after)
    )
    assert change.change is not None
    assert change.ci95 is not None
    low, high = (f"{100 * end:+.1f}" for end in change.ci95)
    between = "exact" if figure == "size" else f"[{low}, {high}]"
    return figure, before, after, f"{100 * change.change:+.1f} {UNITS[figure]}", between, change.verdict


def _incomparable(diff: Diff) -> list[str]:
    """A sentence for each row of which not everything can be compared, one for figures of the same reason."""
    sentences = []
    for row in diff.rows:
        reasons: dict[str, list[Figure]] = {}
        for figure in FIGURES:
            change: Change = getattr(row, figure)
            if change.verdict == "not comparable" and change.reason:
                reasons.setdefault(change.reason, []).append(figure)
        for reason, figures in reasons.items():
            which = "" if len(figures) == len(FIGURES) else f" {' and '.join(figures)}"
            sentences.append(f"{row.id}{which} not comparable: {reason}.")
    return sentences


def _notes(diff: Diff) -> list[str]:
    return [
        *diff.notes,
        "Latency is the median, p10 the 10th percentile; their 95 % intervals allow for the spread between runs. A"
        " verdict allows for the number of rows too.",
    ]
