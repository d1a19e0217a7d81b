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
from made_runs import IMAGES, LABELS, made_answers, made_blocks, made_row, made_run, seed, write_run, write_usual_run
from rich.console import Console

from rtbench.errors import UsageError
from rtbench.records.run import Gpu
from rtbench.report.changes import render_diff, render_diff_markdown
from rtbench.review.diff import Diff, RowChange, diff
from rtbench.review.gate import exceeded, parse_budgets
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples
from rtbench.stats import paired_change

BUDGETS = {"latency": 0.05}


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    write_usual_run(tmp_path / "before")
    write_usual_run(tmp_path / "after", slower=1.1)
    return tmp_path / "before", tmp_path / "after"


def changed(before: Path, after: Path) -> dict[str, RowChange]:
    return {row.id: row for row in diff(read_side(before), read_side(after)).rows}


def rewrite(folder: Path, **changes: object) -> None:
    run = read_run(folder).model_copy(update=changes)
    (folder / "result.json").write_text(run.model_dump_json())


def test_a_tenth_slower_is_found_and_trips_the_gate(runs):
    found = diff(read_side(runs[0]), read_side(runs[1]))
    before, after = (read_samples(run) for run in runs)
    for row in ("torch/fp32", "ort/fp32", "ort/int8"):
        change = next(each.latency for each in found.rows if each.id == row)
        medians = [statistics.median(np.concatenate(samples[row])) for samples in (before, after)]
        assert (change.before, change.after) == pytest.approx(medians)
        assert change.change == pytest.approx(medians[1] / medians[0] - 1)
        assert change.verdict == "worse"
        assert change.ci95[0] < 0.1 < change.ci95[1]
        p10 = next(each.p10 for each in found.rows if each.id == row)
        tenths = [np.quantile(np.concatenate(samples[row]), 0.1) for samples in (before, after)]
        assert (p10.before, p10.after) == pytest.approx(tenths)
        assert p10.verdict == "worse"
    sentences = exceeded(found, parse_budgets("latency:5%,accuracy:0.5pp,size:1%"))
    assert [each.split(":")[0] for each in sentences] == ["torch/fp32", "ort/fp32", "ort/int8"]
    assert exceeded(diff(read_side(runs[1]), read_side(runs[0])), parse_budgets("latency:0%")) == []


def test_the_same_run_twice_shows_nothing(runs):
    for row in changed(runs[0], runs[0]).values():
        for change in (row.latency, row.p10, row.accuracy, row.size):
            assert change.verdict in ("no difference shown", "not comparable")
            assert change.change in (0, None)


def test_a_drifting_row_needs_more_to_be_shown(runs):
    """ort/fp16 climbs by 30 % within each run: the same tenth is not shown there."""
    row = changed(*runs)["ort/fp16"].latency
    assert row.change == pytest.approx(0.1, abs=1e-6)
    assert row.verdict == "no difference shown"


def in_states(folder: Path, states: dict[float, range]) -> Path:
    """A run of one row whose latency follows the machine: in these rounds the yardstick takes so many milliseconds, and
    what takes 6 ms where the yardstick takes 0.6 ms takes 4.5 % more each time that the yardstick doubles."""
    yardsticks = {number: state for state, rounds in states.items() for number in rounds}
    factors = {number: 1.045 ** math.log2(state / 0.6) for number, state in yardsticks.items()}
    blocks = [
        replace(
            block,
            yardstick_ms=yardsticks[block.round],
            durations_ns=(block.durations_ns * factors[block.round]).astype(np.int64),
        )
        for block in made_blocks("ort/int8", 0, 6.0, seed(folder.name))
    ]
    write_run(folder, made_run([made_row("ort/int8", 6.0, ())]), {"ort/int8": blocks}, {"ort/int8": made_answers(())})
    return folder


def test_rounds_are_compared_in_the_quickest_state_that_both_have_met(tmp_path):
    near = in_states(tmp_path / "near", {0.6: range(20)})
    both = in_states(tmp_path / "both", {1.2: range(10), 0.62: range(10, 20)})
    far = in_states(tmp_path / "far", {1.18: range(20)})
    found = diff(read_side(near), read_side(both))
    change = found.rows[0].latency
    assert change.change == pytest.approx(0, abs=0.01)  # the medians of all rounds are 2 % apart
    assert change.after == pytest.approx(statistics.median(np.concatenate(read_samples(both)["ort/int8"][10:])))
    assert found.notes[0] == (
        "Latency is of 20 of 20 rounds before and 10 of 20 after, in which the machine was in one state."
    )
    assert changed(far, both)["ort/int8"].latency.change == pytest.approx(0, abs=0.01)
    for first, second, times in ((near, far, "1.18 ms, and 0.600 ms"), (far, near, "0.600 ms, and 1.18 ms")):
        row = changed(first, second)["ort/int8"]
        for latency in (row.latency, row.p10):
            assert latency.verdict == "not comparable"
            assert f"another state: the yardstick took {times} before" in latency.reason
        assert row.accuracy.verdict == row.size.verdict == "no difference shown"


def test_without_a_yardstick_runs_are_held_to_differ_by_more(runs):
    known = changed(*runs)["ort/int8"]
    packages = read_run(runs[1]).environment.packages | {"numpy": "2.4.7"}
    rewrite(runs[1], environment=read_run(runs[1]).environment.model_copy(update={"packages": packages}))
    other_numpy = changed(*runs)["ort/int8"]
    for figure in ("latency", "p10"):
        low, high = getattr(other_numpy, figure).ci95
        assert high - low == pytest.approx(2 * 1.96 * 1.1 * math.sqrt(2) * 0.02, rel=0.05)
        assert getattr(known, figure).change == getattr(other_numpy, figure).change
    assert known.p10.ci95[0] > 0.07 > other_numpy.p10.ci95[0]


def test_a_yardstick_that_broke_off_is_told(tmp_path):
    whole = in_states(tmp_path / "whole", {0.6: range(20)})
    broken = in_states(tmp_path / "broken", {0.6: range(20)})
    lines = (broken / "samples.csv").read_text().splitlines()
    blanked = [line.rpartition(",")[0] + "," if ",19," in line else line for line in lines]
    (broken / "samples.csv").write_text("\n".join(blanked) + "\n")
    found = diff(read_side(whole), read_side(broken))
    assert found.notes == [f"{broken} lacks the yardstick in some rounds, so latencies are held to differ by more."]
    assert diff(read_side(whole), read_side(whole)).notes == []


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
    found = diff(read_side(tmp_path / "a"), read_side(tmp_path / "c"))
    assert len(exceeded(found, parse_budgets("accuracy:0.5pp"))) == 1
    assert exceeded(found, parse_budgets("accuracy:9pp")) == []
    assert len(LABELS) == IMAGES


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
    found = diff(read_side(runs[0]), read_side(runs[1]))
    assert exceeded(found, parse_budgets("size:1%")) == []
    assert len(exceeded(found, parse_budgets("size:0%"))) == 4


ENVIRONMENTS = {
    "other hardware": {"cpu": "another CPU"},
    "other hardware: A CPU, 2 cores, Tesla T4": {
        "gpu": Gpu(name="Tesla T4", compute_capability="7.5", driver="570.1", memory_mib=15360)
    },
    "other threads: 1, was 2": {"threads": 1},
}


@pytest.mark.parametrize("reason", ENVIRONMENTS)
def test_latencies_of_other_machines_are_not_compared(runs, reason):
    environment = read_run(runs[1]).environment.model_copy(update=ENVIRONMENTS[reason])
    rewrite(runs[1], environment=environment)
    row = changed(*runs)["ort/int8"]
    assert row.latency.verdict == "not comparable"
    assert reason in row.latency.reason
    assert row.latency.ci95 is None
    assert row.accuracy.verdict == row.size.verdict == "no difference shown"
    assert exceeded(diff(read_side(runs[0]), read_side(runs[1])), BUDGETS) == []


def test_accuracies_on_other_images_are_not_compared(runs):
    dataset = read_run(runs[1]).dataset.model_copy(update={"fingerprint": "f" * 64})
    rewrite(runs[1], dataset=dataset)
    row = changed(*runs)["ort/int8"]
    assert (row.accuracy.verdict, row.accuracy.reason) == ("not comparable", "other images")
    assert row.latency.verdict == "worse"


def test_another_provider_is_another_thing(runs):
    rows = [row.model_copy(update={"provider": "other"}) for row in read_run(runs[1]).rows]
    rewrite(runs[1], rows=rows)
    assert "other provider: other on cpu, was made on cpu" in changed(*runs)["ort/int8"].latency.reason


def test_rows_that_are_gone_new_or_broken_say_so(runs):
    rows = [row for row in read_run(runs[1]).rows if row.id != "ort/int8"]
    rows[0] = rows[0].model_copy(update={"status": "failed", "reason": "crashed", "latency": None})
    rewrite(runs[1], rows=rows)
    there, back = changed(*runs), changed(runs[1], runs[0])
    assert there["ort/int8"].latency.reason == "only in the first run"
    assert back["ort/int8"].latency.reason == "only in the second run"
    assert there["torch/fp32"].latency.reason == "failed in the second run"
    assert there["trt/fp16"].latency.reason == "unavailable in the first run"
    assert list(there)[-1] == "ort/int8"


def test_missing_samples_and_predictions_are_said(runs):
    (runs[1] / "samples.csv").unlink()
    (runs[1] / "predictions" / "ort-int8.csv").unlink()
    row = changed(*runs)["ort/int8"]
    assert row.latency.reason == "the raw samples are missing"
    assert row.accuracy.reason == "the predictions are missing"


def test_changed_versions_are_told(runs):
    environment = read_run(runs[1]).environment
    packages = {"numpy": "2.4.7", "torch": "2.14.1", "onnx": "1.23.2"}
    rewrite(runs[1], environment=environment.model_copy(update={"packages": packages}))
    notes = diff(read_side(runs[0]), read_side(runs[1])).notes
    assert notes[0] == "Other versions: numpy 2.4.6 to 2.4.7, onnx absent to 1.23.2."


def test_a_folder_of_repeats_is_one_side(tmp_path):
    for number in range(3):
        write_usual_run(tmp_path / "before" / f"{number}", slower=1 + number / 1000)
        write_usual_run(tmp_path / "after" / f"{number}", slower=1.1 + number / 1000)
    write_usual_run(tmp_path / "one", slower=1.1)
    repeats, single = (changed(tmp_path / "before", tmp_path / after) for after in ("after", "one"))
    width = {name: each["ort/int8"].latency for name, each in (("three", repeats), ("one", single))}
    assert width["three"].ci95[1] - width["three"].ci95[0] < width["one"].ci95[1] - width["one"].ci95[0]
    environment = read_run(tmp_path / "after" / "1").environment.model_copy(update={"threads": 1})
    rewrite(tmp_path / "after" / "1", environment=environment)
    with pytest.raises(UsageError, match="are no repeats: 1 has other threads"):
        read_side(tmp_path / "after")


@pytest.mark.parametrize(
    "text", ["latency", "latency:5", "latency:5pp", "accuracy:0.5%", "speed:5%", "latency:-1%", "latency:nan%", "", ","]
)
def test_budgets_that_are_none_are_told(text):
    with pytest.raises(UsageError, match="is no budget"):
        parse_budgets(text)


def test_budgets():
    assert parse_budgets("latency:5%, accuracy:0.5pp,size:1%") == {"latency": 0.05, "accuracy": 0.005, "size": 0.01}


def test_the_command_is_a_gate(rtbench, runs):
    tripped = rtbench("diff", *runs, "--fail-on", "latency:5%,accuracy:0.5pp,size:1%")
    assert tripped.returncode == 1
    assert "ort/int8: latency is worse by at least" in tripped.stderr
    assert "worse" in tripped.stdout
    assert rtbench("diff", *runs).returncode == 0
    assert rtbench("diff", *runs, "--fail-on", "latency:20%").returncode == 0
    wrong = rtbench("diff", *runs, "--fail-on", "latency:5")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert rtbench("diff", runs[0], runs[0].parent / "missing").returncode == 2


def golden_diff(runs: tuple[Path, Path]) -> Diff:
    found = diff(read_side(runs[0]), read_side(runs[1]))
    return found.model_copy(
        update={
            "before": "before",
            "after": "after",
            "notes": [note.replace(f"{runs[0].parent}/", "") for note in found.notes],
        }
    )


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_is_the_golden_one(runs, golden, width):
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(render_diff(golden_diff(runs)))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width
    golden(f"diff-{width}.txt", "\n".join(lines) + "\n")


def test_the_markdown_is_the_golden_one(runs, golden):
    golden("diff.md", render_diff_markdown(golden_diff(runs)))


def test_the_json_comes_back(rtbench, runs):
    done = rtbench("diff", *runs, "--format", "json")
    assert Diff.model_validate_json(done.stdout) == diff(read_side(runs[0]), read_side(runs[1]))
    assert json.loads(done.stdout)["rows"][3]["latency"]["verdict"] == "worse"
