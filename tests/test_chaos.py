"""A few kills of benchmarks/chaos.py, on fake rows; `make chaos` does a hundred, on real ones too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHAOS = Path(__file__).resolve().parents[1] / "benchmarks" / "chaos.py"


def test_runs_that_are_killed_and_resumed_end_as_if_nobody_had_disturbed_them() -> None:
    command = [sys.executable, CHAOS, "--kills", "3", "--rows", "fake", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 0 of them with a fault." in done.stdout
