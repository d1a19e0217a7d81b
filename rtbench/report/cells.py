"""What the table and the Markdown report both say: columns, cells and notes."""

from __future__ import annotations

from collections.abc import Sequence

from rtbench.errors import counted
from rtbench.images import sample
from rtbench.records import Interval
from rtbench.records.measurement import Comparison, MlPerf
from rtbench.records.run import Row, Run
from rtbench.report.losses import accuracy_notes
from rtbench.review.builds import build_spreads, fastest_on_device
from rtbench.scores.baselines import is_reference
from rtbench.stats import LEAST_PROCESSES

HEADERS = (
    "row",
    "mean ms",
    "± 95 %",
    "p50",
    "p95",
    "p99",
    "top-1 %",
    "Δ top-1",
    "95 % of top-1",
    "top-5 %",
    "agree %",
    "MiB",
    "size score",
    "latency score",
    "accuracy score",
    "vs torch",
    "vs best torch",
)
SPARED = ("95 % of top-1", "p95", "top-5 %", "p99", "p50", "agree %", "vs best torch", "± 95 %", "Δ top-1")
"""Columns that are left out where there is no room, in this order."""
NOTHING = "-"


def cells(row: Row) -> dict[str, str]:
    """One row's cells by header; a figure that was not measured is a dash."""
    latency, accuracy, scores = row.latency, row.accuracy, row.scores
    return {
        "row": row.id,
        "mean ms": _number(latency.mean_ms if latency else None)
        + ("" if latency is None or latency.stable else " !")
        + (" #1" if row.leads else ""),
        "± 95 %": _half_width(latency.mean_ci95_ms if latency else None),
        "p50": _number(latency.p50_ms if latency else None),
        "p95": _number(latency.p95_ms if latency else None),
        "p99": _number(latency.p99_ms if latency else None),
        "top-1 %": _percent(accuracy.top1 if accuracy else None),
        "Δ top-1": _change(accuracy.difference.top1 if accuracy and accuracy.difference else None),
        "95 % of top-1": " to ".join(f"{100 * end:.1f}" for end in accuracy.top1_ci95) if accuracy else NOTHING,
        "top-5 %": _percent(accuracy.top5 if accuracy else None),
        "agree %": _percent(agreement(row)),
        "MiB": f"{row.artifact.size_bytes / 2**20:.2f}" if row.artifact else NOTHING,
        "size score": _score(scores.size if scores else None),
        "latency score": _score(scores.latency if scores else None)
        + ("*" if scores and scores.latency and not scores.on_baseline_hardware else ""),
        "accuracy score": _score(scores.accuracy if scores else None),
        "vs torch": _times(scores.speedup_vs_torch if scores else None),
        "vs best torch": _times(scores.speedup_vs_best_torch if scores else None),
    }


def with_figures(headers: Sequence[str], run: Run) -> list[str]:
    """The headers without that of the fastest torch row where this is torch/fp32."""
    compared = any(row.scores and row.scores.speedup_vs_best_torch for row in run.rows)
    return [header for header in headers if compared or header != "vs best torch"]


def heading(header: str, run: Run) -> str:
    """A column's name, by the framework of the models: `vs torch` or `vs tf`."""
    frameworks = {model.framework for model in run.models}
    return header.replace("torch", "tf") if frameworks == {"tensorflow"} else header


def reasons(run: Run) -> list[str]:
    """Why each row that has not ended well has not."""
    return [f"{row.id} {row.status}: {row.reason}" for row in run.rows if row.status != "ok"]


def agreement(row: Row) -> float | None:
    """With the model's own top-1: over the labelled images where fidelity saw no more, else over fidelity's."""
    accuracy, fidelity = row.accuracy, row.fidelity
    if accuracy and accuracy.agreement is not None and (fidelity is None or accuracy.images >= fidelity.images):
        return accuracy.agreement
    return fidelity.top1_agreement if fidelity else None


def notes(run: Run) -> list[str]:
    """What a reader must know to believe the table, most important first."""
    lines = [f"{row.id}: {warning}" for row in run.rows for warning in warnings_of(row)]
    lines += comparison_notes(run)
    lines += [*map(str, build_spreads(run.rows)), *fastest_on_device(run.rows)]
    lines += [*mlperf_notes(run), *interruption_notes(run), *accuracy_notes(run)]
    return [*lines, *background_notes(run)]


def mlperf_notes(run: Run) -> list[str]:
    return [_mlperf_note(row.id, row.mlperf) for row in run.rows if row.mlperf]


def interruption_notes(run: Run) -> list[str]:
    lines = [] if run.complete else ["This run was interrupted; it has what was measured until then."]
    if run.resumed:
        lines.append(f"This run was interrupted and resumed, the last time {run.resumed[-1]}.")
    return lines


def background_notes(run: Run) -> list[str]:
    """What scores, sizes, models, images and figures are."""
    lines = [_baseline_note(run)] if run.baseline else []
    lines += _size_notes(run)
    for index, model in enumerate(run.models):
        lines += [_model_note(run, index), *(f"Model {model.name}: {choice}." for choice in model.choices)]
    if run.dataset:
        lines += [_dataset_note(run), *(f"Images: {choice}." for choice in run.dataset.choices)]
    return [*lines, _environment_note(run)]


def warnings_of(row: Row) -> list[str]:
    found = list(row.warnings)
    if row.latency:
        found += [f"! unstable: {warning}" for warning in row.latency.warnings]
    if row.fidelity and not row.fidelity.judged:
        found.append(f"fidelity {row.fidelity.verdict}")
    if row.artifact and row.artifact.check and row.artifact.check.note:
        found.append(f"artifact {row.artifact.check.note}")
    return found


def comparison_notes(run: Run) -> list[str]:
    """Which rows lead, and how each compares with the reference row, as far as it is known."""
    torch = {row.id for row in run.rows if is_reference(row)}
    lines = [*lead_notes(run), *(_said(each) for each in run.comparisons if each.to in torch)]
    apart: dict[str, list[str]] = {}
    for row in run.rows:
        if row.latency and row.latency.disturbed:
            apart.setdefault(row.latency.disturbed, []).append(row.id)
    return lines + [f"{', '.join(rows)} not comparable: {why}." for why, rows in apart.items()]


def lead_notes(run: Run) -> list[str]:
    lead = [row.id for row in run.rows if row.leads]
    return [f"#1: no difference shown between {', '.join(lead)}."] if len(lead) > 1 else []


def _said(comparison: Comparison) -> str:
    interval = "" if comparison.ci95 is None else f" [{comparison.ci95[0]:.2f}, {comparison.ci95[1]:.2f}]"
    if comparison.verdict == "no difference shown":
        return f"{comparison.row} and {comparison.to}: no difference shown, {comparison.ratio:.2f}x{interval}."
    ratio = comparison.ratio if comparison.verdict == "faster" else 1 / comparison.ratio
    if comparison.verdict == "slower" and comparison.ci95:
        interval = f" [{1 / comparison.ci95[1]:.2f}, {1 / comparison.ci95[0]:.2f}]"
    return f"{comparison.row} is {ratio:.2f}x {comparison.verdict} than {comparison.to}{interval}."


def _mlperf_note(row_id: str, measured: MlPerf) -> str:
    return (
        f"{row_id}: MLPerf's load generator, single stream: {measured.verdict}, p90 {_number(measured.p90_ms)} ms,"
        f" at most {_number(measured.p90_bound_ms)} ms with 99 % confidence, {measured.queries} queries."
    )


def _baseline_note(run: Run) -> str:
    assert run.baseline
    base = run.baseline
    figures = [f"{base.latency_ms:.4g} ms", f"{base.size_mib:.4g} MiB"]
    if base.top1 is not None:
        figures.insert(1, f"top-1 {100 * base.top1:.2f} %")
    note = f"Scores (higher is better) are relative to {base.name}: {', '.join(figures)} on {base.hardware}."
    if base.classes and any(model.classes != base.classes for model in run.models):
        note += f" Accuracy scores are for its task alone, {base.classes} classes."
    if any(row.scores and not row.scores.on_baseline_hardware for row in run.rows):
        own = heading("vs torch", run)
        note += f" * not on baseline hardware: that score compares two machines, '{own}' compares runtimes on this one."
    return note


def _size_notes(run: Run) -> list[str]:
    """Whose file a PyTorch row's size is of."""
    named: dict[str, list[str]] = {}
    for row in run.rows:
        artifact = row.artifact
        if not artifact or artifact.format != "state_dict" or artifact.serialised_bytes == artifact.size_bytes:
            continue
        said = "its size is that of the state dict as rtbench saves it."
        if artifact.serialised_bytes is not None:
            saved = f"{artifact.serialised_bytes / 2**20:.2f} MiB"
            said = f"its size is that of the file given; saved by rtbench it has {saved}."
        named.setdefault(said, []).append(row.id)
    return [f"{', '.join(rows)}: {said}" for said, rows in named.items()]


def _model_note(run: Run, index: int) -> str:
    model = run.models[index]
    recipe = model.preprocessing
    grey = {"RGB": "", "BGR": " in BGR", "grey": " of one channel"}[recipe.colour_order]
    note = (
        f"Model {model.name}: {model.arch or 'architecture not known'}, {model.classes} classes, input"
        f" {recipe.size_text}{grey} from resize {recipe.resize} {recipe.interpolation} ({recipe.source})."
    )
    if model.random_weights:
        note += " Its weights are random: speed and size mean something, accuracy and fidelity do not."
    return note


def _dataset_note(run: Run) -> str:
    assert run.dataset
    data = run.dataset
    if not data.sample:
        labels = f", labels by {data.labels}" if data.labelled else ", without labels"
        return f"Images: {data.images} from {data.source}{labels}."
    note = f"Images: {data.images} of the built-in sample, scikit-image's photographs and crops of them."
    if run.models[0].arch == sample.ARCH and data.labelled:
        measured = next((row for row in run.rows if row.accuracy), None)
        interval = f" [{_range(measured.accuracy.top1_ci95)}]" if measured and measured.accuracy else ""
        note += (
            f" They show that every row works and agrees with the model. The {data.labelled} labelled ones are a"
            f" smoke test{interval}, too few for an accuracy or a score; give --data for that."
        )
    else:
        note += " They show agreement with the model, not accuracy; give --data with labelled images for that."
    return note


def _environment_note(run: Run) -> str:
    env = run.environment
    timed = next((row.latency for row in run.rows if row.latency), None)
    runs = ""
    if timed:
        runs = f", {counted(timed.runs, 'run')} a row in {counted(timed.rounds, 'interleaved round')}"
        runs += f" and {timed.processes} processes" if timed.processes > 1 else ""
    gpu = f", {env.gpu.name}" if env.gpu else ", no GPU"
    return (
        f"Batch 1, including host-device copies{runs}, {counted(env.threads, 'thread')} a row on {env.cpu}{gpu}."
        f" Mean ± 95 % is over {'processes' if timed and timed.processes >= LEAST_PROCESSES else 'rounds'},"
        " comparisons are of medians round by round."
        " agree % is how often top-1 is the model's."
    )


def _range(interval: Interval) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:#.4g}" if value < 1000 else f"{value:.0f}"


def _half_width(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{(interval[1] - interval[0]) / 2:.2g}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.2f}"


def _change(value: float | None) -> str:
    """A difference of fractions in points."""
    return NOTHING if value is None else f"{100 * value:+.2f}" if value else "0.00"


def _times(value: float | None) -> str:
    return f"{value:.2f}x" if value else NOTHING


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
