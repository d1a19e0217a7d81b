"""What a finished run on a GPU must show before its figures are believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rtbench.records.run import Row, Run
from rtbench.review.builds import build_spreads
from rtbench.runtimes import misplaced

RUNTIMES = {
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
SIZES_AGREE = 0.02
LATENCIES_AGREE = 0.10


@dataclass(frozen=True)
class Verdict:
    passed: bool
    what: str
    figures: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.what}: {self.figures}"


def judge_gpu_run(run: Run) -> list[Verdict]:
    """A verdict for the machine, four for every row that is due, and one for each pair of builds."""
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
                verdicts += _judge_row(row, untrained=run.model.random_weights)
    spreads = build_spreads(run.rows)
    for spread in spreads:
        agree = spread.size <= SIZES_AGREE and spread.latency is not None and spread.latency <= LATENCIES_AGREE
        verdicts.append(Verdict(agree, f"two builds of trt/{spread.precision} agree", str(spread)))
    if not spreads:
        verdicts.append(Verdict(False, "two builds agree", "no engine was built twice; give --build-repeats 2"))
    return verdicts


def _judge_row(row: Row, *, untrained: bool) -> Iterator[Verdict]:
    if row.status != "ok" or row.latency is None:
        yield Verdict(False, f"{row.id} ran", f"{row.status}: {row.reason}")
        return
    latency, fidelity = row.latency, row.fidelity
    yield Verdict(True, f"{row.id} ran", f"mean {latency.mean_ms:.3f} ms, p90 {latency.p90_ms:.3f} ms, {row.provider}")
    if fidelity is None:
        yield Verdict(False, f"{row.id} follows the model", "its outputs were not compared")
    elif fidelity.judged:
        figures = f"relative error {fidelity.relative_error:.2g}, top-1 agrees on {fidelity.top1_agreement:.0%}"
        yield Verdict(True, f"{row.id} follows the model", figures)
    else:
        yield Verdict(untrained, f"{row.id} follows the model", fidelity.verdict)
    stranded = misplaced(row.placement, PROVIDERS[row.runtime])
    at_home = row.device == "cuda" and PROVIDERS[row.runtime] in (row.provider or "") and not stranded
    elsewhere = ", ".join(f"{sum(counts.values())} layers in {name}" for name, counts in stranded.items())
    yield Verdict(at_home, f"{row.id} did not fall back", elsewhere or f"{row.provider} on {row.device}")
    if row.runtime in ("trt", "torch:cuda"):
        device = latency.device_mean_ms
        consistent = device is not None and 0 < device <= latency.mean_ms
        words = f"{device:.3f} of {latency.mean_ms:.3f} ms on the device" if device is not None else "no device time"
        yield Verdict(consistent, f"{row.id} device time fits in host time", words)
