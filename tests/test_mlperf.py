"""MLPerf's own load generator, really run on a session with a scripted answer."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rtbench.measure import mlperf
from rtbench.measure.mlperf import read_summary, run_single_stream
from rtbench.models.fake_model import FakeScript
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block
from rtbench.runtimes.fake import FakeSession
from rtbench.stats import quantile_bound


class Recording(FakeSession):
    """Takes a millisecond or so by the real clock, and counts."""

    def __init__(self) -> None:
        super().__init__(FakeScript(latency_ms=()))
        self.calls: list[str] = []

    def bind(self, batch):
        self.calls.append("bind")
        super().bind(batch)

    def run(self):
        self.calls.append("run")
        sum(math.sqrt(each) for each in range(20_000))
        super().run()

    def fetch(self):
        self.calls.append("fetch")
        return super().fetch()


def test_every_query_is_one_whole_run_and_the_verdict_is_the_generators(monkeypatch) -> None:
    monkeypatch.setattr(mlperf, "LEAST_MS", 300)
    session = Recording()
    measured = run_single_stream(session, np.zeros((1, 3, 8, 8), dtype=np.float32), 150)
    assert measured.verdict == "VALID"
    assert measured.queries >= 150
    assert session.calls == ["bind", "run", "fetch"] * (len(session.calls) // 3)
    assert measured.queries <= len(session.calls) // 3 <= measured.queries + 2
    assert 0 < measured.p90_ms <= measured.p90_bound_ms


SUMMARY = """
90.0th percentile latency (ns) : 1078189
Result is : INVALID
  Min duration satisfied : Yes
Early Stopping Result:
 * Processed at least 64 queries (900).
 * Would discard 68 highest latency queries.
 * Early stopping 90.0th percentile estimate: 1079772
 * Early stopping 99.0th percentile estimate: 7110256
90.00 percentile latency (ns)   : 1078189
"""


def test_a_summary_is_read_as_it_stands() -> None:
    measured = read_summary(SUMMARY)
    assert (measured.verdict, measured.queries) == ("INVALID", 900)
    assert (measured.p90_ms, measured.p90_bound_ms) == (1.078189, 1.079772)


def test_our_bound_of_p90_is_the_generators_to_a_rank() -> None:
    # It discards the 68 highest of 900 and takes the next.
    assert quantile_bound(np.arange(900.0), 0.90, 0.99) == pytest.approx(900 - 69, abs=1)


def test_the_scenario_on_the_command_line(rtbench, tmp_path, ten_classes) -> None:
    path = tmp_path / "real.fake"
    path.write_text(json.dumps({"latency_ms": []}))
    asked = ("--data", ten_classes, "--runs", "50", "--scenario", "single-stream", "--patience", "0")
    done = rtbench("compare", path, *asked, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "VALID, p90" in done.stdout
    (row,) = read_run(tmp_path / "run").rows
    assert row.mlperf is not None
    assert row.mlperf.queries > 50
    assert sum(len(block.durations_ns) for block in every_block(tmp_path / "run")) == 50
