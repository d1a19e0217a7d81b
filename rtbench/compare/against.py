"""An earlier run's artifacts, timed again in the rounds of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtbench import artifacts
from rtbench.compare.held import as_held, keep, kept_path
from rtbench.compare.plan import Plan, PlannedRow
from rtbench.compare.prepare import cache
from rtbench.compare.prepared import Prepared, Progress
from rtbench.compare.timing import compare_pair
from rtbench.errors import UsageError
from rtbench.records.measurement import Comparison
from rtbench.records.model import Artifact
from rtbench.records.run import Against, AgainstRow, Row, Run
from rtbench.runs.directory import RunDirectory
from rtbench.runs.result import read_run

ARTIFACTS = "artifacts"
PREFIX = "against/"
"""Before the ids of these rows, in `samples.csv` and the logs."""


@dataclass(frozen=True)
class Earlier:
    """An earlier run, and its artifacts by row: a copy that nothing that this run exports can replace, or why not."""

    run: Run
    path: Path
    artifacts: dict[str, Artifact | str]


def keep_artifacts(rows: Sequence[PlannedRow], directory: RunDirectory) -> None:
    """A copy of every row's artifact in the run directory, for a later run to be compared with."""
    for row in rows:
        if row.record.artifact:
            source = Path(as_held(row.record.artifact, directory.held).path)
            keep(row.record.artifact, source, directory.path / ARTIFACTS)


def hold_artifacts(path: Path, directory: RunDirectory) -> Earlier:
    """Take hold of what an earlier run measured, before anything is exported: its artifacts, from where it kept them
    or from where it found them.

    UsageError where nothing of it is there as it was, by its hash.
    """
    run = read_run(path)
    held = {row.id: _hold(row, path, directory.held) for row in run.rows if row.status == "ok"}
    if not any(isinstance(each, Artifact) for each in held.values()):
        why = next((each for each in held.values() if isinstance(each, str)), "no row of it was measured")
        raise UsageError(f"nothing of {path} can be timed again: {why}", "measure it again with --keep-artifacts")
    return Earlier(run, path, held)


def _hold(row: Row, path: Path, folder: Path) -> Artifact | str:
    artifact = row.artifact
    assert artifact
    source, kept = Path(artifact.path), [kept_path(artifact, each) for each in (folder, path / ARTIFACTS)]
    for found in (*kept, source):  # the first: from before an interruption
        if artifacts.is_unchanged(found, artifact.sha256):
            return artifact.model_copy(update={"path": str(keep(artifact, found, folder))})
    return f"its artifact {source} {'has changed since' if source.exists() else 'no longer exists'}"


def plan_earlier(earlier: Earlier, rows: Sequence[PlannedRow], plan: Plan, progress: Progress) -> list[PlannedRow]:
    """A row to time for each artifact held whose row this run has too."""
    planned = []
    for row in rows:
        artifact = earlier.artifacts.get(row.id)
        before = next((each for each in earlier.run.rows if each.id == row.id), None)
        if row.live and before and isinstance(artifact, Artifact):
            record = before.model_copy(
                update={"id": PREFIX + row.id, "artifact": artifact, "provider": None, "latency": None, "warnings": []}
            )
            planned.append(PlannedRow(record, _prepared(earlier.run, before, row, plan, progress), row.choice))
    return planned


def _prepared(run: Run, before: Row, row: PlannedRow, plan: Plan, progress: Progress) -> Prepared:
    """What the new row has, with the earlier model and images as it takes them."""
    own = row.prepared
    model = next(each for each in run.models if each.name == before.model)
    images = own.images
    if model.preprocessing != own.model.preprocessing:
        images = cache(own.image_set, model, plan.place, progress)
    return Prepared(model, own.folder, own.image_set, images, own.fidelity_indices, None, [])


def compare_with(earlier: Earlier, before: Sequence[PlannedRow], rows: Sequence[PlannedRow], plan: Plan) -> Against:
    """What the rounds that both were timed in show, row by row."""
    everything = [*before, *rows]
    found = []
    for row in rows:
        held = earlier.artifacts.get(row.id)
        old = next((each for each in before if each.id == PREFIX + row.id), None)
        comparison: Comparison | None = None
        reason: str | None = held if isinstance(held, str) else "not measured in both"
        if old:
            comparison, reason = compare_pair(row, old, everything)
        medians = [each.record.latency.p50_ms if each and each.record.latency else None for each in (old, row)]
        found.append(
            AgainstRow(id=row.id, before_ms=medians[0], after_ms=medians[1], comparison=comparison, reason=reason)
        )
    python = plan.options.against_python
    return Against(
        path=str(earlier.path), created=earlier.run.created, python=str(python) if python else None, rows=found
    )
