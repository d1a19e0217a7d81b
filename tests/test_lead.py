"""The lead that wakes a device before a block is timed, with a scripted one that lowers its clock at rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtbench.runs.samples import read_samples

SLEEPY = {"latency_ms": [1.0], "sleep": {"slower": 4.0, "wakes_ms": 100.0}}


def measure(rtbench, ten_classes: Path, folder: Path, runs: int, **script: object) -> np.ndarray:
    (folder / "model.fake").write_text(json.dumps(SLEEPY | script))
    done = rtbench(
        "compare", "model.fake", "--data", ten_classes, "--runs", runs, "--processes", 1, "--out", folder / "run"
    )
    assert done.returncode == 0, done.stderr
    return np.concatenate([block for blocks in read_samples(folder / "run").values() for block in blocks])


@pytest.mark.parametrize("runs", [20, 200])
def test_a_gpu_is_timed_awake_however_short_its_blocks(rtbench, ten_classes, tmp_path, runs):
    assert set(measure(rtbench, ten_classes, tmp_path, runs, device="cuda")) == {1.0}


def test_without_that_lead_every_block_would_meet_it_asleep(rtbench, ten_classes, tmp_path):
    assert set(measure(rtbench, ten_classes, tmp_path, 200, device="cpu")) == {4.0}


def test_the_shorter_lead_of_a_cpu_hides_what_a_process_that_has_waited_is_slower(rtbench, ten_classes, tmp_path):
    waited = {"slower": 1.25, "wakes_ms": 25.0}
    assert set(measure(rtbench, ten_classes, tmp_path, 200, device="cpu", sleep=waited)) == {1.0}
