"""A run as one self-contained HTML page: no request leaves it, and it says all that the run directory does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rtbench.errors import counted
from rtbench.records.run import Row, Run
from rtbench.report import charts, latency_charts
from rtbench.report.cells import NOTHING, agreement, heading, notes, with_figures
from rtbench.report.encodings import Spec
from rtbench.report.evidence import Evidence, Flips, flips
from rtbench.report.tidy_csv import figure_at
from rtbench.report.vega import library
from rtbench.scores.answer import pareto_front
from rtbench.scores.recommendation import recommendation, rule

SCORES = {"size": "Size score", "latency": "Latency score", "accuracy": "Accuracy score"}


@dataclass(frozen=True)
class Cell:
    """What a cell says, its interval, and what it is sorted by."""

    text: str
    value: float | None
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """A line of the score table: `cells` in the order of COLUMNS, or the reason that there are none."""

    row: Row
    cells: tuple[Cell, ...]
    flags: tuple[tuple[str, str], ...]
    shipped: bool


@dataclass(frozen=True)
class Column:
    """A figure of the score table: where it stands in `result.json`, times `scale`, and the same of its interval."""

    name: str
    meaning: str
    path: str
    form: str = ".2f"
    scale: float = 1.0
    interval: str | None = None
    interval_form: str = "#.4g"


MIB = 1 / 2**20
COLUMNS = (
    Column(
        "mean ms",
        "mean latency at batch 1, with its 95 % interval",
        "latency.mean_ms",
        "#.4g",
        interval="latency.mean_ci95_ms",
    ),
    Column("p50", "median latency, ms", "latency.p50_ms", "#.4g"),
    Column("p99", "99th percentile of latency, ms", "latency.p99_ms", "#.4g"),
    Column(
        "top-1 %",
        "share of labelled images whose first answer is right, with its 95 % interval",
        "accuracy.top1",
        scale=100,
        interval="accuracy.top1_ci95",
        interval_form=".1f",
    ),
    Column(
        "Δ top-1",
        "top-1 minus that of the model itself, in points, with its 95 % interval",
        "accuracy.difference.top1",
        "+.2f",
        scale=100,
        interval="accuracy.difference.top1_ci95",
        interval_form="+.1f",
    ),
    Column("agree %", "share of images with the model's own top-1", "fidelity.top1_agreement", scale=100),
    Column("MiB", "size of the artifact on disk", "artifact.size_bytes", scale=MIB),
    Column("size score", "baseline size over size", "scores.size"),
    Column("latency score", "baseline latency over mean latency", "scores.latency"),
    Column("accuracy score", "top-1 over the baseline's", "scores.accuracy"),
    Column(
        "vs torch",
        "how many times faster than the reference row, torch/fp32 or tf/fp32, from the rounds that both were timed in",
        "scores.speedup_vs_torch",
        interval="scores.speedup_ci95",
        interval_form=".2f",
    ),
    Column(
        "vs best torch",
        "how many times faster than the fastest torch row, a variant",
        "scores.speedup_vs_best_torch",
    ),
)


def render_html(run: Run, evidence: Evidence) -> str:
    """The page, with the charting library inlined from its installed package."""
    flipped = {row.id: found for row in run.rows if (found := flips(run, row, evidence))}
    specs = _specs(run, evidence, flipped)
    names = with_figures([column.name for column in COLUMNS], run)
    columns = [replace(column, name=heading(column.name, run)) for column in COLUMNS if column.name in names]
    return render_page(
        "report.html",
        title=f"rtbench: {', '.join(model.name for model in run.models)}",
        run=run,
        answer=recommendation(run).reason,
        rule=rule(run),
        sure=_sampled(run),
        columns=columns,
        lines=[_line(run, row, columns) for row in run.rows],
        notes=notes(run),
        specs=specs,
        timed=[(index, row) for index, row in enumerate(run.rows) if f"time-{index}" in specs],
        flipped=[(index, row, flipped[row.id]) for index, row in enumerate(run.rows) if row.id in flipped],
        scores=[(name, title) for name, title in SCORES.items() if f"score-{name}" in specs],
        observed=[row for row in run.rows if row.startup or row.conditions],
        compared=any(row.id in evidence.predictions for row in run.rows),
        command=shlex.join(run.command),
        shown_samples=latency_charts.SHOWN_SAMPLES,
        shown_classes=charts.SHOWN_CLASSES,
    )


def _sampled(run: Run) -> str:
    """How much the latencies rest on, at a glance."""
    timed = [row.latency for row in run.rows if row.latency]
    if not timed:
        return ""
    least = min(timed, key=lambda each: each.runs)
    processes = f" in {least.processes} processes" if least.processes > 1 else ""
    most = max(each.disturbed_rounds for each in timed)
    calm = f"{counted(most, 'round') if most else 'no round'} disturbed"
    return f"{counted(least.runs, 'timed run')} a row{processes}, {calm}"


def render_page(template: str, **values: Any) -> str:
    """A page from a template of this package, with Vega-Lite inlined."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("rtbench.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    return environment.get_template(template).render(library=library(), **values)


def _specs(run: Run, evidence: Evidence, flipped: dict[str, list[Flips]]) -> dict[str, Spec]:
    """The charts that this run has figures for, by the id of the place where each is drawn."""
    found = {
        "front": charts.front_chart(run),
        "quantiles": latency_charts.quantile_chart(run, evidence),
        "stages": charts.stage_chart(run),
        **{f"score-{score}": charts.score_chart(run, score) for score in SCORES},
    }
    starts = [int(block.starts_ns[0]) for blocks in evidence.blocks.values() for block in blocks]
    for index, row in enumerate(run.rows):
        if row.latency and row.id in evidence.blocks:
            blocks = evidence.blocks[row.id]
            found[f"histogram-{index}"] = latency_charts.histogram(blocks)
            found[f"time-{index}"] = latency_charts.time_chart(blocks, min(starts))
        if row.id in flipped:
            found[f"flips-{index}"] = charts.flips_chart(flipped[row.id])
    return {name: spec for name, spec in found.items() if spec}


def _line(run: Run, row: Row, columns: Sequence[Column]) -> Line:
    flags = []
    if row.id == recommendation(run).row and len(run.rows) > 1:
        flags.append(("ship", "the answer above"))
    if row.status == "ok" and row in pareto_front(run):
        flags.append(("front", "on the Pareto front"))
    if row.leads and sum(each.leads for each in run.rows) > 1:
        flags.append(("#1", "no difference to the fastest row is shown"))
    if row.status != "ok":
        flags.append((row.status, row.reason or ""))
    if row.latency and not row.latency.stable:
        flags.append(("unstable", "; ".join(row.latency.warnings)))
    return Line(row, _cells(row, columns), tuple(flags), row.id == recommendation(run).row)


def _cells(row: Row, columns: Sequence[Column]) -> tuple[Cell, ...]:
    if not (row.latency or row.accuracy or row.fidelity or row.scores):
        return ()
    record = row.model_dump()
    cells = []
    for column in columns:
        value = agreement(row) if column.name == "agree %" else figure_at(record, column.path)
        if value is None:
            cells.append(Cell(NOTHING, None))
            continue
        other = column.path == "scores.latency" and not record["scores"]["on_baseline_hardware"]
        text = f"{value * column.scale:{column.form}}{' *' if other else ''}"
        ends = figure_at(record, column.interval) if column.interval else None
        between = " to ".join(f"{end * column.scale:{column.interval_form}}" for end in ends) if ends else ""
        cells.append(Cell(text, value * column.scale, between))
    return tuple(cells)
