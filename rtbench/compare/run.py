"""The comparison: every planned row in its own process, measured side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from rtbench.compare.against import PREFIX, Earlier, compare_with, hold_artifacts, keep_artifacts, plan_earlier
from rtbench.compare.evaluate import predict_row, score_accuracy
from rtbench.compare.opening import Opening
from rtbench.compare.plan import Plan, PlannedRow, plan_rows, prepare_all, require_some_row, usual_choices
from rtbench.compare.prepare import FIDELITY_IMAGES, OWN_IMAGES
from rtbench.compare.prepared import Prepared, Progress
from rtbench.compare.resume import INTERRUPTED, take_blocks, take_up
from rtbench.compare.timing import Timing, compare_latencies, compare_pair, summarise
from rtbench.errors import InvalidOutput, UsageError
from rtbench.measure.conditions import Judge
from rtbench.measure.cpu import lacks_vnni
from rtbench.measure.environment import read_environment
from rtbench.measure.fidelity import judge, require_outputs, require_varied
from rtbench.measure.monitor import Monitor
from rtbench.nvidia import find_gpu
from rtbench.records.measurement import Comparison, Latency
from rtbench.records.run import Baseline, Dataset, Row, Run
from rtbench.runs.directory import RunDirectory
from rtbench.runtimes import PROVEN, UNPROVEN
from rtbench.runtimes.known import RuntimeChoice, choose
from rtbench.scores.baselines import MEASURED, is_reference, load_baseline, measured_baseline
from rtbench.scores.normalise import best_torch_for, reference_for, score_rows
from rtbench.scores.recommendation import recommend


def compare(plan: Plan, directory: RunDirectory, progress: Progress) -> Run:
    """Measure every row and keep everything in the run directory, or go on with what is kept there.

    UsageError comes before anything is measured. A row's failure is that row's alone. Ctrl-C
    ends the measuring and keeps what is measured: the run returned is then not `complete`.
    """
    baseline = load_baseline(plan.options.baseline)
    gpu = find_gpu() is not None
    choices = [choose(name, gpu=gpu) for name in dict.fromkeys(plan.options.runtimes or ())]
    require_some_row(choices, plan.options.precisions)
    with contextlib.closing(Opening(plan, directory, PREFIX)) as opening:
        opening.begin_early(choices or usual_choices(plan.sources[0], gpu=gpu))
        return _planned(plan, choices, baseline, opening, directory, progress).run_all()


def _planned(
    plan: Plan,
    choices: Sequence[RuntimeChoice],
    baseline: Baseline | None,
    opening: Opening,
    directory: RunDirectory,
    progress: Progress,
) -> _Measuring:
    gpu = find_gpu() is not None
    earlier = hold_artifacts(plan.options.against, directory) if plan.options.against else None
    everything = prepare_all(plan, choices, progress, gpu=gpu)
    rows = plan_rows(everything, choices, plan.options.precisions, gpu=gpu)
    before = plan_earlier(earlier, rows, plan, progress) if earlier else []
    if plan.options.keep_artifacts:
        keep_artifacts(rows, directory)
    if plan.options.baseline == MEASURED and not any(is_reference(row.record) for row in rows):
        raise UsageError(
            "there is no torch/fp32 or tf/fp32 row to be the measured baseline", "add torch or tf to --runtimes"
        )
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
    if directory.kept:
        run = take_up(directory.kept, run, rows, plan.options, directory)
        take_blocks(before, plan.options, directory)
    measuring = _Measuring(plan, rows, directory, run, progress, opening)
    if earlier:
        measuring.time_beside(earlier, before)
    return measuring


def _dataset(prepared: Prepared) -> Dataset:
    images = prepared.image_set
    return Dataset(
        source=images.source,
        images=len(images.files),
        labelled=len(images.labelled),
        classes=images.classes,
        labels=images.labels,
        fingerprint=prepared.images.fingerprint,
        available=images.available,
        unreadable=list(prepared.images.unreadable.values()),
        test_set=images.test_set,
        among_classes=len(images.among) or None,
        choices=list(images.choices),
        sample=images.sample,
    )


SATURATES = (
    "its INT8 weights use all 8 bits, and this CPU has no VNNI: 16-bit sums saturate and outputs are wrong; export it"
    " without --full-range"
)


class _Measuring:
    def __init__(
        self,
        plan: Plan,
        rows: list[PlannedRow],
        directory: RunDirectory,
        run: Run,
        progress: Progress,
        opening: Opening,
    ) -> None:
        self._plan, self._rows, self._directory, self._progress = plan, rows, directory, progress
        self._run, self._opening = run, opening
        self._judge = Judge(run.environment.cores, run.environment.threads)
        self._earlier: Earlier | None = None
        self._before: list[PlannedRow] = []
        self._compared_of: list[tuple[str, Latency | None]] = []
        self._comparisons: tuple[list[Comparison], set[str]] = [], set()

    def time_beside(self, earlier: Earlier, rows: list[PlannedRow]) -> None:
        """Time an earlier run's rows in the same rounds."""
        self._earlier, self._before = earlier, rows

    def run_all(self) -> Run:
        finished = False
        self._directory.save(self._record(complete=False))
        try:
            monitor = Monitor(gpu=self._run.environment.gpu)
            sampling, directory, progress = self._plan.options, self._directory, self._progress
            Timing(self._timed(), sampling, directory, monitor, self._judge, progress, self._opening, self._open).run()
            self._open_untimed()
            self._summarise()
            for row in self._live():
                self._directory.save(self._record(complete=False))
                row.attempt(self._predict)
                row.close()
                score_accuracy(self._rows, self._directory)
            finished = True
        except KeyboardInterrupt:
            take_blocks(self._timed(), self._plan.options, self._directory)
            score_accuracy(self._rows, self._directory)
            self._end_interrupted()
        finally:
            for row in [*self._rows, *self._before]:
                row.close()
            self._summarise()
        run = self._recommend(self._record(complete=finished))
        self._directory.save(run)
        return run

    def _summarise(self) -> None:
        summarise(self._timed(), self._judge)

    def _live(self) -> list[PlannedRow]:
        return [row for row in self._rows if row.live]

    def _timed(self) -> list[PlannedRow]:
        """Those of an earlier run too."""
        live = [*self._live(), *(row for row in self._before if row.live)]
        return [row for row in live if row.batch == 1]

    def _open_untimed(self) -> None:
        """Rows of a fixed batch have an accuracy, and no latency of one image."""
        for row in self._live():
            if row.batch > 1:
                row.attempt(self._open)
                row.warn(f"takes batches of {row.batch} alone, so the latency of one image was not measured")

    def _open(self, row: PlannedRow) -> None:
        """Open the row's artifact in a fresh process; the first time, see what it is and whether it is right."""
        prepared = row.prepared
        first = row.record.provider is None
        if row.choice.device == "trt" and first:
            self._progress(f"{row.id}: ONNX Runtime builds its TensorRT engine, which takes minutes", 0, 1)
            self._opening.open(row)
        elif "compile" in row.choice.variants and first:
            self._progress(f"{row.id}: PyTorch compiles it, which takes up to minutes", 0, 1)
        info, startup = self._opening.open(row)
        row.add_startup(startup)
        row.scripted = getattr(info, "scripted", False)  # an earlier rtbench, by --against-python, has no such field
        if not first:
            return
        shape, classes = (row.batch, *prepared.model.preprocessing.input_shape), prepared.model.classes
        row.update(
            provider=info.provider,
            device=info.device,
            settings=info.settings,
            placement=info.placement,
            layers=getattr(info, "layers", {}),
            warnings=[*row.record.warnings, *info.warnings, *self._cautions(row.record, info.device)],
            timed=f"{shape} float32 in host memory to ({row.batch}, {classes}) float32 logits in host memory",
        )
        if row.record.fidelity is None:
            self._check(row)

    def _cautions(self, row: Row, device: str) -> list[str]:
        if device != "cpu" and row.id not in PROVEN:
            return [UNPROVEN]
        if row.artifact and row.artifact.full_range and lacks_vnni(self._run.environment.cpu_details):
            return [SATURATES]
        return []

    def _check(self, row: PlannedRow) -> None:
        """The model's own row on few images: it computes what it was loaded from."""
        prepared = row.prepared
        indices, reference = prepared.to_judge_by(OWN_IMAGES if is_reference(row.record) else FIDELITY_IMAGES)
        outputs = row.running.call("logits", indices, on_progress=self._report(f"check {row.id}"))
        require_outputs(outputs, len(indices), prepared.model.classes)
        if reference is not None:
            status, fidelity = judge(reference, outputs, row.record.precision)
            row.update(fidelity=fidelity)
            if status == "invalid":
                raise InvalidOutput(fidelity.verdict)
        else:
            require_varied(outputs)

    def _predict(self, row: PlannedRow) -> None:
        if row.worker is None:
            self._open(row)
        row.running.resume()
        predict_row(row, self._directory, self._plan.options.batch_size, self._report(f"accuracy of {row.id}"))

    def _end_interrupted(self) -> None:
        for row in self._live():
            labelled, predicted = len(row.prepared.image_set.labelled), len(row.predictions or ())
            if not row.timed_runs:
                row.end("failed", INTERRUPTED)
            elif row.timed_runs < self._plan.options.planned_runs:
                row.warn(f"interrupted after {row.timed_runs} of {self._plan.options.planned_runs} runs")
            elif not predicted and labelled:
                row.warn("interrupted before its accuracy was measured")
            elif predicted < labelled:
                row.warn(f"interrupted: its accuracy is that of the first {predicted} of {labelled} images")

    def _report(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(what, done, total)

    def _compare(self, records: list[Row]) -> tuple[list[Comparison], set[str]]:
        """Those of the rows that are still well, computed again only where these or their latencies are others."""
        timed = [(row.id, row.record.latency) for row in self._live()]
        if timed != self._compared_of:
            self._comparisons = compare_latencies(
                self._rows, lambda row: (reference_for(row, records), best_torch_for(row, records))
            )
            self._compared_of = timed
        return self._comparisons

    def _recommend(self, run: Run) -> Run:
        """The run with its recommendation, and with the comparisons that say which rows share the lead with it."""
        options = self._plan.options
        limits = {"max_loss": options.max_loss, "max_disagreement": options.max_disagreement}
        chosen = next((row for row in self._live() if row.id == recommend(run, **limits).row), None)
        if chosen:
            known = {frozenset((each.row, each.to)) for each in run.comparisons}
            others = [row for row in self._live() if row is not chosen and frozenset((row.id, chosen.id)) not in known]
            more = [compare_pair(row, chosen, self._rows)[0] for row in others]
            run = run.model_copy(update={"comparisons": [*run.comparisons, *filter(None, more)]})
        return run.model_copy(update={"recommendation": recommend(run, **limits)})

    def _record(self, *, complete: bool) -> Run:
        records = [row.record for row in self._rows]
        baseline = self._run.baseline
        if self._plan.options.baseline == MEASURED:
            baseline = measured_baseline(records, self._run.environment.cpu)
        data = self._run.dataset
        comparisons, lead = self._compare(records)
        records = [row.model_copy(update={"leads": row.id in lead}) for row in records]
        against = compare_with(self._earlier, self._before, self._rows, self._plan) if self._earlier else None
        scored = score_rows(
            records,
            baseline,
            self._run.environment,
            comparisons,
            models=self._run.models,
            score_accuracy=data is not None and not data.sample and data.test_set is None,
        )
        return self._run.model_copy(
            update={
                "rows": scored,
                "baseline": baseline,
                "comparisons": comparisons,
                "against": against,
                "complete": complete,
            }
        )
