"""The commands that read run directories and measure nothing: report, diff, history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtbench.cli.options import Output, option
from rtbench.cli.output import complain, deliver, is_verbose, say, show
from rtbench.terms import DiffFormat, HistoryFormat, ReportFormat, RunFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from rtbench.records.run import Run
    from rtbench.review.diff import Figure


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    format: Annotated[ReportFormat, option("--format", help="How to render it.")] = "table",
    output: Output = None,
) -> None:
    """Render a finished run again, without measuring.

    Example: rtbench report runs/20261124-120000-resnet18 --format markdown
    """
    from rtbench.report.evidence import read_evidence
    from rtbench.report.html import render_html
    from rtbench.runs.result import read_run

    record = read_run(run)
    if format == "html":
        deliver(render_html(record, read_evidence(run, record)), output)
    else:
        deliver(rendered(record, format), output)


def rendered(run: Run, format: RunFormat) -> RenderableType:
    from rtbench.report.markdown import render_markdown
    from rtbench.report.table import render_table
    from rtbench.report.tidy_csv import render_csv

    match format:
        case "table":
            return render_table(run, detailed=is_verbose())
        case "markdown":
            return render_markdown(run)
        case "csv":
            return render_csv(run)
        case "json":
            return run.model_dump_json(indent=2) + "\n"


def show_changes(before: Path, after: Path, budgets: Mapping[Figure, float], format: RunFormat, *, strict: bool) -> int:
    """Print what changed since an earlier run, and what the gate says of it, as an exit code; on stderr where stdout
    has a report for programs."""
    from rtbench.report.changes import render_diff
    from rtbench.report.console import plain_text
    from rtbench.review.diff import diff as find_changes
    from rtbench.review.gate import judge
    from rtbench.review.sides import read_side

    found = find_changes(read_side(before), read_side(after))
    gate = judge(found, budgets, strict=strict) if budgets else None
    changes = render_diff(found, gate)
    if format == "table":
        show(changes)
    else:
        for line in plain_text(changes).splitlines():
            complain(line)
    return int(gate is not None and gate.verdict == "FAIL")


def diff(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", help="The earlier run's directory, or a folder of repeated runs.")
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The later run's.")],
    fail_on: Annotated[
        str | None,
        option("--fail-on", help="Exit 1 past these budgets, as latency:5%,accuracy:0.5pp,size:1%.", metavar="BUDGETS"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a budget cannot be judged too.")] = False,
    format: Annotated[DiffFormat, option("--format", help="How to render it.")] = "table",
    output: Output = None,
) -> None:
    """Say row by row what changed between two runs, and whether the difference is real.

    Example: rtbench diff runs/before runs/after --fail-on latency:5%,accuracy:0.5pp
    """
    from rtbench.report.changes import render_diff, render_diff_json, render_diff_markdown, render_gate
    from rtbench.review.diff import diff as compare_runs
    from rtbench.review.gate import judge, parse_budgets
    from rtbench.review.sides import read_side

    budgets = parse_budgets(fail_on) if fail_on is not None else {}
    found = compare_runs(read_side(run_a), read_side(run_b))
    gate = judge(found, budgets, strict=strict) if budgets else None
    match format:
        case "table":
            deliver(render_diff(found, gate), output)
        case "markdown":
            deliver(render_diff_markdown(found, gate), output)
        case "json":
            deliver(render_diff_json(found, gate), output)
    if gate and output:
        show(render_gate(gate))
    if gate and gate.verdict == "FAIL":
        raise typer.Exit(1)


def history(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of run directories, at any depth.")] = Path(
        "runs"
    ),
    format: Annotated[HistoryFormat, option("--format", help="How to render it.")] = "table",
    output: Output = None,
) -> None:
    """List all runs under a folder over time, with the changes between them that are real.

    Example: rtbench history runs --format html --output history.html
    """
    from rtbench.report.trends import render_history, render_history_page
    from rtbench.review.history import history as read_history

    found = read_history(folder)
    for sentence in found.skipped:
        say(f"skipped: {sentence}")
    match format:
        case "table":
            deliver(render_history(found), output)
        case "html":
            deliver(render_history_page(found), output)
        case "json":
            deliver(found.model_dump_json(indent=2) + "\n", output)
