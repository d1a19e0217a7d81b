"""What a finished run on a GPU must show before its figures are believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rtbench.records.measurement import Latency
from rtbench.records.run import Gpu, Row, Run
from rtbench.review.builds import build_spreads
from rtbench.runtimes import misplaced
from rtbench.terms import Precision

RUNTIMES: dict[str, tuple[Precision, ...]] = {
    "torch:cuda": ("fp32",),
    "ort:cuda": ("fp32", "fp16", "int8"),
    "ort:trt": ("fp32", "fp16", "int8"),
    "trt": ("fp16", "int8"),
}
"""What `make gpu-check` runs on the GPU."""
PROVIDERS = {
    "torch:cuda": "torch",
    "ort:cuda": "CUDAExecutionProvider",
    "ort:trt": "TensorrtExecutionProvider",
    "trt": "tensorrt",
}
"""The first word of what a row says executed it."""
BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 4, "fp16": 2, "int8": 1}
SIZES_AGREE, LATENCIES_AGREE, MLPERF_AGREES, TRTEXEC_AGREES = 0.02, 0.10, 0.05, 0.15


@dataclass(frozen=True)
class Verdict:
    passed: bool
    what: str
    figures: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.what}: {self.figures}"


def judge_gpu_run(run: Run, again: Run | None = None, trtexec: Mapping[str, float] | None = None) -> list[Verdict]:
    """The verdicts of a run, of its rows, of pairs of them, and of a second run's `ort:trt` rows.

    `trtexec` has the compute time of engines by TensorRT's own tool, in milliseconds, by row.
    """
    gpu = run.environment.gpu
    machine = f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}" if gpu else "none found"
    verdicts = [Verdict(gpu is not None, "GPU", machine)]
    rows = {row.id: row for row in run.rows}
    for runtime, precisions in RUNTIMES.items():
        for precision in precisions:
            row = rows.get(f"{runtime}/{precision}")
            if row is None:
                verdicts.append(Verdict(False, f"{runtime}/{precision} ran", "it is not among the rows of this run"))
            else:
                verdicts += _judge_row(row, run.model.parameters, gpu)
    verdicts += [_faster(rows, "trt/fp16", "torch:cuda/fp32"), _faster(rows, "trt/int8", "trt/fp16")]
    spreads = build_spreads(run.rows)
    for spread in spreads:
        agree = spread.size <= SIZES_AGREE and spread.latency is not None and spread.latency <= LATENCIES_AGREE
        verdicts.append(Verdict(agree, f"two builds of {spread.name} agree", str(spread)))
    if not spreads:
        verdicts.append(Verdict(False, "two builds agree", "no engine was built twice; give --build-repeats 2"))
    second = {row.id: row for row in again.rows} if again else {}
    verdicts += [_same_again(row, second.get(row.id)) for row in run.rows if row.runtime == "ort:trt"]
    verdicts += [_like_trtexec(rows[name], theirs) for name, theirs in (trtexec or {}).items()]
    return verdicts


def _judge_row(row: Row, parameters: int | None, gpu: Gpu | None) -> Iterator[Verdict]:
    if row.status != "ok" or row.latency is None:
        yield Verdict(False, f"{row.id} ran", f"{row.status}: {row.reason}")
        return
    latency = row.latency
    yield Verdict(True, f"{row.id} ran", f"mean {latency.mean_ms:.3f} ms, p90 {latency.p90_ms:.3f} ms, {row.provider}")
    yield _follows(row)
    yield _at_home(row)
    quiet = latency.disturbed is None
    yield Verdict(
        quiet,
        f"{row.id} was not disturbed",
        latency.disturbed or f"{latency.disturbed_rounds} disturbed rounds left out",
    )
    yield _like_mlperf(row, latency)
    if row.runtime in ("trt", "torch:cuda"):
        yield _fits(row, latency, _least_ms(row, parameters, gpu))
    if row.runtime == "trt":
        yield _in_precision(row)


def _follows(row: Row) -> Verdict:
    what, fidelity = f"{row.id} follows the model", row.fidelity
    if fidelity is None:
        return Verdict(False, what, "its outputs were not compared")
    figures = f"relative error {fidelity.relative_error:.2g}, " if fidelity.relative_error is not None else ""
    figures += f"top-1 agrees on {100 * fidelity.top1_agreement:.0f} %"
    return Verdict(fidelity.judged, what, figures if fidelity.judged else f"{fidelity.verdict}; give a trained model")


def _at_home(row: Row) -> Verdict:
    due, (did, *_) = PROVIDERS[row.runtime], (row.provider or "nothing").split()
    stranded = misplaced(row.placement, due)
    built = row.artifact.build.library if row.artifact and row.artifact.build else due
    elsewhere = ", ".join(f"{sum(counts.values())} layers in {name}" for name, counts in stranded.items())
    said = elsewhere or f"{row.provider} on {row.device}"
    at_home = row.device == "cuda" and did == built == due and not stranded
    return Verdict(at_home, f"{row.id} did not fall back", said if built == due else f"built by {built}, not {due}")


def _like_mlperf(row: Row, latency: Latency) -> Verdict:
    what = f"{row.id} p90 is that of MLPerf's generator"
    if row.mlperf is None:
        return Verdict(False, what, "it has not driven this row; give --scenario single-stream")
    ours, theirs = latency.p90_ms, row.mlperf.p90_ms
    return Verdict(abs(ours / theirs - 1) <= MLPERF_AGREES, what, f"{ours:.3f} and {theirs:.3f} ms")


def _least_ms(row: Row, parameters: int | None, gpu: Gpu | None) -> float:
    """How long it takes to read the weights once, less what the GPU's cache can hold; 0 where that is not known."""
    if parameters is None or gpu is None or gpu.bandwidth_gb_s is None:
        return 0.0
    return max(parameters * BYTES[row.precision] - (gpu.l2_bytes or 0), 0) / gpu.bandwidth_gb_s / 1e6


def _fits(row: Row, latency: Latency, least_ms: float) -> Verdict:
    device = latency.device_mean_ms
    fits = device is not None and 0 < device <= latency.mean_ms and device >= least_ms
    words = f"{device:.3f} of {latency.mean_ms:.3f} ms on the device" if device is not None else "no device time"
    return Verdict(fits, f"{row.id} device time fits in host time", f"{words}, its weights alone take {least_ms:.3f}")


def _in_precision(row: Row) -> Verdict:
    counts = {name: kinds["products"] for name, kinds in row.layers.items() if kinds.get("products")}
    said = ", ".join(f"{count} in {name}" for name, count in counts.items())
    alone = list(counts) == [row.precision.upper()]
    return Verdict(alone, f"{row.id} convolutions run in {row.precision}", said or "the engine does not say")


def _faster(rows: Mapping[str, Row], fast: str, slow: str) -> Verdict:
    times = [row.latency.device_mean_ms if (row := rows.get(name)) and row.latency else None for name in (fast, slow)]
    words = " and ".join("not measured" if each is None else f"{each:.3f} ms" for each in times)
    faster = times[0] is not None and times[1] is not None and times[0] < times[1]
    return Verdict(faster, f"{fast} is faster on the device than {slow}", words)


def _same_again(row: Row, second: Row | None) -> Verdict:
    what = f"a second run of {row.id} is the same"
    if row.latency is None or second is None or second.latency is None:
        return Verdict(False, what, "it was not measured twice")
    latencies = row.latency.mean_ms, second.latency.mean_ms
    outputs = [each.fidelity.model_dump() if each.fidelity else None for each in (row, second)]
    alike = abs(latencies[1] / latencies[0] - 1) <= LATENCIES_AGREE
    words = f"means {latencies[0]:.3f} and {latencies[1]:.3f} ms"
    words += ", outputs alike" if outputs[0] == outputs[1] else ", outputs differ"
    return Verdict(alike and outputs[0] == outputs[1], what, words)


def _like_trtexec(row: Row, theirs: float) -> Verdict:
    ours = row.latency.device_mean_ms if row.latency else None
    agree = ours is not None and abs(ours / theirs - 1) <= TRTEXEC_AGREES
    words = f"{'no' if ours is None else f'{ours:.3f}'} and {theirs:.3f} ms"
    return Verdict(agree, f"{row.id} device time is that of trtexec", words)
