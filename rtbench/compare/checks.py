"""An artifact's check: its outputs against the model's own, right after it was made."""

from __future__ import annotations

from rtbench import artifacts
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.errors import InvalidOutput, RuntimeUnavailable, WorkerFailed
from rtbench.export.known import exporters
from rtbench.measure.fidelity import judge, require_outputs
from rtbench.records.model import Artifact, Check
from rtbench.runtimes.known import runtimes
from rtbench.worker import Worker

CHECK_IMAGES = 64
"""Enough to tell right from wrong; the accuracy pass says the rest where it has enough images."""
ORT_ON_CPU = ("ort", "cpu")
CRASHING = ["NchwcTransformer"]
"""Optimisers of ONNX Runtime that crash on some graphs: microsoft/onnxruntime issue 28392, seen with the FP16
graphs of vision transformers."""


def checked(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress) -> Artifact:
    """The artifact with its check, run now unless it has passed before."""
    other = artifact.format == "tflite" or artifact.format in exporters()
    if not (artifact.format in ("onnx", "onnx_trt") or other) or prepared.reference is None:
        return artifact
    if artifact.check and artifact.check.status == "ok":
        return artifact
    checked = (_check_other if other else _check)(artifact, prepared, place, progress)
    artifacts.save_manifest(checked)
    return checked


def _check(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress) -> Artifact:
    """Compare an ONNX artifact with the model, as ONNX Runtime runs it by default on the CPU. Where that
    crashes, without the optimisers that are known to; where it is wrong or crashes still, with all of them off,
    to tell a wrong graph from a wrong runtime. What only TensorRT will run is looked at as it is written: ONNX
    Runtime optimises such graphs wrongly."""

    def with_note(check: Check, note: str | None = None) -> Artifact:
        return artifact.model_copy(update={"check": check.model_copy(update={"note": note})})

    if artifact.format == "onnx_trt":
        return with_note(_try(artifact, prepared, place, progress, optimised=False))
    as_run = _try(artifact, prepared, place, progress, optimised=True)
    if as_run.status == "ok":
        return with_note(as_run)
    if as_run.status == "failed":
        spared = artifact.model_copy(update={"without": CRASHING})
        again = _try(spared, prepared, place, progress, optimised=True)
        if again.status == "ok":
            crash = (as_run.reason or "").partition(";")[0]
            said = with_note(again, f"is run without ONNX Runtime's {', '.join(CRASHING)}, with which it {crash}")
            return said.model_copy(update={"without": CRASHING})
    as_written = _try(artifact, prepared, place, progress, optimised=False)
    if as_written.status != "ok":
        return with_note(as_run)
    return with_note(
        as_written,
        f"right only with ONNX Runtime's graph optimisations off; by default on this CPU it {as_run.reason}",
    )


def _check_other(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress) -> Artifact:
    """Compare what ONNX Runtime does not run with the model, on the first runtime that takes it."""
    runtime = next((each for each in runtimes().values() if artifact.format in each.formats), None)
    if runtime is None:
        return artifact
    try:
        check = _try(artifact, prepared, place, progress, on=(runtime.name, runtime.devices[0]))
    except RuntimeUnavailable as error:
        check = Check(status="unavailable", reason=str(error), fidelity=None)
    return artifact.model_copy(update={"check": check})


def _try(
    artifact: Artifact,
    prepared: Prepared,
    place: Place,
    progress: Progress,
    *,
    optimised: bool = True,
    on: tuple[str, str] = ORT_ON_CPU,
) -> Check:
    indices, reference = prepared.to_judge_by(CHECK_IMAGES)
    assert reference is not None

    def report(done: int, total: int) -> None:
        progress(f"check {artifact.format}/{artifact.precision}", done, total)

    log = place.logs / f"check-{artifact.format}-{artifact.precision}.log"
    host = "rtbench.measure.sessions:SessionHost"
    try:
        with Worker(host, log=log, timeout_s=place.timeout_s, threads=place.threads) as worker:
            if optimised:
                worker.call("open", *on, artifact, prepared.model, prepared.images.path, place.threads, False)
            else:
                worker.call("open_unoptimised", artifact, prepared.model, prepared.images.path, place.threads)
            outputs = worker.call("logits", indices, on_progress=report)
        require_outputs(outputs, len(indices), prepared.model.classes)
    except WorkerFailed as error:
        return Check(status="failed", reason=str(error), fidelity=None)
    except InvalidOutput as error:
        return Check(status="invalid", reason=str(error), fidelity=None)
    status, fidelity = judge(reference, outputs, artifact.precision)
    return Check(status=status, reason=None if status == "ok" else fidelity.verdict, fidelity=fidelity)
