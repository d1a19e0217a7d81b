"""Comparisons beside others that use the machine: what is timed again, what counts, and what is said of it."""

from __future__ import annotations

import csv
import itertools
import json
import os
import statistics
from pathlib import Path

import pytest
from machines import BUSY, QUIET, STOPPED, ScriptedMonitor, spinning

import rtbench
from rtbench.cli.progress import ProgressBar
from rtbench.compare import run as comparing
from rtbench.compare.patience import Patience
from rtbench.measure.conditions import Judge, Seen, summarise_conditions
from rtbench.records.run import Run
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block, read_blocks


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two that are timed by the real clock, as networks are."""
    paths = [tmp_path / "first.fake", tmp_path / "second.fake"]
    for path in paths:
        path.write_text(json.dumps({"latency_ms": []}))
    return paths


@pytest.fixture
def compare(models: list[Path], tmp_path: Path, ten_classes: Path, image_cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Compare on a scripted machine of two cores, 20 rounds of one run; gives the run and what progress was told."""
    told: list[str] = []

    def run(monitor: ScriptedMonitor, **options: object) -> tuple[Run, list[str]]:
        monkeypatch.setattr(comparing, "Monitor", lambda **_: monitor)
        made = rtbench.compare(
            *models,
            data=ten_classes,
            out=tmp_path / "run",
            cache_dir=image_cache,
            progress=lambda *what: told.append(what[0]),
            command=("rtbench", "compare"),
            **{"runs": 20, "warmup": 0, "threads": comparing.read_environment(1).cores, **options},
        )
        return made, told

    return run


def lines(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_disturbed_round_is_timed_again_and_stays_in_the_files(compare, tmp_path):
    """The second row to be timed in the third round is disturbed, and nothing is when both are timed again."""
    monitor = ScriptedMonitor([*[QUIET] * 5, BUSY])
    run, told = compare(monitor)
    assert (monitor.timed, monitor.looked) == (42, 1)
    folder = tmp_path / "run"
    blocks = every_block(folder)
    assert [(each.round, each.attempt, each.position) for each in blocks][4:9] == [
        *((2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1), (3, 0, 0))
    ]
    assert [each.disturbed for each in blocks] == ["", "", "", "", "", "other processes", *[""] * 36]
    samples = lines(folder, "samples.csv")
    assert [(line["round"], line["attempt"]) for line in samples if line["disturbed"]] == [("2", "0")]
    seen = {(line["row"], line["round"], line["attempt"]): line["other_s"] for line in lines(folder, "conditions.csv")}
    assert len(seen) == 42
    assert seen[blocks[5].row, "2", "0"] == "0.15"
    for row in run.rows:
        assert row.latency is not None
        assert (row.latency.runs, row.latency.rounds, row.latency.disturbed_rounds) == (20, 20, 0)
        assert (row.latency.disturbed, row.conditions.other_cores) == (None, pytest.approx(0.01))
        durations = [
            int(line["duration_ns"]) / 1e6
            for line in samples
            if line["row"] == row.id and (line["round"], line["attempt"]) != ("2", "0")
        ]
        assert row.latency.mean_ms == pytest.approx(statistics.fmean(durations))
    assert len(run.comparisons) == 1
    assert not [line for line in told if line.startswith("waiting")]


def test_the_machine_is_waited_for_and_whom_for_is_told(compare):
    monitor = ScriptedMonitor([BUSY], looks=[Seen(0.5, 0.6), Seen(0.5, 0.0, stolen_s=0.2), QUIET])
    _, told = compare(monitor)
    assert (monitor.timed, monitor.looked) == (42, 3)
    cores = comparing.read_environment(1).cores
    assert [line for line in told if line.startswith("waiting")] == [
        f"waiting for a neighbour (process 7), which keeps 1.2 of {cores} cores busy",
        "waiting for the host of this virtual machine (CPU steal)",
    ]


def test_two_that_take_turns_to_disturb_are_told_once_each(compare):
    stolen = Seen(0.5, 0.0, stolen_s=0.2)
    monitor = ScriptedMonitor([BUSY], looks=[Seen(0.5, 0.6), stolen, Seen(0.5, 0.6), stolen, Seen(0.5, 0.6), QUIET])
    _, told = compare(monitor)
    assert monitor.looked == 6
    waiting = [line for line, _ in itertools.groupby(told) if line.startswith("waiting")]
    assert len(waiting) == len(set(waiting)) == 2


def test_a_program_of_many_processes_is_told_once_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    monitor = ScriptedMonitor(looks=[Seen(0.5, 0.6)] * 3)
    numbers = iter(range(3))
    look = monitor.look
    monitor.look = lambda: (look()[0], f"cc1 (process {next(numbers)})")
    with ProgressBar() as progress:
        patience = Patience(1.5, monitor, Judge(2, 2), progress)
        progress("latency", 0, 2)
        assert not patience.wait()
        progress("latency", 1, 2)
        progress("waiting for cc1 (process 0), which keeps 1.2 of 2 cores busy", 1, 1)
    assert capsys.readouterr().err == "waiting for cc1 (process 0), which keeps 1.2 of 2 cores busy\n"


def test_a_round_is_timed_again_until_nothing_disturbs_it(compare, tmp_path):
    monitor = ScriptedMonitor([BUSY, *[QUIET] * 2, BUSY, BUSY], looks=[QUIET] * 3)
    run, _ = compare(monitor)
    assert [each.attempt for each in every_block(tmp_path / "run") if each.round == 0] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(each.attempt == 3 for blocks in read_blocks(tmp_path / "run").values() for each in blocks[:1])
    assert [row.latency.disturbed_rounds for row in run.rows] == [0, 0]


def test_patience_has_an_end_for_all_rounds_together(compare, tmp_path):
    """Four looks of half a second are two seconds; after that every round is timed once, disturbed or not."""
    monitor = ScriptedMonitor(looks=[Seen(0.5, 0.6)] * 99, then=BUSY)
    run, _ = compare(monitor, patience_s=2.0)
    assert (monitor.timed, monitor.looked) == (40, 4)
    assert {each.attempt for each in every_block(tmp_path / "run")} == {0}
    assert all(row.latency.disturbed for row in run.rows)


def test_without_patience_nothing_is_waited_for(compare):
    monitor = ScriptedMonitor(then=BUSY)
    compare(monitor, patience_s=0.0)
    assert (monitor.timed, monitor.looked) == (40, 0)


def test_what_repeats_take_is_taken_from_patience():
    judge, monitor = Judge(2, 2), ScriptedMonitor(looks=[Seen(0.5, 0.6)])
    patience = Patience(2.0, monitor, judge, lambda *_: None)
    patience.spend(1.0)
    assert patience.wait()  # half a second for a disturbed look, a tenth for the quiet one
    patience.spend(0.5)
    assert not patience.wait()
    assert monitor.looked == 2


def test_a_containers_limit_is_not_waited_for(compare, tmp_path):
    monitor = ScriptedMonitor([STOPPED] * 6)
    run, _ = compare(monitor)
    assert (monitor.timed, monitor.looked) == (40, 0)
    assert [each.disturbed for each in every_block(tmp_path / "run")] == [*["throttled"] * 6, *[""] * 34]
    for row in run.rows:
        assert (row.latency.rounds, row.latency.runs, row.latency.disturbed_rounds) == (17, 17, 3)
        assert (row.latency.disturbed, row.conditions.throttled_s) == (None, 0)
    assert len(run.comparisons) == 1


@pytest.mark.parametrize(("disturbed", "flagged"), [(10, False), (11, True)])
def test_rows_of_which_more_than_half_was_disturbed_are_compared_with_nothing(compare, disturbed, flagged, tmp_path):
    run, _ = compare(ScriptedMonitor([STOPPED] * (2 * disturbed)))
    for row in run.rows:
        assert row.latency is not None
        assert row.latency.disturbed_rounds == disturbed
        assert row.latency.rounds == (20 if flagged else 10)
        if flagged:
            why = f"the container's CPU limit stopped it for {0.05 * disturbed:.2g} s"
            assert row.latency.disturbed == why
            assert row.latency.warnings[0] == f"{why} in 11 of 20 rounds: raise the limit or lower --threads"
            assert not row.latency.stable
    assert bool(run.comparisons) != flagged
    assert any(row.leads for row in run.rows) != flagged
    counted = read_blocks(tmp_path / "run")
    assert {len(blocks) for blocks in counted.values()} == {20 if flagged else 10}


def test_a_resumed_runs_conditions_are_those_of_the_files(compare, tmp_path):
    """A quarter of the rounds before the interrupt, which were disturbed, and the rest after it, which were not."""
    first, _ = compare(ScriptedMonitor([STOPPED] * 10, interrupt=10))
    assert not first.complete
    assert all(row.latency.disturbed for row in first.rows)
    run, _ = compare(ScriptedMonitor(then=Seen(0.1, 0.003, cpu_mhz=2000.0)), resume=True)
    assert run.complete
    for row in run.rows:
        assert (row.latency.runs, row.latency.disturbed_rounds, row.latency.disturbed) == (15, 5, None)
        blocks = [each for each in every_block(tmp_path / "run") if each.row == row.id]
        assert [each.disturbed for each in blocks] == [*["throttled"] * 5, *[""] * 15]
        assert row.conditions == summarise_conditions([each.seen for each in blocks[5:]])
        assert row.conditions.cpu_mhz == (2000.0, 2000.0)


def test_conditions_of_before_an_interruption_stay(compare):
    compare(ScriptedMonitor(then=Seen(0.1, 0.004, cpu_mhz=1000.0), interrupt=20))
    run, _ = compare(ScriptedMonitor(then=Seen(0.1, 0.002, cpu_mhz=3000.0)), resume=True)
    for row in run.rows:
        assert row.conditions.cpu_mhz == (1000.0, 3000.0)
        assert row.conditions.other_cores == pytest.approx(0.03)


def test_a_round_half_timed_before_an_interrupt_is_timed_again_where_it_is_disturbed(compare, tmp_path):
    """Of the fourth round the first row is kept; the second one's block is disturbed after the interrupt."""
    compare(ScriptedMonitor(interrupt=7))
    run, _ = compare(ScriptedMonitor([BUSY]), resume=True)
    blocks = [each for each in every_block(tmp_path / "run") if each.round == 3]
    assert [(each.attempt, each.disturbed) for each in blocks] == [(0, ""), (0, "other processes"), (1, ""), (1, "")]
    assert [row.latency.runs for row in run.rows] == [20, 20]


def test_a_scripted_clock_is_disturbed_by_nothing(compare, models, tmp_path):
    for path in models:
        path.write_text(json.dumps({"latency_ms": [1.0]}))
    monitor = ScriptedMonitor(then=BUSY)
    run, _ = compare(monitor)
    assert (monitor.timed, monitor.looked) == (40, 0)
    assert not any(each.disturbed for each in every_block(tmp_path / "run"))
    assert run.rows[0].conditions.other_cores == pytest.approx(1.5)  # as it was, all the same


def test_a_machine_that_hides_what_it_does_is_told_of(compare):
    monitor = ScriptedMonitor()
    monitor.hidden = ["its processes"]
    run, _ = compare(monitor)
    for row in run.rows:
        assert "this machine hides its processes: others may disturb unnoticed" in row.warnings


def test_beside_a_machine_that_is_really_busy_nothing_is_claimed(rtbench, models, tmp_path, ten_classes):
    for path in models:
        path.write_text(json.dumps({"latency_ms": [], "classes": 30_000}))  # so many that a run takes a moment
    arguments = ("--data", ten_classes, "--limit", "10", "--out", tmp_path / "run", "--runs", "60", "--patience", "1")
    with spinning(os.cpu_count() or 1):
        done = rtbench("compare", *models, *arguments)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    for row in run.rows:
        assert row.latency is not None
        assert row.latency.disturbed is not None
        if not row.conditions.throttled_s:  # by a limit of the container that the tests run in
            assert "other processes kept" in row.latency.disturbed
        assert row.latency.disturbed_rounds > row.latency.rounds / 2
        assert not row.latency.stable
        assert row.latency.warnings[0].startswith(row.latency.disturbed)
        assert row.conditions.other_cores > 0.1
        assert not row.leads
    assert run.comparisons == []
    marked = [line for line in lines(tmp_path / "run", "samples.csv") if line["disturbed"]]
    assert len(marked) > 60
