"""The yardstick: what it measures, and that every round of a comparison has it."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import psutil
import pytest

import rtbench
from rtbench.measure import yardstick
from rtbench.measure.yardstick import PRODUCTS, SIDE, Yardstick
from rtbench.runs.samples import read_blocks
from rtbench.worker import Worker


def test_it_is_the_quickest_run_after_those_that_lead(monkeypatch):
    durations = [1, 2, 1, 900, 700, 800, 650, 990]  # in microseconds, of which the first three do not count
    ticks = iter(list(itertools.accumulate(itertools.chain(*((0, 1000 * each) for each in durations)))))
    monkeypatch.setattr(yardstick, "host_clock", lambda: next(ticks))
    assert Yardstick(print).measure() == 0.65


def test_it_takes_what_its_arithmetic_takes():
    """At no more than 1 Tflop/s, and no less than 0.1 Gflop/s."""
    operations = PRODUCTS * 2 * SIDE**3
    assert operations / 1e9 < Yardstick(print).measure() < operations / 1e5


def threads_of(worker: Worker) -> int:
    worker.call("measure")
    return psutil.Process(worker.pid).num_threads()


def test_it_has_as_many_threads_as_a_row(tmp_path):
    counts = []
    for threads in (1, 2):
        with Worker(
            "rtbench.measure.yardstick:Yardstick", log=tmp_path / "log", timeout_s=60, threads=threads
        ) as worker:
            counts.append(threads_of(worker))
    assert counts[1] == counts[0] + 1


@pytest.fixture
def fakes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.fake").write_text(json.dumps({"latency_ms": [1.0]}))
    return tmp_path / "one.fake", tmp_path / "two.fake"


def blocks_of(fakes, ten_classes, folder):
    run = rtbench.compare(*fakes, data=ten_classes, runs=60, out=folder / "run", cache_dir=folder / "cache")
    assert run.complete
    assert [row.latency.runs for row in run.rows] == [60, 60]
    blocks = read_blocks(folder / "run")
    for row in run.rows:
        took = [block.yardstick_ms for block in blocks[row.id] if not math.isnan(block.yardstick_ms)]
        assert row.conditions.yardstick_ms == pytest.approx(tuple(np.percentile(took, [10, 90])))
    return blocks


def test_every_round_of_a_comparison_has_its_own(fakes, ten_classes, tmp_path):
    one, two = ([block.yardstick_ms for block in blocks] for blocks in blocks_of(fakes, ten_classes, tmp_path).values())
    assert one == two
    assert min(one) > 0
    assert len(set(one)) > len(one) / 2


def test_a_comparison_goes_on_without_one_that_dies(fakes, ten_classes, tmp_path, monkeypatch):
    call, measured = Worker.call, itertools.count()

    def dying(worker, method, *args, **kwargs):
        if method == "measure" and next(measured) == 3:
            worker.kill()
        return call(worker, method, *args, **kwargs)

    monkeypatch.setattr(Worker, "call", dying)
    for blocks in blocks_of(fakes, ten_classes, tmp_path).values():
        assert [math.isnan(block.yardstick_ms) for block in blocks] == [False] * 3 + [True] * (len(blocks) - 3)
