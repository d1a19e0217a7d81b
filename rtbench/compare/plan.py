"""What to measure: the models prepared, and the rows that runtimes and precisions make of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rtbench.compare.prepare import prepare
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.errors import InvalidOutput, NotKept, RtbenchError, RuntimeUnavailable, UsageError
from rtbench.export.known import OWN, exporters
from rtbench.export.tensorrt_library import caution
from rtbench.measure.accuracy import Predictions
from rtbench.measure.rounds import Block
from rtbench.models.tensorflow import is_tensorflow
from rtbench.options import CompareOptions
from rtbench.records.measurement import Startup
from rtbench.records.model import Artifact
from rtbench.records.run import Row
from rtbench.runtimes.known import RuntimeChoice, choose
from rtbench.terms import Precision, Status
from rtbench.worker import Worker

DEFAULT_RUNTIMES = ("torch", "ort")
GPU_RUNTIMES = ("torch", "ort", "trt")
TENSORFLOW_RUNTIMES = ("tf", "litert", "ort")


@dataclass(frozen=True)
class Plan:
    """What to measure and how."""

    sources: tuple[str, ...]
    options: CompareOptions
    place: Place
    command: tuple[str, ...]


@dataclass
class PlannedRow:
    """A row under way: its record so far, and what only lives while it is measured."""

    record: Row
    prepared: Prepared
    choice: RuntimeChoice
    worker: Worker | None = None
    fresh: bool = False
    """Whether the worker is new and has opened nothing yet."""
    importing: bool = False
    """Whether it has been told to import its runtime, and has not answered yet."""
    predictions: Predictions | None = None
    batch_size: int = 1
    startups: list[Startup] = field(default_factory=list)
    """One for each process that has opened the artifact."""
    blocks: dict[int, Block] = field(default_factory=dict)
    """By the number of their round."""
    scripted: bool = False
    """Whether it is timed by a script, which nothing disturbs."""
    warmup_runs: int = 0
    settled: bool | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def live(self) -> bool:
        return self.record.status == "ok"

    @property
    def timed_runs(self) -> int:
        return sum(len(block.durations_ns) for block in self.blocks.values())

    @property
    def running(self) -> Worker:
        assert self.worker
        return self.worker

    def attempt(self, step: Callable[[PlannedRow], None]) -> None:
        """Take one step of a row that is still well; what goes wrong there is how the row ends."""
        if not self.live:
            return
        try:
            step(self)
        except NotKept:
            raise
        except RuntimeUnavailable as error:
            self.end("unavailable", str(error))
        except InvalidOutput as error:
            self.end("invalid", str(error))
        except RtbenchError as error:
            self.end("failed", str(error))

    def update(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)

    def add_startup(self, startup: Startup) -> None:
        """Count one more opening; the record has the medians."""
        self.startups.append(startup)
        medians = {name: median(getattr(each, name) for each in self.startups) for name in Startup.model_fields}
        self.update(startup=Startup(**medians))

    @property
    def batch(self) -> int:
        return self.record.artifact.batch if self.record.artifact else 1

    def warn(self, warning: str) -> None:
        self.update(warnings=[*self.record.warnings, warning])

    def end(self, status: Status, reason: str) -> None:
        self.update(status=status, reason=reason)
        self.close()

    def close(self) -> None:
        if self.worker:
            self.worker.close()
            self.worker = None


def require_some_row(choices: Sequence[RuntimeChoice], precisions: Sequence[Precision]) -> None:
    if choices and not any(choice.runs(each) for choice in choices for each in choice.precisions(precisions)):
        names = ", ".join(choice.written for choice in choices)
        raise UsageError(
            f"{names} cannot run {', '.join(precisions)}",
            "torch and tf run models in fp32; add it to --precisions, or add ort",
        )


def prepare_all(plan: Plan, choices: Sequence[RuntimeChoice], progress: Progress, *, gpu: bool) -> list[Prepared]:
    everything: list[Prepared] = []
    for source in plan.sources:
        own = choices or usual_choices(source, gpu=gpu)
        everything.append(_named_apart(_prepare(plan, source, own, progress), everything))
    return everything


def _prepare(plan: Plan, source: str, choices: Sequence[RuntimeChoice], progress: Progress) -> Prepared:
    options = plan.options
    asked = [(choice, choice.precisions(options.precisions)) for choice in choices]
    formats = [
        kind for kind in (*OWN, *exporters()) if any(each.takes(kind, one) for each, some in asked for one in some)
    ]
    own_rows = {each.runtime.name for each, some in asked if each.is_reference and "fp32" in some}
    only_own = all(each.is_reference and "bf16" not in some for each, some in asked)
    return prepare(
        source, options, plan.place, progress, formats=formats, data=options, own_rows=own_rows, only_own=only_own
    )


def usual_choices(source: str, *, gpu: bool) -> list[RuntimeChoice]:
    """The runtimes of a model for which none is named."""
    usual = TENSORFLOW_RUNTIMES if is_tensorflow(source) else GPU_RUNTIMES if gpu else DEFAULT_RUNTIMES
    return [choose(name, gpu=gpu) for name in usual]


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
        own = list(choices) or _choices_for(prepared, gpu=gpu)
        made = [
            row
            for choice in own
            for precision in choice.precisions(_precisions(prepared, precisions))
            if choice.runs(precision) or _has(prepared, choice, precision)
            for row in _plan_row(prepared, choice, precision, several=len(everything) > 1)
        ]
        if not made:
            names = ", ".join(choice.written for choice in own)
            raise UsageError(
                f"{names} cannot run {prepared.model.source} in {', '.join(precisions)}",
                "name a runtime for this kind of file with --runtimes, or leave that out",
            )
        rows += made
    return rows


def _choices_for(prepared: Prepared, *, gpu: bool) -> list[RuntimeChoice]:
    """The usual runtimes, or for a file that only one kind of runtime runs, that one."""
    only = {"fake": "fake", "engine": "trt", "tflite": "litert"}.get(prepared.artifacts[0].format)
    return [choose(only, gpu=gpu)] if only else usual_choices(prepared.model.source, gpu=gpu)


def _precisions(prepared: Prepared, asked: Sequence[Precision]) -> Sequence[Precision]:
    """Those asked for; a file that is itself an artifact has the one that it has."""
    direct = [artifact.precision for artifact in prepared.artifacts if "file" in artifact.made_from]
    own = [prepared.model.precision] if prepared.model.precision != "fp32" else []
    return list(dict.fromkeys(direct or [*own, *asked]))


def _has(prepared: Prepared, choice: RuntimeChoice, precision: Precision) -> bool:
    return any(each.precision == precision and choice.takes(each.format, precision) for each in prepared.artifacts)


def _plan_row(prepared: Prepared, choice: RuntimeChoice, precision: Precision, *, several: bool) -> list[PlannedRow]:
    """The row of one runtime and precision, several where an engine was built repeatedly, none where the
    runtime has nothing to run of this model."""
    name = f"{choice.written}/{precision}"
    ends: list[tuple[str, Artifact | None, Status, str | None]] = []
    for artifact in prepared.artifacts:
        if artifact.precision == choice.source(precision) and choice.takes(artifact.format, precision):
            number = artifact.build.number if artifact.build else 1
            name = f"{_varied(choice, artifact.build.recipe.label)}/{precision}" if artifact.build else name
            bad = artifact.check if artifact.check and artifact.check.status != "ok" else None
            end: tuple[Status, str | None] = (bad.status, f"artifact {bad.reason}") if bad else ("ok", None)
            ends.append((name if number == 1 else f"{name}#{number}", artifact, *end))
    missing: tuple[tuple[Status, Mapping[tuple[str, Precision], str]], ...] = (
        ("failed", prepared.failures),
        ("unavailable", prepared.unavailable),
    )
    for status, reasons in missing:
        for (label, each), reason in reasons.items():
            kind = label.partition("+")[0]
            lost = f"{_varied(choice, label)}/{precision}"
            if (
                each == choice.source(precision)
                and choice.takes(kind, precision)
                and all(lost != made for made, *_ in ends)
            ):
                ends.append((lost, None, status, reason))
    return [
        PlannedRow(
            Row(
                id=f"{prepared.model.name}/{row_name}" if several else row_name,
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
        for row_name, artifact, status, reason in ends
    ]


def _varied(choice: RuntimeChoice, label: str) -> str:
    """The runtime as the user wrote it, with the variant of an engine's recipe: `trt+graph`."""
    _, plus, variant = label.partition("+")
    return f"{choice.written}{plus}{variant}"


def _artifact_warnings(artifact: Artifact | None) -> list[str]:
    said = [caution(artifact.build)] if artifact and artifact.build else []
    if artifact and artifact.calibration and artifact.calibration.evaluation_images:
        count = artifact.calibration.images
        said.append(f"calibrated with {count} of the images that accuracy is measured on; give --calibration DIR")
    return [warning for warning in said if warning]
