"""What changed between two runs and what the gate says of it, for the terminal and as Markdown."""

from __future__ import annotations

import json

from rich.console import Group
from rich.text import Text

from rtbench.report.cells import NOTHING
from rtbench.report.lines import aligned
from rtbench.report.markdown import code, escaped
from rtbench.report.visible import visible
from rtbench.review.diff import FIGURES, UNITS, Change, Diff, Figure, RowChange
from rtbench.review.gate import Decision, Gate

HEADERS = ("figure", "before", "after", "change", "95 %", "verdict")
RIGHT = (False, True, True, True, False, False)
COLOURS = {"better": "green", "worse": "red", "no difference shown": "", "not comparable": "dim"}
FORMS = {"latency": ("{:#.4g} ms", 1.0), "accuracy": ("{:.2f} %", 100.0), "size": ("{:.2f} MiB", 1 / 2**20)}


def render_diff(diff: Diff, gate: Gate | None = None) -> Group:
    """Each row's name and under it a line a figure, which fits 80 columns whatever the name; then the gate."""
    diff = visible(diff)
    compared = [(row, figure, change) for row in diff.rows for figure, change in _figures(row)]
    header, *lines = aligned([HEADERS, *(_cells(figure, change) for _, figure, change in compared)], RIGHT)
    shown = [Text(header, style="bold")]
    named = None
    for (row, _, change), line in zip(compared, lines, strict=True):
        if row is not named:
            shown.append(Text(row.id))
            named = row
        shown.append(Text(line, style=COLOURS[change.verdict]))
    shown += [Text(), *(Text(line) for line in [*_incomparable(diff), *_notes(diff)])]
    return Group(*shown, Text(), render_gate(gate)) if gate else Group(*shown)


def render_gate(gate: Gate) -> Group:
    gate = visible(gate)
    style = "bold green" if gate.verdict == "PASS" else "bold red"
    return Group(Text(f"Gate: {gate.verdict}", style=style), *(Text(line) for line in gate_lines(gate)))


def render_diff_markdown(diff: Diff, gate: Gate | None = None) -> str:
    diff, gate = visible(diff), visible(gate)
    lines = [f"| row | {' | '.join(HEADERS)} |", "|---|---|---:|---:|---:|---|---|"]
    for row in diff.rows:
        for figure, change in _figures(row):
            lines.append("| " + " | ".join([code(row.id), *map(escaped, _cells(figure, change))]) + " |")
    lines += ["", *(f"- {escaped(line)}" for line in [*_incomparable(diff), *_notes(diff)]), ""]
    if gate:
        lines += [f"**Gate: {gate.verdict}**", "", *(f"- {escaped(line)}" for line in gate_lines(gate)), ""]
    return "\n".join([*lines, f"<!-- rtbench diff, schema version {diff.schema_version} -->", ""])


def render_diff_json(diff: Diff, gate: Gate | None = None) -> str:
    """The diff as it is, with the gate's verdict under `gate`, null without budgets."""
    return json.dumps(diff.model_dump(mode="json") | {"gate": gate and gate.model_dump(mode="json")}, indent=2) + "\n"


def gate_lines(gate: Gate) -> list[str]:
    """For each budget the rows that exceed it, or else the one that is nearest to it; then what could not be judged."""
    lines: list[str] = []
    for figure in dict.fromkeys(each.figure for each in gate.decisions):
        exceeded = [each for each in gate.decisions if (each.figure, each.outcome) == (figure, "exceeded")]
        nearest = gate.deciding(figure)
        lines += [
            f"FAIL {_budget(each)}: {each.row} {_interval(each)},"
            f" worse by at least {100 * each.worse_by:.1f} {each.unit}"
            for each in exceeded
        ]
        if nearest and not exceeded:
            lines.append(f"PASS {_budget(nearest)}: nearest is {nearest.row}, {_interval(nearest)}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in gate.unjudged:
        reasons.setdefault((each.row, each.reason or "not measured in both"), []).append(each.figure)
    verdict = "FAIL" if gate.strict else "not judged"
    lines += [f"{verdict} {row}: {', '.join(figures)}: {reason}" for (row, reason), figures in reasons.items()]
    return lines


def _budget(decision: Decision) -> str:
    return f"{decision.figure}:{100 * decision.budget:g}{decision.unit}"


def _interval(decision: Decision) -> str:
    assert decision.change is not None
    assert decision.ci95 is not None
    low, high = (f"{100 * end:+.1f}" for end in decision.ci95)
    between = "" if decision.figure == "size" else f" [{low}, {high}]"
    return f"{100 * decision.change:+.1f} {decision.unit}{between}"


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
    if diff.side_by_side:
        how = (
            "Latency is the median; both sides were timed in the same rounds, and intervals are of the ratio by round."
        )
    else:
        how = "Latency is the median; its 95 % interval allows for the spread between runs, and verdicts for the number"
        how += " of rows. For changes below about 15 %, measure side by side: compare --against."
    return [*diff.notes, how]
