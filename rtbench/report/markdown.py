"""A run as Markdown."""

from __future__ import annotations

from rtbench.records import Run
from rtbench.report.cells import HEADERS, cells, notes, reasons


def render_markdown(run: Run) -> str:
    lines = [
        f"# rtbench: {escaped(', '.join(model.name for model in run.models))}",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|---" + "|---:" * (len(HEADERS) - 1) + "|",
        *("| " + " | ".join(escaped(cell) for cell in cells(row)) + " |" for row in run.rows),
        "",
        *(f"- {escaped(note)}" for note in [*reasons(run), *notes(run)]),
        "",
        "| package | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in run.environment.packages.items()),
        "",
        f"Measured {run.created} with `{' '.join(run.command)}`.",
        "",
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that stands in a Markdown table or list as it is."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
