"""An earlier run's artifacts timed in the rounds of a new one: real processes, a scripted clock."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest
from machines import ScriptedMonitor, spinning

import rtbench as rtbench_api
from rtbench.compare import run as comparing
from rtbench.records.run import Run
from rtbench.review.diff import Diff
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples

DURATIONS = (9.9, 10.0, 10.1, 10.0)


def write_fake(path: Path, slower: float = 1.0, **script: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"latency_ms": [slower * each for each in DURATIONS]} | script))
    return path


@pytest.fixture
def compare(rtbench, tmp_path, ten_classes):
    """Compare into a folder of that name; gives what was printed and the run."""

    def run(name: str, *arguments: str | Path, code: int = 0) -> tuple[str, Run]:
        done = rtbench("compare", *arguments, "--data", ten_classes, "--runs", "40", "--out", tmp_path / name)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, read_run(tmp_path / name)

    return run


@pytest.fixture
def before(compare, tmp_path) -> Path:
    compare("before", write_fake(tmp_path / "old" / "model.fake"))
    return tmp_path / "before"


def against(run: Run, row: str = "fake/fp32"):
    assert run.against is not None
    return next(each for each in run.against.rows if each.id == row)


@pytest.mark.parametrize(("slower", "code"), [(1.05, 1), (1.0, 0), (0.95, 0)])
def test_five_percent_trips_a_budget_of_three(compare, before, rtbench, tmp_path, slower, code):
    model = write_fake(tmp_path / "new" / "model.fake", slower)
    stdout, run = compare("after", model, "--against", before, "--fail-on", "latency:3%", code=code)
    row = against(run)
    assert (row.before_ms, row.after_ms) == (pytest.approx(10.0), pytest.approx(10.0 * slower))
    assert row.comparison is not None
    assert row.comparison.ratio == pytest.approx(1 / slower)
    verdict = {1.05: "slower", 1.0: "no difference shown", 0.95: "faster"}[slower]
    assert (row.comparison.verdict, row.reason) == (verdict, None)
    assert f"Gate: {'FAIL' if code else 'PASS'}" in stdout
    if code:
        assert "FAIL latency:3%: fake/fp32 +5.0 %" in stdout
    # What was timed again is no row of the new run, but has its samples there.
    assert [each.id for each in run.rows] == ["fake/fp32"]
    assert {row: sum(map(len, each)) for row, each in read_samples(tmp_path / "after").items()} == {
        "fake/fp32": 40,
        "against/fake/fp32": 40,
    }
    assert not (tmp_path / "after" / "against").exists()
    # A diff later on uses it.
    later = rtbench("diff", before, tmp_path / "after", "--format", "json", "--fail-on", "latency:3%")
    assert later.returncode == code
    written = json.loads(later.stdout)
    assert written.pop("gate")["verdict"] == ("FAIL" if code else "PASS")
    diff = Diff.model_validate(written)
    assert diff.side_by_side
    assert diff.rows[0].latency.change == pytest.approx(slower - 1)
    assert "timed in the same rounds" in rtbench("diff", before, tmp_path / "after").stdout


def test_both_are_timed_in_every_round(compare, before, tmp_path):
    compare("after", write_fake(tmp_path / "new" / "model.fake"), "--against", before)
    with (tmp_path / "after" / "samples.csv").open(newline="") as file:
        rows_by_round: dict[str, set[str]] = {}
        for line in csv.DictReader(file):
            rows_by_round.setdefault(line["round"], set()).add(line["row"])
    assert len(rows_by_round) == 20
    assert all(rows == {"fake/fp32", "against/fake/fp32"} for rows in rows_by_round.values())


def test_an_artifact_that_is_gone_is_told_before_anything_is_measured(before, tmp_path, rtbench):
    (tmp_path / "old" / "model.fake").unlink()
    done = rtbench("compare", write_fake(tmp_path / "new" / "model.fake"), "--against", before, "--out", "after")
    assert done.returncode == 2
    assert done.stderr == (
        f"rtbench: nothing of {before} can be timed again: its artifact {tmp_path / 'old' / 'model.fake'}"
        " no longer exists; measure it again with --keep-artifacts\n"
    )
    assert not (tmp_path / "after").exists()


def test_an_artifact_that_has_changed_is_told(before, tmp_path, rtbench):
    model = write_fake(tmp_path / "old" / "model.fake", 1.05)
    done = rtbench("compare", model, "--against", before, "--out", "after")
    assert done.returncode == 2
    assert f"its artifact {model} has changed since; measure it again with --keep-artifacts" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "after").exists()


def test_a_run_of_which_no_row_was_measured_is_told(compare, tmp_path, rtbench):
    broken = write_fake(tmp_path / "old" / "model.fake", fault={"how": "raise"})
    compare("before", broken, code=1)
    done = rtbench("compare", broken, "--against", tmp_path / "before", "--out", "after")
    assert done.returncode == 2
    assert "no row of it was measured" in done.stderr


def test_rows_that_only_one_of_them_has_say_so(compare, tmp_path, rtbench):
    """Of two models measured before, the artifact of one is gone; a third is new."""
    old = {name: write_fake(tmp_path / "old" / f"{name}.fake") for name in ("one", "two")}
    compare("before", *old.values())
    old["two"].unlink()
    new = [write_fake(tmp_path / "new" / f"{name}.fake", 1.05) for name in ("one", "two", "three")]
    options = ("--against", tmp_path / "before", "--fail-on", "latency:20%", "--strict")
    stdout, run = compare("after", *new, *options, code=1)
    assert against(run, "one/fake/fp32").comparison is not None
    assert against(run, "two/fake/fp32").reason == f"its artifact {old['two']} no longer exists"
    assert against(run, "three/fake/fp32").reason == "not measured in both"
    told = " ".join(stdout.split())
    assert "Gate: FAIL PASS latency:20%: nearest is one/fake/fp32, +5.0 %" in told
    assert f"FAIL two/fake/fp32: latency: its artifact {old['two']} no longer exists" in told
    assert "FAIL three/fake/fp32: latency: not measured in both" in told
    usual = rtbench("diff", tmp_path / "before", tmp_path / "after", "--fail-on", "latency:20%")
    assert usual.returncode == 0
    assert f"not judged two/fake/fp32: latency: its artifact {old['two']}" in " ".join(usual.stdout.split())


def test_an_earlier_row_that_breaks_now_is_compared_with_nothing(compare, tmp_path):
    """It ran well with a short warm-up, and breaks in a longer one."""
    old = write_fake(tmp_path / "old" / "model.fake", fault={"how": "raise", "after": 300})
    compare("before", old)
    new = write_fake(tmp_path / "new" / "model.fake")
    options = ("--against", tmp_path / "before", "--warmup", "300")
    _, run = compare("after", new, *options)
    row = against(run)
    assert row.comparison is None
    assert "scripted fault" in (row.reason or "")
    assert run.rows[0].status == "ok"


def test_bad_input_leaves_nothing_of_what_was_held(before, tmp_path, rtbench):
    done = rtbench("compare", tmp_path / "absent.fake", "--against", before, "--out", "after")
    assert done.returncode == 2
    assert "absent.fake does not exist" in done.stderr
    assert not (tmp_path / "after").exists()


def test_what_is_held_outlives_an_interrupt(before, tmp_path, ten_classes, image_cache, monkeypatch):
    """The earlier model is gone by the time that the run is taken up again."""
    model = write_fake(tmp_path / "new" / "model.fake", 1.05)
    held = tmp_path / "after" / "against"

    def measure(monitor: ScriptedMonitor, *, resume: bool) -> Run:
        monkeypatch.setattr(comparing, "Monitor", lambda **_: monitor)
        options = {"data": ten_classes, "cache_dir": image_cache, "runs": 20, "against": before}
        return rtbench_api.compare(
            model, out=tmp_path / "after", resume=resume, command=("rtbench", "compare"), **options
        )

    first = measure(ScriptedMonitor(interrupt=13), resume=False)
    assert not first.complete
    assert [path.name for path in held.glob("*/*")] == ["model.fake"]
    samples = read_samples(tmp_path / "after")
    (tmp_path / "old" / "model.fake").unlink()
    run = measure(ScriptedMonitor(), resume=True)
    assert run.complete
    assert against(run).comparison is not None
    assert against(run).comparison.verdict == "slower"
    for row, rounds in samples.items():
        again = read_samples(tmp_path / "after")[row]
        assert [each.tolist() for each in again[: len(rounds)]] == [each.tolist() for each in rounds]
        assert len(again) == 20
    assert not held.exists()


def test_a_budget_without_an_earlier_run_is_refused(tmp_path, rtbench):
    done = rtbench("compare", write_fake(tmp_path / "new" / "model.fake"), "--fail-on", "latency:3%", "--out", "after")
    assert done.returncode == 2
    assert done.stderr == ("rtbench: --fail-on has nothing to compare with; give the earlier run with --against\n")
    assert not (tmp_path / "after").exists()


def test_a_budget_that_is_none_is_refused_before_measuring(before, tmp_path, rtbench):
    model = write_fake(tmp_path / "new" / "model.fake")
    done = rtbench("compare", model, "--against", before, "--fail-on", "latency:3", "--out", "after")
    assert done.returncode == 2
    assert "is not a budget" in done.stderr
    assert not (tmp_path / "after").exists()


def test_the_earlier_artifacts_run_in_an_environment_of_their_own(compare, before, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "hosted elsewhere"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    new = write_fake(tmp_path / "new" / "model.fake")
    _, run = compare("after", new, "--against", before, "--against-python", python)
    assert run.against is not None
    assert run.against.python == str(python)
    assert against(run).comparison is not None
    logs = {path.stem: path.read_text() for path in (tmp_path / "after" / "logs").iterdir()}
    assert {name for name, text in logs.items() if "hosted elsewhere" in text} == {"against-fake-fp32"}


def test_on_a_busy_machine_nothing_is_claimed_of_networks(compare, tmp_path):
    """By the real clock, as networks are timed."""
    old = write_fake(tmp_path / "old" / "model.fake", latency_ms=[], classes=30_000)
    compare("before", old, "--patience", "0", "--limit", "10")
    with spinning(os.cpu_count() or 1):
        options = ("--against", tmp_path / "before", "--fail-on", "latency:3%", "--patience", "0", "--limit", "10")
        stdout, run = compare("after", old, *options)
    row = against(run)
    assert row.comparison is None
    assert row.reason == run.rows[0].latency.disturbed
    assert "Gate: PASS" in stdout
    assert "not judged fake/fp32: latency: " in stdout
