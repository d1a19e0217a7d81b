"""Progress where nobody watches a terminal: a line now and then, and none after the end."""

from __future__ import annotations

import time

import pytest

from rtbench.cli import progress
from rtbench.cli.progress import ProgressBar
from rtbench.errors import UsageError


def test_a_pipe_is_told_at_intervals_what_is_done(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv(progress.INTERVAL, "0.01")
    with ProgressBar() as bar:
        bar("decode images", 10, 400)
        time.sleep(0.2)
        assert capsys.readouterr().err == ""  # what is read may be refused yet, in one line
        bar("export onnx/fp32", 0, 1)
        said = ""
        while "export onnx/fp32\n" not in said:  # a phase that says nothing meanwhile
            time.sleep(0.01)
            said += capsys.readouterr().err
        bar("latency", 120, 800)
        while "latency: 120 of 800\n" not in said:
            time.sleep(0.01)
            said += capsys.readouterr().err
    time.sleep(0.1)
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("loudness", ["quiet", "verbose"])
def test_the_intervals_are_for_those_who_said_nothing(loudness, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv(progress.INTERVAL, "0.01")
    with ProgressBar(loudness) as bar:
        bar("latency", 1, 2)
        time.sleep(0.2)
    assert "1 of 2" not in capsys.readouterr().err


def test_the_interval_is_the_users(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv(progress.INTERVAL, "0")
    with ProgressBar() as bar:
        bar("latency", 1, 2)
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
    for wrong in ("ten", "-1", "nan", "inf"):
        monkeypatch.setenv(progress.INTERVAL, wrong)
        with pytest.raises(UsageError, match=f"RTBENCH_PROGRESS_S is {wrong}, which is not a number of seconds"):
            ProgressBar()
    monkeypatch.delenv(progress.INTERVAL)
    assert progress._interval_s() == 10
