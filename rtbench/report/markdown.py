"""A run as Markdown that reads well in a pull request: the answer, the rows, and the rest folded away."""

from __future__ import annotations

import re
import shlex

from rtbench.records.run import Row, Run
from rtbench.report.cells import cells, heading, notes, with_figures
from rtbench.report.visible import visible
from rtbench.scores.recommendation import recommendation, rule

HEADERS = (
    *("mean ms", "± 95 %", "p99", "top-1 %", "Δ top-1", "agree %", "MiB"),
    *("size score", "latency score", "accuracy score", "vs torch", "vs best torch"),
)
SPECIAL = re.compile(r"[\\|*`\[\]<~]|#(?=\d)")
INSTEAD = {"<": "&lt;", "#": "#<!-- -->"}  # the latter would become a link to an issue


def render_markdown(run: Run) -> str:
    run = visible(run)
    headers = with_figures(HEADERS, run)
    lines = [
        f"### rtbench: {escaped(', '.join(model.name for model in run.models))}",
        "",
        f"**{escaped(recommendation(run).reason)}** {escaped(rule(run))}",
        "",
        f"| row | {' | '.join(heading(each, run) for each in headers)} |",
        "|---" + "|---:" * len(headers) + "|",
        *(_line(row, headers, row.id == recommendation(run).row) for row in run.rows),
        "",
        *_below(run),
        "<details><summary>Notes, environment, how to reproduce</summary>",
        "",
        *(f"- {escaped(note)}" for note in notes(run)),
        "",
        "| package | version |",
        "|---|---|",
        *(f"| {escaped(name)} | {escaped(version)} |" for name, version in run.environment.packages.items()),
        "",
        f"Measured {run.created} with",
        "",
        code_block(shlex.join(run.command)),
        "",
        "</details>",
        "",
    ]
    return "\n".join(lines)


def _line(row: Row, headers: list[str], recommended: bool) -> str:
    found = cells(row)
    name = code(row.id) + ("" if row.status == "ok" else f" {row.status}")
    name = f"**ship** {name}" if recommended else name
    return "| " + " | ".join([name, *(escaped(found[header]) for header in headers)]) + " |"


def _below(run: Run) -> list[str]:
    """Why rows have no figures, in sight."""
    bad = [row for row in run.rows if row.status != "ok"]
    lines = [f"- {code(row.id)} {row.status}: {escaped(row.reason or 'no reason was kept')}" for row in bad]
    return [*lines, ""] if lines else []


def escaped(text: str) -> str:
    """Text that stands in a Markdown table or list as it is."""
    return SPECIAL.sub(lambda found: INSTEAD.get(found[0], "\\" + found[0]), text)


def code(text: str) -> str:
    """A code span for a table; `torch/fp32#2` outside of one would become a link to an issue."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def code_block(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
