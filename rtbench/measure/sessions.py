"""What runs in a row's worker process: one artifact on one runtime, and nothing else."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.images import preprocessing
from rtbench.images.crops import Crops
from rtbench.measure import latency
from rtbench.measure.accuracy import Predictions, predict_batch
from rtbench.measure.fidelity import within_rounding
from rtbench.records.measurement import MlPerf, Startup
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, Session, SessionInfo
from rtbench.runtimes.known import OWN_RUNTIME, load_runtime
from rtbench.terms import Precision
from rtbench.worker import REPORT_S, seldom


class SessionHost:
    """Hosts a session; the parent's calls come in the order ready, open, logits, batches_agree, predict, stage,
    time_block."""

    _session: Session

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report

    def open(
        self,
        runtime: str,
        device: str,
        artifact: Artifact,
        model: Model,
        images: Path,
        threads: int,
        trust_code: bool,
        variants: tuple[str, ...] = (),
    ) -> tuple[SessionInfo, Startup]:
        """Load the artifact and run it once, each timed for what it takes to begin."""
        artifacts.require_unchanged(artifact)
        self._recipe, self._least = model.preprocessing, artifact.batch
        self._crops = Crops(images)
        first = self._normalised([0] * self._least)
        self.ready(runtime, device, artifact, model)
        module = load_runtime(runtime)
        clock = latency.host_clock
        start = clock()
        self._session = module.open_session(artifact, model, device, threads, trust_code, variants)
        loaded = clock()
        latency.time_block(self._session, first, 1, clock)
        startup = Startup(load_ms=(loaded - start) / 1e6, first_run_ms=(clock() - loaded) / 1e6)
        artifacts.require_unchanged(artifact)  # while it was loaded
        gc.freeze()  # or the collection before each block looks through all that is imported: 0.2 s with torch
        return self._session.info, startup

    def import_early(self, runtime: str, architecture: str) -> None:
        """Import what a model is likely to need while another process loads it; `architecture` is empty where only the
        file knows it."""
        with contextlib.suppress(Exception):  # a guess: what the model needs and lacks, `ready` says
            load_runtime(runtime)
            if runtime == OWN_RUNTIME["torch"]:
                from rtbench.models.architectures import require_architecture

                require_architecture(architecture)

    def ready(self, runtime: str, device: str, artifact: Artifact, model: Model) -> None:
        """Import what `open` needs, which may be done while others do so too."""
        load_runtime(runtime).ready(artifact, device)
        if artifact.format == "state_dict" and model.arch:
            from rtbench.models.architectures import require_architecture

            require_architecture(model.arch)  # imports the package that has it

    def open_unoptimised(self, artifact: Artifact, model: Model, images: Path, threads: int) -> None:
        """Open an ONNX artifact with ONNX Runtime's graph optimisations off: the graph as it was written."""
        from rtbench.runtimes.ort import OrtSession

        artifacts.require_unchanged(artifact)
        self._session = OrtSession(artifact, "cpu", threads, optimise=False)
        self._recipe, self._least = model.preprocessing, artifact.batch
        self._crops = Crops(images)

    def logits(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Outputs for these images of the cache, one at a time: (N, classes)."""
        outputs, report = [], seldom(self._report)
        for done, index in enumerate(indices):
            outputs.append(self._infer([index]))
            report(done + 1, len(indices))
        return np.concatenate(outputs)

    def predict(self, indices: Sequence[int], batch_size: int, among: Sequence[int] = ()) -> None:
        """Report the Predictions of these images as they come, a few batches at once. `among`: the classes chosen
        among, where not all are."""
        batches: list[Predictions] = []
        told = latency.host_clock()
        for start in range(0, len(indices), batch_size):
            batches.append(predict_batch(self._infer(indices[start : start + batch_size]), among))
            if latency.host_clock() - told >= REPORT_S * 1e9 or start + batch_size >= len(indices):
                self._report(Predictions.join(batches))
                batches, told = [], latency.host_clock()

    def batches_agree(self, indices: Sequence[int], precision: Precision) -> bool:
        """Whether these images give, in one batch, what they give singly, up to rounding."""
        together = self._infer(indices)
        alone = np.concatenate([self._infer([index]) for index in indices])
        return together.shape == alone.shape and within_rounding(together, alone, precision)

    def stage(self, index: int) -> None:
        """Make this image the input that is timed."""
        self._input = self._normalised([index])

    def warm_up(self, runs: int | None) -> tuple[int, bool | None]:
        """Run `runs` times untimed, or until the runtime has settled: how often, and whether it has."""
        if runs is None:
            with _undisturbed():
                return latency.warm_up(self._session, self._input, self._clock)
        with _undisturbed():
            latency.time_block(self._session, self._input, runs, self._clock)
        return runs, None

    def time_block(self, runs: int) -> latency.Timed:
        """One block of runs, by one clock, after a lead; within that of a GPU the parent is told."""
        with _undisturbed():
            self._lead()
            return latency.time_block(self._session, self._input, runs, self._clock)

    def run_mlperf(self, runs: int) -> MlPerf:
        from rtbench.measure.mlperf import run_single_stream

        with _undisturbed():
            self._lead()
            return run_single_stream(self._session, self._input, runs)

    def _lead(self) -> None:
        if self._session.info.device == "cpu":
            latency.lead(self._session, self._input, latency.CPU_LEAD_NS, self._clock)
            return
        latency.lead(self._session, self._input, latency.GPU_LEAD_NS // 2, self._clock)
        self._report()
        latency.lead(self._session, self._input, latency.GPU_LEAD_NS // 2, self._clock)

    def close(self) -> None:
        if hasattr(self, "_session"):
            self._session.close()

    @property
    def _clock(self) -> Clock:
        return self._session.scripted_clock or latency.host_clock

    def _normalised(self, indices: Sequence[int]) -> NDArray[np.float32]:
        return preprocessing.normalise(self._crops.take(indices), self._recipe)

    def _infer(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """Outputs of one batch; for an artifact of a fixed batch it is filled up with its last image."""
        missing = max(self._least - len(indices), 0)
        self._session.bind(self._normalised([*indices, *[indices[-1]] * missing]))
        self._session.run()
        return self._session.fetch()[: len(indices)]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Python's garbage collector, which would stop a run here and there."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ProbeHost:
    """Answers `doctor`: what one runtime can do on this machine."""

    def __init__(self, report: Callable[..., None]) -> None:
        pass

    def probe(self, runtime: str, device: str) -> str:
        return load_runtime(runtime).probe(device)
