"""The comparison: models x precisions x runtimes, each row in its own process, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rtbench import latency
from rtbench.accuracy import score_predictions
from rtbench.baselines import MEASURED, is_torch_fp32, load_baseline, measured_baseline
from rtbench.environment import find_gpu, read_environment
from rtbench.errors import InvalidOutput, RtbenchError, RuntimeUnavailable, UsageError
from rtbench.fidelity import judge, require_outputs
from rtbench.options import CalibrationOptions, ModelOptions
from rtbench.prepare import Place, Prepared, Progress, prepare
from rtbench.records import Artifact, Dataset, Row, Run
from rtbench.runs import RunDirectory
from rtbench.runtimes import RuntimeChoice, SessionInfo, choose
from rtbench.scores import score_rows
from rtbench.stats import summarise_latency
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
class _Row:
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


def compare(plan: Plan, directory: RunDirectory, progress: Progress) -> Run:
    """Measure every row and keep everything in the run directory.

    UsageError comes before anything is measured. A row's failure is that row's alone. Ctrl-C
    ends the measuring and keeps what is measured: the run returned is then not `complete`.
    """
    baseline = load_baseline(plan.baseline)
    gpu = find_gpu() is not None
    choices = [choose(name, gpu=gpu) for name in plan.runtimes or ()]
    _require_some_row(choices, plan.precisions)
    everything = _prepare_all(plan, choices, progress)
    rows = _plan_rows(everything, choices, plan.precisions, gpu=gpu)
    if plan.baseline == MEASURED and not any(is_torch_fp32(row.record) for row in rows):
        raise UsageError("there is no torch/fp32 row to be the measured baseline", "add torch to --runtimes")
    run = Run(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=list(plan.command),
        complete=False,
        environment=read_environment(plan.place.threads),
        models=[prepared.model for prepared in everything],
        baseline=baseline,
        dataset=_dataset(everything[0]),
        rows=[row.record for row in rows],
    )
    return _Measuring(plan, rows, directory, run, progress).run_all()


def _require_some_row(choices: Sequence[RuntimeChoice], precisions: Sequence[Precision]) -> None:
    if choices and not any(precision in choice.runtime.precisions for choice in choices for precision in precisions):
        names = ", ".join(choice.written for choice in choices)
        raise UsageError(
            f"{names} cannot run {', '.join(precisions)}",
            "torch runs models in fp32; add it to --precisions, or add ort",
        )


def _prepare_all(plan: Plan, choices: Sequence[RuntimeChoice], progress: Progress) -> list[Prepared]:
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


def _plan_rows(
    everything: Sequence[Prepared], choices: Sequence[RuntimeChoice], precisions: Sequence[Precision], *, gpu: bool
) -> list[_Row]:
    rows: list[_Row] = []
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


def _plan_row(prepared: Prepared, choice: RuntimeChoice, precision: Precision, *, several: bool) -> _Row | None:
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
    return _Row(
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


def _dataset(prepared: Prepared) -> Dataset:
    images = prepared.image_set
    return Dataset(
        source=images.source,
        images=len(images.files),
        labelled=len(images.labelled),
        classes=images.classes,
        labels=images.labels,
        fingerprint=prepared.images.fingerprint,
        sample=images.sample,
    )


class _Measuring:
    def __init__(self, plan: Plan, rows: list[_Row], directory: RunDirectory, run: Run, progress: Progress) -> None:
        self._plan, self._rows, self._directory, self._progress = plan, rows, directory, progress
        self._run = run

    def run_all(self) -> Run:
        finished = False
        self._save(complete=False)
        try:
            for row in self._live():
                self._guard(row, self._open)
                self._guard(row, self._predict)
                self._save(complete=False)
            self._score_predictions()
            self._measure_latency()
            finished = True
        except KeyboardInterrupt:
            self._end_interrupted()
        finally:
            for row in self._rows:
                row.close()
            for row in self._rows:
                if row.rounds and row.record.status == "ok":
                    row.update(latency=summarise_latency(row.rounds))
        return self._save(complete=finished)

    def _live(self) -> list[_Row]:
        return [row for row in self._rows if row.record.status == "ok"]

    def _guard(self, row: _Row, step: Callable[[_Row], None]) -> None:
        """Take one step of a row that is still well; what goes wrong there is how the row ends."""
        if row.record.status != "ok":
            return
        try:
            step(row)
        except RuntimeUnavailable as error:
            row.end("unavailable", str(error))
        except InvalidOutput as error:
            row.end("invalid", str(error))
        except RtbenchError as error:
            row.end("failed", str(error))

    def _open(self, row: _Row) -> None:
        prepared, place = row.prepared, self._plan.place
        host = "rtbench.sessions:SessionHost"
        row.worker = Worker(host, log=self._directory.log(row.id), timeout_s=place.timeout_s, threads=place.threads)
        info: SessionInfo = row.worker.call(
            "open",
            row.choice.runtime.name,
            row.choice.device,
            row.record.artifact,
            prepared.model,
            prepared.images.path,
            place.threads,
            self._plan.model.trust_pickle,
        )
        row.update(provider=info.provider, device=info.device)
        outputs = row.worker.call("logits", prepared.fidelity_indices, on_progress=self._report(f"check {row.id}"))
        require_outputs(outputs, len(prepared.fidelity_indices), prepared.model.classes)
        if prepared.reference is not None:
            status, fidelity = judge(prepared.reference, outputs, row.record.precision)
            row.update(fidelity=fidelity)
            if status == "invalid":
                raise InvalidOutput(fidelity.verdict)

    def _predict(self, row: _Row) -> None:
        labelled = row.prepared.image_set.labelled
        if not labelled:
            return
        assert row.worker
        row.predictions = cast(
            "NDArray[np.int32]",
            row.worker.call("predict", labelled, on_progress=self._report(f"accuracy of {row.id}")),
        )
        files = [row.prepared.image_set.files[index] for index in labelled]
        names, labels = [file.name for file in files], [file.label or 0 for file in files]
        self._directory.save_predictions(row.id, names, labels, row.predictions)
        unanswered = int((row.predictions[:, 0] < 0).sum())
        if unanswered:
            raise InvalidOutput(f"output has NaN or infinity for {unanswered} of {len(labelled)} images")

    def _score_predictions(self) -> None:
        for row in self._rows:
            if row.predictions is None or row.record.status != "ok":
                continue
            own = next(
                (
                    other.predictions[:, 0]
                    for other in self._rows
                    if other.prepared is row.prepared and is_torch_fp32(other.record) and other.predictions is not None
                ),
                None,
            )
            files = row.prepared.image_set.files
            labels = np.array([files[index].label for index in row.prepared.image_set.labelled], dtype=np.int32)
            row.update(accuracy=score_predictions(row.predictions, labels, own))

    def _measure_latency(self) -> None:
        by_id = {row.id: row for row in self._rows}
        for row in self._live():
            self._guard(row, self._warm_up)
        live = [row.id for row in self._live()]
        planned = self._plan.runs * len(live)
        done = 0

        def time_row(row_id: str, runs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
            row = by_id[row_id]
            timed: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

            def step(row: _Row) -> None:
                assert row.worker
                row.worker.resume()
                timed.append(row.worker.call("time_block", latency.LEAD_RUNS, runs))
                row.worker.pause()

            self._guard(row, step)
            return timed[0] if timed else None

        for block in latency.measure_rounds(live, self._plan.runs, time_row):
            by_id[block.row].rounds.append(block.durations_ns / 1e6)
            self._directory.append_samples(block)
            done += len(block.durations_ns)
            self._progress("latency", done, planned)

    def _warm_up(self, row: _Row) -> None:
        assert row.worker
        row.worker.call("stage", row.prepared.fidelity_indices[0])
        row.worker.call("time_block", self._plan.warmup, 0)
        row.worker.pause()

    def _end_interrupted(self) -> None:
        for row in self._live():
            done = sum(len(samples) for samples in row.rounds)
            if done:
                row.update(warnings=[*row.record.warnings, f"interrupted after {done} of {self._plan.runs} runs"])
            else:
                row.end("failed", "interrupted before it was measured")

    def _report(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(what, done, total)

    def _save(self, *, complete: bool) -> Run:
        records = [row.record for row in self._rows]
        baseline = self._run.baseline
        if self._plan.baseline == MEASURED:
            baseline = measured_baseline(records, self._run.environment.cpu)
        sample = self._run.dataset is not None and self._run.dataset.sample
        scored = score_rows(records, baseline, self._run.environment, score_accuracy=not sample)
        run = self._run.model_copy(update={"rows": scored, "baseline": baseline, "complete": complete})
        self._directory.save(run)
        return run
