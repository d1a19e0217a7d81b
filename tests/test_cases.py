"""Situations from public bug reports, as scripts beside the checkout that run rtbench and judge its answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_WAITING = """#!/bin/sh
case $1 in compare | score) exec "{rtbench}" "$@" --patience 0 ;; esac
exec "{rtbench}" "$@"
"""
"""For a machine that is also busy with other tests."""
CASES = sorted((Path(__file__).resolve().parents[2] / "shared" / "cases").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES or ["none"], ids=lambda case: Path(case).stem)
def test_the_answer_is_right(case: Path, tmp_path: Path) -> None:
    if not CASES:
        pytest.skip("no scripts in ../shared/cases")
    command = tmp_path / "rtbench"
    command.write_text(WITHOUT_WAITING.format(rtbench=Path(sys.executable).with_name("rtbench")))
    command.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, case, command],
        env=environment | {"CASES_TMP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
