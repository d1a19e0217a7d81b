"""What two runs show to have changed, and what they do not."""

from __future__ import annotations

import io
import itertools
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import (
    IMAGES,
    SLOWER,
    changed,
    made_answers,
    made_blocks,
    made_row,
    made_run,
    rewrite,
    seed,
    write_run,
    write_usual_run,
)
from rich.console import Console

from rtbench.errors import UsageError
from rtbench.report.changes import render_diff, render_diff_markdown
from rtbench.review.diff import Diff, diff
from rtbench.review.gate import Gate, judge, parse_budgets
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples
from rtbench.stats import paired_change


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    write_usual_run(tmp_path / "before")
    write_usual_run(tmp_path / "after", slower=SLOWER)
    return tmp_path / "before", tmp_path / "after"


def test_a_quarter_slower_is_found(runs):
    found = changed(*runs)
    before, after = (read_samples(run) for run in runs)
    for row in ("torch/fp32", "ort/fp32", "ort/int8"):
        change = found[row].latency
        medians = [statistics.median(np.concatenate(samples[row])) for samples in (before, after)]
        assert (change.before, change.after) == pytest.approx(medians)
        assert change.change == pytest.approx(medians[1] / medians[0] - 1)
        assert change.verdict == "worse"
        assert 0.1 < change.ci95[0] < 0.25 < change.ci95[1]
    assert changed(*reversed(runs))["ort/int8"].latency.verdict == "better"


def test_a_tenth_is_within_what_runs_differ_by(tmp_path, runs):
    """Without a side-by-side measurement: days, hosts and clocks differ by as much."""
    write_usual_run(tmp_path / "tenth", slower=1.1)
    for row, change in changed(runs[0], tmp_path / "tenth").items():
        if change.latency.change is not None:
            assert change.latency.change == pytest.approx(0.1, abs=0.01), row
            assert change.latency.verdict == "no difference shown"


def test_the_same_run_twice_shows_nothing(runs):
    for row in changed(runs[0], runs[0]).values():
        for change in (row.latency, row.accuracy, row.size):
            assert change.verdict in ("no difference shown", "not comparable")
            assert change.change in (0, None)


def test_a_drifting_row_needs_more_to_be_shown(runs):
    """ort/fp16 climbs by 30 % within each run: the same quarter is not shown there."""
    row = changed(*runs)["ort/fp16"].latency
    assert row.change == pytest.approx(0.25, abs=1e-6)
    assert row.verdict == "no difference shown"


def test_a_row_that_was_disturbed_too_often_is_compared_with_nothing(runs):
    rows = [
        row.model_copy(update={"latency": row.latency.model_copy(update={"disturbed": "others kept 1.3 cores busy"})})
        if row.id == "ort/int8"
        else row
        for row in read_run(runs[1]).rows
    ]
    rewrite(runs[1], rows=rows)
    found = changed(*runs)
    assert found["ort/int8"].latency.verdict == "not comparable"
    assert found["ort/int8"].latency.reason == "others kept 1.3 cores busy in the second run"
    assert found["ort/int8"].latency.before is not None
    assert found["ort/int8"].accuracy.verdict == "no difference shown"
    assert found["ort/fp32"].latency.verdict == "worse"
    assert changed(*reversed(runs))["ort/int8"].latency.reason.endswith("in the first run")


def test_disturbed_rounds_are_left_out_of_a_diff(tmp_path, runs):
    """Eight of 20 rounds of the second run took three times as long, in one row and marked so."""
    run = read_run(runs[0])
    blocks = {row: made_blocks(row, 0, 6.0, seed(row)) for row in ("ort/fp32", "ort/int8")}
    for block in blocks["ort/int8"][:8]:
        block.durations_ns[:] *= 3
    blocks["ort/int8"][:8] = [replace(block, disturbed="other processes") for block in blocks["ort/int8"][:8]]
    write_run(tmp_path / "disturbed", run, blocks, {})
    whole = {row: made_blocks(row, 0, 6.0, seed(row)) for row in blocks}
    write_run(tmp_path / "quiet", run, whole, {})
    change = changed(tmp_path / "quiet", tmp_path / "disturbed")["ort/int8"].latency
    assert change.change == pytest.approx(0, abs=0.01)
    assert change.after == pytest.approx(np.median(np.concatenate([block.ms for block in blocks["ort/int8"][8:]])))


def test_a_paired_interval_covers_the_true_difference():
    """Exact coverage over all outcomes of 60 images, of which 5 % are lost and 3 % gained."""
    from scipy.stats import multinomial

    covered = 0.0
    for lost, gained in itertools.product(range(25), range(25)):
        centre, error = paired_change(gained, lost, 60)
        inside = centre - 1.96 * error <= -0.02 <= centre + 1.96 * error
        covered += inside * multinomial.pmf([lost, gained, 60 - lost - gained], 60, [0.05, 0.03, 0.92])
    assert 0.94 < covered <= 1


def test_accuracy_is_compared_image_by_image(tmp_path):
    """Both runs have the same share right, on other images; then the second loses 40 of 400."""
    blocks = {"ort/int8": made_blocks("ort/int8", 0, 6.0, seed("ort/int8"))}
    for name, wrong in {"a": range(40), "b": range(40, 80), "c": range(80)}.items():
        run = made_run([made_row("ort/int8", 6.0, wrong)])
        write_run(tmp_path / name, run, blocks, {"ort/int8": made_answers(wrong)})
    same, worse = (changed(tmp_path / "a", tmp_path / name)["ort/int8"].accuracy for name in ("b", "c"))
    assert (same.change, same.verdict) == (0, "no difference shown")
    assert worse.change == pytest.approx(-40 / IMAGES)
    assert worse.verdict == "worse"
    assert worse.ci95[0] < -0.1 < worse.ci95[1] < 0
    # 80 flips both ways widen the interval: lost and gained are each known to within sqrt(40).
    assert same.ci95[1] == pytest.approx(1.96 * math.sqrt(80) / IMAGES, rel=0.05)


def test_size_is_exact(runs):
    after = read_run(runs[1])
    rows = [
        row.model_copy(update={"artifact": row.artifact.model_copy(update={"size_bytes": row.artifact.size_bytes + 1})})
        if row.artifact
        else row
        for row in after.rows
    ]
    rewrite(runs[1], rows=rows)
    change = changed(*runs)["ort/int8"].size
    assert change.verdict == "worse"
    assert change.change == pytest.approx(1 / 11_800_000)
    assert change.ci95 == (change.change, change.change)


def test_changed_versions_are_told(runs):
    environment = read_run(runs[1]).environment
    packages = {"numpy": "2.4.7", "torch": "2.14.1", "onnx": "1.23.2"}
    rewrite(runs[1], environment=environment.model_copy(update={"packages": packages}))
    notes = diff(read_side(runs[0]), read_side(runs[1])).notes
    assert notes[0] == "Other versions: numpy 2.4.6 to 2.4.7, onnx absent to 1.23.2."


def test_a_folder_of_repeats_is_one_side(tmp_path):
    for number in range(3):
        write_usual_run(tmp_path / "before" / f"{number}", slower=1 + number / 1000)
        write_usual_run(tmp_path / "after" / f"{number}", slower=SLOWER + number / 1000)
    write_usual_run(tmp_path / "one", slower=SLOWER)
    repeats, single = (changed(tmp_path / "before", tmp_path / after) for after in ("after", "one"))
    width = {name: each["ort/int8"].latency for name, each in (("three", repeats), ("one", single))}
    assert width["three"].ci95[1] - width["three"].ci95[0] < width["one"].ci95[1] - width["one"].ci95[0]
    environment = read_run(tmp_path / "after" / "1").environment.model_copy(update={"threads": 1})
    rewrite(tmp_path / "after" / "1", environment=environment)
    with pytest.raises(UsageError, match="are not repeats: 1 has other threads"):
        read_side(tmp_path / "after")


def golden_diff(runs: tuple[Path, Path]) -> tuple[Diff, Gate]:
    found = diff(read_side(runs[0]), read_side(runs[1]))
    notes = [note.replace(f"{runs[0].parent}/", "") for note in found.notes]
    found = found.model_copy(update={"before": "before", "after": "after", "notes": notes})
    return found, judge(found, parse_budgets("latency:10%,accuracy:0.5pp,size:1%"))


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_is_the_golden_one(runs, golden, width):
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(render_diff(*golden_diff(runs)))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width
    golden(f"diff-{width}.txt", "\n".join(lines) + "\n")


def test_the_markdown_is_the_golden_one(runs, golden):
    golden("diff.md", render_diff_markdown(*golden_diff(runs)))


def test_the_json_comes_back(rtbench, runs):
    done = rtbench("diff", *runs, "--format", "json")
    written = json.loads(done.stdout)
    assert written.pop("gate") is None
    assert Diff.model_validate(written) == diff(read_side(runs[0]), read_side(runs[1]))
    assert written["rows"][3]["latency"]["verdict"] == "worse"
    assert (written["schema_version"], written["side_by_side"]) == (2, False)
    assert written["units"] == {"latency": "ms", "accuracy": "fraction", "size": "bytes"}
