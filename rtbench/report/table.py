"""A run as a terminal table."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rtbench.records import Run
from rtbench.report.cells import HEADERS, cells, notes, reasons

COLOURS = {"ok": "", "unavailable": "dim", "failed": "red", "invalid": "red"}


def render_table(run: Run) -> Group:
    """The table of rows and under it the notes, to be printed by rich."""
    table = Table(title=f"{', '.join(model.name for model in run.models)}", box=None, pad_edge=False)
    for header in HEADERS:
        table.add_column(header, justify="left" if header == "row" else "right", no_wrap=True)
    for row in run.rows:
        table.add_row(*cells(row), style=COLOURS[row.status])
    lines = [*reasons(run), *notes(run)]
    return Group(table, Text(), *(Text(line) for line in lines))
