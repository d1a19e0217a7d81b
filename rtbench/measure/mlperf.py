"""A session driven by MLPerf's own load generator, in its single-stream scenario."""

from __future__ import annotations

import array
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import RuntimeUnavailable
from rtbench.records.measurement import MlPerf
from rtbench.runtimes import Session

LEAST_MS = 10_000
"""How long the generator keeps asking at least; a submission to MLPerf must last 600 s."""


def require_loadgen() -> None:
    if find_spec("mlperf_loadgen") is None:
        raise RuntimeUnavailable("MLPerf's load generator is not installed", "pip install 'rtbench[mlperf]'")


def run_single_stream(session: Session, batch: NDArray[np.float32], runs: int) -> MlPerf:
    """At least `runs` queries one after the other, each answered before the next; its verdict and its p90.

    Every query asks for the same staged input, since the generator times the system, not the decoding.
    """
    require_loadgen()
    import mlperf_loadgen as loadgen

    def answer(queries: list[loadgen.QuerySample]) -> None:
        for query in queries:
            session.bind(batch)
            session.run()
            logits = array.array("f", session.fetch().ravel())
            address, length = logits.buffer_info()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(query.id, address, length * logits.itemsize)])

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = runs
    settings.min_duration_ms = LEAST_MS
    sut = loadgen.ConstructSUT(answer, lambda: None)
    library = loadgen.ConstructQSL(1, 1, lambda _: None, lambda _: None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            logs = loadgen.LogSettings()
            logs.log_output.outdir = folder
            logs.log_output.copy_summary_to_stdout = True
            loadgen.StartTestWithLogSettings(sut, library, settings, logs)
            return read_summary((Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8"))
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(sut)


def read_summary(text: str) -> MlPerf:
    """What the generator's own summary file says."""

    def find(pattern: str) -> str:
        found = re.search(pattern, text)
        assert found, f"the load generator's summary lacks {pattern}"
        return found[1]

    return MlPerf(
        verdict=find(r"Result is : (\w+)"),
        queries=int(find(r"Processed at least \d+ queries \((\d+)\)")),
        p90_ms=int(find(r"90\.0+(?:th)? percentile latency \(ns\)\s*: (\d+)")) / 1e6,
        p90_bound_ms=int(find(r"Early stopping 90\.0th percentile estimate: (\d+)")) / 1e6,
    )
