"""A run as Markdown."""

from __future__ import annotations

from rtbench.records import Run
from rtbench.report.cells import HEADERS, cells, notes


def render_markdown(run: Run) -> str:
    lines = [
        f"# rtbench: {_escaped(', '.join(model.name for model in run.models))}",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|---" + "|---:" * (len(HEADERS) - 1) + "|",
        *("| " + " | ".join(_escaped(cell) for cell in cells(row)) + " |" for row in run.rows),
        "",
        *(f"- {_escaped(note)}" for note in notes(run)),
        "",
        "| package | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in run.environment.packages.items()),
        "",
        f"Measured {run.created} with `{' '.join(run.command)}`.",
        "",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
