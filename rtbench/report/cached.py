"""What the cache of decoded images holds, as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from rtbench.images.cache_entries import Entry
from rtbench.report.visible import visible


def render_entries(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in ("entry", "images", "source", "recipe", "MiB", "last used"):
        table.add_column(header, overflow="fold", justify="right" if header in ("images", "MiB") else "left")
    for entry in visible(entries):
        table.add_row(
            entry.path.name,
            f"{entry.images}" + ("" if entry.finished else " (unfinished)"),
            Text(entry.source),
            entry.geometry,
            f"{entry.size_bytes / 2**20:.0f}",
            f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d %H:%M}",
        )
    return table
