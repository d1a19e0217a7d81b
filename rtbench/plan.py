"""What to measure: the models prepared, and the rows that runtimes and precisions make of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import UsageError
from rtbench.options import CalibrationOptions, ModelOptions
from rtbench.prepare import Place, Prepared, Progress, prepare
from rtbench.records import Artifact, Row
from rtbench.runtimes import RuntimeChoice, choose
from rtbench.terms import Precision, Status
from rtbench.worker import Worker

DEFAULT_RUNTIMES = ("torch", "ort")


@dataclass(frozen=True)
class Plan:
    """What to measure and how."""

    sources: tuple[str, ...]
    runtimes: tuple[str, ...] | None
    """None: all that can run each model's artifacts here."""
    precisions: tuple[Precision, ...]
    runs: int
    warmup: int
    baseline: str
    place: Place
    command: tuple[str, ...]
    data: Path | None = None
    limit: int | None = None
    reference: str | None = None
    model: ModelOptions = field(default_factory=ModelOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)


@dataclass
class PlannedRow:
    """A row under way: its record so far, and what only lives while it is measured."""

    record: Row
    prepared: Prepared
    choice: RuntimeChoice
    worker: Worker | None = None
    predictions: NDArray[np.int32] | None = None
    rounds: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.record.id

    def update(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)

    def end(self, status: Status, reason: str) -> None:
        self.update(status=status, reason=reason)
        self.close()

    def close(self) -> None:
        if self.worker:
            self.worker.close()
            self.worker = None


def require_some_row(choices: Sequence[RuntimeChoice], precisions: Sequence[Precision]) -> None:
    if choices and not any(precision in choice.runtime.precisions for choice in choices for precision in precisions):
        names = ", ".join(choice.written for choice in choices)
        raise UsageError(
            f"{names} cannot run {', '.join(precisions)}",
            "torch runs models in fp32; add it to --precisions, or add ort",
        )


def prepare_all(plan: Plan, choices: Sequence[RuntimeChoice], progress: Progress) -> list[Prepared]:
    wants_onnx = not choices or any("onnx" in choice.runtime.formats for choice in choices)
    everything: list[Prepared] = []
    for source in plan.sources:
        prepared = prepare(
            source,
            plan.model,
            plan.precisions if wants_onnx else (),
            plan.calibration,
            plan.place,
            progress,
            data=plan.data,
            limit=plan.limit,
            reference=plan.reference,
        )
        everything.append(_named_apart(prepared, everything))
    return everything


def _named_apart(prepared: Prepared, others: Sequence[Prepared]) -> Prepared:
    """The same, under a name that no other model of this run has."""
    taken = {other.model.name for other in others}
    if prepared.model.name not in taken:
        return prepared
    name = next(
        f"{prepared.model.name}-{number}"
        for number in itertools.count(2)
        if f"{prepared.model.name}-{number}" not in taken
    )
    prepared_again = dict(vars(prepared)) | {"model": prepared.model.model_copy(update={"name": name})}
    return Prepared(**prepared_again)


def plan_rows(
    everything: Sequence[Prepared], choices: Sequence[RuntimeChoice], precisions: Sequence[Precision], *, gpu: bool
) -> list[PlannedRow]:
    rows: list[PlannedRow] = []
    for prepared in everything:
        own = list(choices) or _default_choices(prepared, gpu=gpu)
        made = [
            row
            for choice in own
            for precision in _precisions(prepared, precisions)
            if precision in choice.runtime.precisions
            if (row := _plan_row(prepared, choice, precision, several=len(everything) > 1))
        ]
        if not made:
            names = ", ".join(choice.written for choice in own)
            raise UsageError(
                f"{names} cannot run {prepared.model.source} in {', '.join(precisions)}",
                "name a runtime for this kind of file with --runtimes, or leave that out",
            )
        rows += made
    return rows


def _default_choices(prepared: Prepared, *, gpu: bool) -> list[RuntimeChoice]:
    if prepared.artifacts[0].format == "fake":
        return [choose("fake", gpu=False)]
    return [choose(name, gpu=gpu) for name in DEFAULT_RUNTIMES]


def _precisions(prepared: Prepared, asked: Sequence[Precision]) -> Sequence[Precision]:
    """Those asked for; a file that is itself an artifact has the one that it has."""
    direct = [artifact.precision for artifact in prepared.artifacts if "file" in artifact.made_from]
    return direct or asked


def _plan_row(prepared: Prepared, choice: RuntimeChoice, precision: Precision, *, several: bool) -> PlannedRow | None:
    """The row of one runtime and precision, None where the runtime has nothing to run of this model."""
    formats = choice.runtime.formats
    fitting = [each for each in prepared.artifacts if each.format in formats and each.precision == precision]
    artifact = fitting[0] if fitting else None
    name = f"{choice.written}/{precision}"
    status: Status = "ok"
    reason = None
    if artifact is None:
        failure = next(
            (prepared.failures[key] for key in prepared.failures if key[0] in formats and key[1] == precision), None
        )
        if failure:
            status, reason = "failed", failure
        elif choice.runtime.name == "trt":
            from rtbench.runtimes.trt import REASON, REMEDY

            status, reason = "unavailable", f"{REASON}; {REMEDY}"
        else:
            return None
    elif artifact.check and artifact.check.status != "ok":
        status, reason = artifact.check.status, f"artifact {artifact.check.reason}"
    return PlannedRow(
        Row(
            id=f"{prepared.model.name}/{name}" if several else name,
            model=prepared.model.name,
            runtime=choice.written,
            provider=None,
            device=None,
            precision=precision,
            status=status,
            reason=reason,
            artifact=artifact,
            warnings=_artifact_warnings(artifact),
        ),
        prepared,
        choice,
    )


def _artifact_warnings(artifact: Artifact | None) -> list[str]:
    if artifact and artifact.calibration and artifact.calibration.evaluation_images:
        count = artifact.calibration.images
        return [f"calibrated with {count} of the images that accuracy is measured on; give --calibration DIR"]
    return []
