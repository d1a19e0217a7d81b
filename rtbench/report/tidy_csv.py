"""A run as CSV: one row a row, units in the header, every figure in full."""

from __future__ import annotations

import csv
import io
from typing import Any

from rtbench.records.run import Run
from rtbench.report.visible import visible
from rtbench.scores.recommendation import recommendation

COLUMNS = {
    "row": "id",
    "model": "model",
    "runtime": "runtime",
    "provider": "provider",
    "device": "device",
    "precision": "precision",
    "status": "status",
    "reason": "reason",
    "recommended": "recommended",
    "format": "artifact.format",
    "size_bytes": "artifact.size_bytes",
    "runs": "latency.runs",
    "processes": "latency.processes",
    "mean_ms": "latency.mean_ms",
    "mean_ci95_low_ms": "latency.mean_ci95_ms.0",
    "mean_ci95_high_ms": "latency.mean_ci95_ms.1",
    "std_ms": "latency.std_ms",
    "min_ms": "latency.min_ms",
    "p50_ms": "latency.p50_ms",
    "p90_ms": "latency.p90_ms",
    "p90_bound_ms": "latency.p90_bound_ms",
    "p95_ms": "latency.p95_ms",
    "p99_ms": "latency.p99_ms",
    "max_ms": "latency.max_ms",
    "device_mean_ms": "latency.device_mean_ms",
    "warmup_runs": "latency.warmup_runs",
    "settled": "latency.settled",
    "stable": "latency.stable",
    "disturbed_rounds": "latency.disturbed_rounds",
    "disturbed": "latency.disturbed",
    "leads": "leads",
    "load_ms": "startup.load_ms",
    "first_run_ms": "startup.first_run_ms",
    "other_cores": "conditions.other_cores",
    "stolen_cores": "conditions.stolen_cores",
    "accuracy_images": "accuracy.images",
    "top1": "accuracy.top1",
    "top1_ci95_low": "accuracy.top1_ci95.0",
    "top1_ci95_high": "accuracy.top1_ci95.1",
    "top5": "accuracy.top5",
    "agreement": "accuracy.agreement",
    "unreadable": "accuracy.unreadable",
    "top1_difference": "accuracy.difference.top1",
    "top1_difference_ci95_low": "accuracy.difference.top1_ci95.0",
    "top1_difference_ci95_high": "accuracy.difference.top1_ci95.1",
    "mcnemar_p": "accuracy.difference.mcnemar_p",
    "flipped": "accuracy.difference.flipped",
    "fidelity_images": "fidelity.images",
    "fidelity_top1_agreement": "fidelity.top1_agreement",
    "fidelity_cosine_mean": "fidelity.cosine_mean",
    "fidelity_max_abs_error": "fidelity.max_abs_error",
    "size_score": "scores.size",
    "latency_score": "scores.latency",
    "accuracy_score": "scores.accuracy",
    "on_baseline_hardware": "scores.on_baseline_hardware",
    "speedup_vs_torch": "scores.speedup_vs_torch",
    "speedup_ci95_low": "scores.speedup_ci95.0",
    "speedup_ci95_high": "scores.speedup_ci95.1",
    "speedup_vs_best_torch": "scores.speedup_vs_best_torch",
}


FORMULA = ("=", "+", "-", "@")


def render_csv(run: Run) -> str:
    """Fractions stay fractions; what was not measured is an empty field."""
    run = visible(run)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    shipped = recommendation(run).row
    for row in run.rows:
        record = row.model_dump() | {"recommended": row.id == shipped}
        writer.writerow([_inert(figure_at(record, path)) for path in COLUMNS.values()])
    return text.getvalue()


def _inert(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, after an apostrophe, which it takes for a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def figure_at(record: Any, path: str) -> Any:
    """The value at `latency.mean_ms` or `latency.mean_ci95_ms.0` of a dumped record, None where a part is missing."""
    for key in path.split("."):
        if record is None:
            return None
        record = record[int(key)] if key.isdigit() else record[key]
    return record
