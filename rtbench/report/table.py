"""A run as a terminal table."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from rtbench.records.run import Row, Run
from rtbench.report.brief import brief_notes, brief_reasons
from rtbench.report.cells import HEADERS, SPARED, cells, heading, notes, reasons, with_figures
from rtbench.report.visible import visible
from rtbench.runtimes import misplaced
from rtbench.scores.recommendation import recommendation

COLOURS = {"ok": "", "unavailable": "dim", "failed": "red", "invalid": "red"}
GAP = 2


class RunTable:
    """The answer, the rows in as many columns as there is room for, and the notes, all of them where `detailed`; for
    rich to print."""

    def __init__(self, run: Run, *, detailed: bool = False) -> None:
        self._run, self._detailed = run, detailed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(recommendation(self._run).reason, style="bold")
        yield Text()
        yield self._table(options.max_width)
        yield Text()
        about = (reasons, notes) if self._detailed else (brief_reasons, brief_notes)
        for line in (line for each in about for line in each(self._run)):
            yield Text(line)

    def _table(self, width: int) -> Table:
        rows = [cells(row) for row in self._run.rows]
        for row, record in zip(rows, self._run.rows, strict=True):
            row["row"] = ("> " if record.id == recommendation(self._run).row else "") + row["row"]
        needs = {
            header: max([*map(len, self._heading(header).split("\n")), *(len(row[header]) for row in rows)])
            for header in HEADERS
        }
        shown = with_figures(HEADERS, self._run)
        for spared in SPARED:
            if sum(needs[header] + GAP for header in shown) - GAP <= width:
                break
            if spared in shown:
                shown.remove(spared)
        table = Table(
            title=", ".join(model.name for model in self._run.models), title_justify="left", box=None, pad_edge=False
        )
        for header in shown:
            if header == "row":
                table.add_column(header, overflow="fold")
            else:
                table.add_column(self._heading(header), justify="right", no_wrap=True, min_width=needs[header])
        for row, record in zip(rows, self._run.rows, strict=True):
            style = "red" if _ran_elsewhere(record) else COLOURS[record.status]
            table.add_row(*(Text(row[header]) for header in shown), style=style)
        return table

    def _heading(self, header: str) -> str:
        """On two lines where the second word would make the column wide."""
        broken = header.endswith((" score", " torch")) or header.startswith("Δ")
        name = heading(header, self._run)
        return name.replace(" ", "\n") if broken else name


def _ran_elsewhere(row: Row) -> bool:
    """Whether convolutions or matrix products were given to another provider, or in an INT8 row ran in FP32."""
    in_fp32 = row.layers.get("FP32", {}).get("products", 0) if row.precision == "int8" else 0
    return in_fp32 > 0 or bool(misplaced(row.placement, (row.provider or "").partition(" ")[0]))


def render_table(run: Run, *, detailed: bool = False) -> RunTable:
    """The table of rows and under it the notes, to be printed by rich: a line for each cause, or all of them."""
    return RunTable(visible(run), detailed=detailed)
