"""The whole comparison with the fake runtime: real processes, a scripted clock, no heavy library."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from rtbench.measure.rounds import Block
from rtbench.records.run import Run
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block, read_blocks, read_samples
from rtbench.stats import mean_interval


def write_fake(folder: Path, name: str, **script: object) -> Path:
    path = folder / f"{name}.fake"
    path.write_text(json.dumps(script))
    return path


@pytest.fixture
def compare(rtbench, tmp_path, ten_classes):
    """Compare `.fake` files; gives the exit code and the run that was written."""

    def run(*arguments: str | Path, code: int = 0) -> Run:
        out = tmp_path / "run"
        done = rtbench("compare", *arguments, "--data", ten_classes, "--out", out)
        assert done.returncode == code, done.stderr
        return read_run(out)

    return run


def test_figures_follow_from_the_scripted_clock(compare, tmp_path):
    durations = [1.0, 2.0, 3.0, 10.0]
    run = compare(write_fake(tmp_path, "one", latency_ms=durations), "--runs", "100", "--warmup", "0")
    (row,) = run.rows
    assert (row.id, row.status, row.runtime) == ("fake/fp32", "ok", "fake")
    latency = row.latency
    assert latency is not None
    assert (latency.runs, latency.rounds, latency.processes) == (100, 20, 4)
    # Each of the blocks of five begins with three untimed runs, so the four durations come round in turn.
    samples = [each / 1 for block in read_samples(tmp_path / "run")["fake/fp32"] for each in block]
    assert len(samples) == 100
    assert set(samples) == set(durations)
    assert latency.mean_ms == pytest.approx(statistics.fmean(samples))
    assert latency.std_ms == pytest.approx(statistics.stdev(samples))
    assert latency.p50_ms == pytest.approx(statistics.median(samples))
    assert (latency.min_ms, latency.max_ms) == (1.0, 10.0)
    assert row.scores is not None
    assert row.scores.latency == pytest.approx(23.5 / statistics.fmean(samples))
    assert run.complete


def test_accuracy_is_counted_from_the_predictions_written(compare, tmp_path, ten_classes):
    run = compare(write_fake(tmp_path, "one"), "--runs", "10")
    with (tmp_path / "run" / "predictions" / "fake-fp32.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == sorted(
        str(path.relative_to(ten_classes)) for path in ten_classes.rglob("*.png")
    )
    assert all(line["label"] == line["file"].split("/")[0] for line in lines)
    right = sum(line["label"] == line["top1"] for line in lines)
    among = sum(line["label"] in [line[f"top{rank}"] for rank in range(1, 6)] for line in lines)
    accuracy = run.rows[0].accuracy
    assert accuracy is not None
    assert accuracy.images == len(lines) == 45
    assert accuracy.top1 == pytest.approx(right / 45)
    assert accuracy.top5 == pytest.approx(among / 45)
    assert accuracy.top1_ci95[0] < accuracy.top1 < accuracy.top1_ci95[1]


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ({"how": "raise"}, "failed", "scripted fault"),
        ({"how": "exit", "step": "open"}, "failed", "exited with code 3"),
        ({"how": "kill", "after": 60}, "failed", "SIGKILL"),
        ({"how": "hang", "after": 60}, "failed", "no answer for 20 s"),
        ({"how": "nan"}, "invalid", "NaN or infinity for 45 of 45 images"),
        ({"how": "unavailable", "step": "open"}, "unavailable", "change the script"),
    ],
    ids=lambda value: value["how"] if isinstance(value, dict) else "",
)
def test_one_bad_row_hides_no_other(compare, tmp_path, fault, status, words):
    well = write_fake(tmp_path, "well", latency_ms=[2.0])
    bad = write_fake(tmp_path, "bad", latency_ms=[1.0], fault=fault)
    code = 0 if status == "unavailable" else 1
    timeout = "20" if fault["how"] == "hang" else "600"  # in which every process has started, however busy the machine
    run = compare(bad, well, "--runs", "50", "--timeout", timeout, code=code)
    broken, whole = run.rows
    assert (broken.id, broken.status) == ("bad/fake/fp32", status)
    assert words in (broken.reason or "")
    assert broken.scores is None
    assert whole.status == "ok"
    assert whole.latency is not None
    assert (whole.latency.runs, whole.latency.mean_ms) == (50, 2.0)


def test_a_worker_killed_from_outside_while_it_waits_is_its_own_rows_failure(tmp_path, ten_classes, start):
    well, bad = (write_fake(tmp_path, name, latency_ms=[]) for name in ("well", "bad"))
    run = tmp_path / "run"
    arguments = [well, bad, "--data", ten_classes, "--out", run, "--runs", "10000000", "--processes", "1"]
    arguments += ["--patience", "0"]
    process = start(
        *(sys.executable, "-m", "rtbench", "compare", *arguments, "--cache-dir", tmp_path / "cache"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def rounds_of(row: str) -> int:
        return sum(block.row == row for block in every_block(run))

    def wait_for(row: str, rounds: int) -> None:
        while rounds_of(row) < rounds:
            assert process.poll() is None
            time.sleep(0.05)

    wait_for("bad/fake/fp32", 2)
    parent = psutil.Process(process.pid)
    (worker,) = (child for child in parent.children() if "bad" in Path(f"/proc/{child.pid}/fd/1").readlink().name)
    while True:  # with the parent stopped, a worker that is stopped too stays so
        parent.suspend()
        while parent.status() != psutil.STATUS_STOPPED:
            pass
        if worker.status() == psutil.STATUS_STOPPED:
            break
        parent.resume()
    worker.kill()
    parent.resume()
    wait_for("well/fake/fp32", rounds_of("bad/fake/fp32") + 5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    whole, broken = read_run(run).rows
    assert (broken.status, "was killed by SIGKILL" in (broken.reason or "")) == ("failed", True)
    assert whole.latency is not None
    assert whole.status == "ok"
    assert rounds_of(whole.id) > rounds_of(broken.id) + 1


def test_noise_beyond_the_models_own_spread_is_invalid(compare, tmp_path):
    run = compare(write_fake(tmp_path, "noisy", noise=5.0), "--runs", "10", code=1)
    assert run.rows[0].status == "invalid"
    assert "do not match the model's" in (run.rows[0].reason or "")
    assert run.rows[0].latency is None


def test_rows_are_compared_round_by_round_and_the_fastest_lead(compare, tmp_path):
    paths = [
        write_fake(tmp_path, name, latency_ms=latency_ms)
        for name, latency_ms in (("slow", [3.0, 3.0, 90.0]), ("quick", [1.5]), ("same", [1.5001]))
    ]
    run = compare(*paths, "--runs", "100")
    assert {row.id: row.leads for row in run.rows} == {
        "slow/fake/fp32": False,
        "quick/fake/fp32": True,
        "same/fake/fp32": True,
    }
    verdicts = {each.row: (each.to, each.verdict) for each in run.comparisons}
    assert verdicts == {
        "slow/fake/fp32": ("quick/fake/fp32", "slower"),
        "same/fake/fp32": ("quick/fake/fp32", "no difference shown"),
    }
    (slow,) = (each for each in run.comparisons if each.row == "slow/fake/fp32")
    assert slow.ratio == pytest.approx(0.5)  # of medians: one run in three that takes thirty times as long is no matter


def narrow(blocks: list[Block], target: float) -> bool:
    low, high = mean_interval([block.ms for block in blocks], [block.process for block in blocks])
    return (high - low) / 2 <= target * (high + low) / 2


def test_a_target_is_reached_in_whole_rounds(compare, tmp_path):
    steady = write_fake(tmp_path, "steady", latency_ms=[2.0])
    uneven = write_fake(tmp_path, "uneven", latency_ms=[float(each) for each in range(1, 60)])
    run = compare(steady, uneven, "--target-ci", "4%", "--runs", "50", "--processes", "1", "--max-time", "100000")
    first, second = (row.latency for row in run.rows)
    assert first is not None
    assert second is not None
    assert first.rounds == second.rounds > 20  # all go on until the widest is narrow
    assert first.runs == second.runs == 50 + 10 * (first.rounds - 20)
    blocks = read_blocks(tmp_path / "run")["uneven/fake/fp32"]
    assert narrow(blocks, 0.04)
    assert not narrow(blocks[:-1], 0.04)


def test_a_target_is_reached_at_the_end_of_a_process(compare, tmp_path):
    uneven = write_fake(tmp_path, "uneven", latency_ms=[float(each) for each in [*range(1, 90), 400, *range(1, 37)]])
    run = compare(uneven, "--target-ci", "2%", "--runs", "75", "--max-time", "100000")
    latency = run.rows[0].latency
    assert latency is not None
    blocks = read_blocks(tmp_path / "run")["fake/fp32"]
    count = Counter(block.process for block in blocks)
    assert latency.processes == len(count) > 3
    assert set(count.values()) <= {6, 7}  # 20 rounds over three processes, and more of the kind
    assert narrow(blocks, 0.02)
    last = max(count)
    assert not narrow([block for block in blocks if block.process < last], 0.02)


def test_every_process_is_a_fresh_one(compare, tmp_path):
    """A fault that comes with the 250th inference of a process does not come where no process makes so many."""
    path = write_fake(tmp_path, "one", latency_ms=[1.0], fault={"how": "raise", "after": 250})
    run = compare(path, "--runs", "200", "--warmup", "0")  # 320 with the untimed ones
    assert run.rows[0].status == "ok", run.rows[0].reason
    one = compare_once(compare, tmp_path, path, "--runs", "200", "--warmup", "0", "--processes", "1", code=1)
    assert one.rows[0].status == "failed"


def test_a_target_that_is_not_reached_in_time_is_told(compare, tmp_path):
    run = compare(
        write_fake(tmp_path, "wild", latency_ms=[1.0, 900.0, 3.0, 50.0, 7.0, 11.0]),
        *("--target-ci", "0.0001%", "--runs", "20", "--max-time", "0.5"),
    )
    assert any("0.0001% after 0.5 s: raise --max-time" in warning for warning in run.rows[0].warnings)


@pytest.mark.parametrize("target", ["0", "150%", "-1%", "narrow"])
def test_a_target_that_is_no_share_is_refused(rtbench, tmp_path, target):
    done = rtbench("compare", write_fake(tmp_path, "one"), "--target-ci", target)
    assert done.returncode == 2
    assert "write --target-ci 1%" in done.stderr


def test_load_first_run_warm_up_and_conditions_stand_beside_the_latency(compare, tmp_path):
    run = compare(write_fake(tmp_path, "one", latency_ms=[1.0]), "--runs", "100")
    row = run.rows[0]
    assert row.startup is not None
    assert row.startup.load_ms > 0
    assert row.startup.first_run_ms > 0
    assert row.latency is not None
    assert (row.latency.warmup_runs, row.latency.settled) == (20, True)
    assert row.conditions is not None
    assert row.timed == "(1, 3, 8, 8) float32 in host memory to (1, 10) float32 logits in host memory"
    fixed = compare_again(compare, tmp_path, "--warmup", "7")
    assert (fixed.warmup_runs, fixed.settled) == (7, None)


def compare_again(compare, tmp_path, *arguments):
    path = write_fake(tmp_path, "one", latency_ms=[1.0])
    return compare_once(compare, tmp_path, path, "--runs", "10", *arguments).rows[0].latency


def compare_once(compare, tmp_path, *arguments, code=0):
    """In place of the run before."""
    shutil.rmtree(tmp_path / "run")
    return compare(*arguments, code=code)


def test_the_same_file_twice_makes_two_rows(compare, tmp_path):
    path = write_fake(tmp_path, "same")
    run = compare(path, path, "--runs", "10")
    assert [row.id for row in run.rows] == ["same/fake/fp32", "same-2/fake/fp32"]


def test_strict_makes_an_unavailable_row_an_error(compare, tmp_path):
    path = write_fake(tmp_path, "absent", fault={"how": "unavailable", "step": "open"})
    compare(path, "--runs", "10", "--strict", code=1)


def test_every_file_of_the_run_directory_says_the_same(compare, rtbench, tmp_path):
    run = compare(write_fake(tmp_path, "one", latency_ms=[1.5, 2.5]), "--runs", "20")
    folder = tmp_path / "run"
    with (folder / "results.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert run.rows[0].latency is not None
    assert float(line["mean_ms"]) == run.rows[0].latency.mean_ms
    assert line["row"] == "fake/fp32"
    assert json.loads((folder / "result.json").read_text())["model"]["name"] == "one"
    for name, form in (("report.md", "markdown"), ("results.csv", "csv"), ("result.json", "json")):
        again = rtbench("report", folder, "--format", form)
        assert again.returncode == 0, again.stderr
        assert again.stdout.strip() == (folder / name).read_text().strip()


def test_ctrl_c_keeps_what_was_measured(tmp_path, ten_classes, start):
    path = write_fake(tmp_path, "slow", latency_ms=[])  # by the real clock, and so many runs that it lasts
    arguments = ["compare", path, "--data", ten_classes, "--out", tmp_path / "run", "--runs", "100000000"]
    arguments += ["--patience", "0"]
    process = start(
        *(sys.executable, "-m", "rtbench", *arguments, "--cache-dir", tmp_path / "cache"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    samples = tmp_path / "run" / "samples.csv"
    while not samples.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    run = read_run(tmp_path / "run")
    assert not run.complete
    row = run.rows[0]
    assert row.latency is not None
    assert 0 < row.latency.runs == sum(map(len, read_samples(tmp_path / "run")["fake/fp32"]))
    assert any("interrupted after" in warning for warning in row.warnings)
    assert "fake/fp32" in stdout


@pytest.mark.parametrize("where", ["not-empty", "below-a-file"])
def test_a_run_directory_that_cannot_be_is_found_before_measuring(rtbench, tmp_path, ten_classes, where):
    path = write_fake(tmp_path, "one")
    (tmp_path / "not-empty").mkdir()
    (tmp_path / "not-empty" / "mine").write_text("kept")
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "not-empty" if where == "not-empty" else tmp_path / "file" / "run"
    done = rtbench("compare", path, "--data", ten_classes, "--out", out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "not-empty" / "mine").read_text() == "kept"
    assert (tmp_path / "file").read_text() == "kept"


def test_bad_input_leaves_nothing_behind(rtbench, tmp_path):
    done = rtbench("compare", tmp_path / "absent.pt")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
