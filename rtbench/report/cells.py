"""What the table and the Markdown report both say: columns, cells and notes."""

from __future__ import annotations

from rtbench import sample
from rtbench.records import Interval, Row, Run

HEADERS = (
    "row",
    "mean ms",
    "± 95 %",
    "p50",
    "p99",
    "top-1 %",
    "agree %",
    "MiB",
    "size",
    "latency",
    "accuracy",
    "vs torch",
)
SCORES = HEADERS[8:11]
NOTHING = "-"


def cells(row: Row) -> tuple[str, ...]:
    """One row's cells in the order of HEADERS; a figure that was not measured is a dash."""
    latency, accuracy, scores = row.latency, row.accuracy, row.scores
    return (
        row.id,
        _number(latency.mean_ms if latency else None) + ("" if latency is None or latency.stable else " !"),
        _half_width(latency.mean_ci95_ms if latency else None),
        _number(latency.p50_ms if latency else None),
        _number(latency.p99_ms if latency else None),
        _percent(accuracy.top1 if accuracy else None),
        _percent(row.fidelity.top1_agreement if row.fidelity else None),
        f"{row.artifact.size_bytes / 2**20:.2f}" if row.artifact else NOTHING,
        _score(scores.size if scores else None),
        _score(scores.latency if scores else None)
        + ("*" if scores and scores.latency and not scores.on_baseline_hardware else ""),
        _score(scores.accuracy if scores else None),
        f"{scores.speedup_vs_torch:.2f}x" if scores and scores.speedup_vs_torch else NOTHING,
    )


def notes(run: Run) -> list[str]:
    """What a reader must know to believe the table, most important first."""
    lines = [f"{row.id} {row.status}: {row.reason}" for row in run.rows if row.status != "ok"]
    lines += [f"{row.id}: {warning}" for row in run.rows for warning in _warnings(row)]
    if not run.complete:
        lines.append("This run was interrupted; it has what was measured until then.")
    if run.baseline:
        lines.append(_baseline_note(run))
    lines += [_model_note(run, index) for index in range(len(run.models))]
    if run.dataset:
        lines.append(_dataset_note(run))
    lines.append(_environment_note(run))
    return lines


def _warnings(row: Row) -> list[str]:
    found = list(row.warnings)
    if row.latency:
        found += [f"! {warning}" for warning in row.latency.warnings]
    if row.fidelity and not row.fidelity.judged:
        found.append(f"fidelity {row.fidelity.verdict}")
    if row.artifact and row.artifact.check and row.artifact.check.note:
        found.append(f"artifact {row.artifact.check.note}")
    return found


def _baseline_note(run: Run) -> str:
    assert run.baseline
    base = run.baseline
    figures = [f"{base.latency_ms:.4g} ms", f"{base.size_mib:.4g} MiB"]
    if base.top1 is not None:
        figures.insert(1, f"top-1 {base.top1:.2%}")
    note = f"Scores (higher is better) are relative to {base.name}: {', '.join(figures)} on {base.hardware}."
    if any(row.scores and not row.scores.on_baseline_hardware for row in run.rows):
        note += (
            " * not on baseline hardware: that score compares two machines, 'vs torch' compares runtimes on this one."
        )
    return note


def _model_note(run: Run, index: int) -> str:
    model = run.models[index]
    recipe = model.preprocessing
    note = (
        f"Model {model.name}: {model.arch or 'architecture not known'}, {model.classes} classes, input"
        f" {recipe.input_size} from resize {recipe.resize} {recipe.interpolation} ({recipe.source})."
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
            f" smoke test{interval}: no accuracy that means anything, and so no score; give --data for that."
        )
    else:
        note += " They show agreement with the model, not accuracy; give --data with labelled images for that."
    return note


def _environment_note(run: Run) -> str:
    env = run.environment
    timed = next((row.latency for row in run.rows if row.latency), None)
    runs = f", {timed.runs} runs a row in {timed.rounds} interleaved rounds" if timed else ""
    gpu = f", {env.gpu.name}" if env.gpu else ", no GPU"
    return (
        f"Batch 1, host to host{runs}, {env.threads} threads a row on {env.cpu}{gpu}."
        " mean ± 95 % is over rounds; agree is top-1 agreement with the model."
    )


def _range(interval: Interval) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _half_width(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{(interval[1] - interval[0]) / 2:.2g}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.2f}"


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
