"""What two runs show to have changed, and what they do not."""

from __future__ import annotations

import io
import itertools
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from made_runs import IMAGES, LABELS, made_answers, made_blocks, made_row, made_run, seed, write_run, write_usual_run
from rich.console import Console

from rtbench.diff import Diff, RowChange, diff, exceeded, parse_budgets, read_side
from rtbench.errors import UsageError
from rtbench.records import Gpu
from rtbench.report.changes import render_diff, render_diff_markdown
from rtbench.runs import read_run, read_samples
from rtbench.spread import BETWEEN_MEDIANS, BETWEEN_QUICKEST, median_change, quickest_change
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
        quickest = next(each.quickest for each in found.rows if each.id == row)
        assert (quickest.before, quickest.after) == pytest.approx(
            [min(map(min, each[row])) for each in (before, after)]
        )
        assert quickest.verdict == "worse"
    sentences = exceeded(found, parse_budgets("latency:5%,accuracy:0.5pp,size:1%"))
    assert [each.split(":")[0] for each in sentences] == ["torch/fp32", "ort/fp32", "ort/int8"]
    assert exceeded(diff(read_side(runs[1]), read_side(runs[0])), parse_budgets("latency:0%")) == []


def test_the_same_run_twice_shows_nothing(runs):
    for row in changed(runs[0], runs[0]).values():
        for change in (row.latency, row.quickest, row.accuracy, row.size):
            assert change.verdict in ("no difference shown", "not comparable")
            assert change.change in (0, None)


def test_a_drifting_row_needs_more_to_be_shown(runs):
    """ort/fp16 climbs by 30 % within each run: the same tenth is not shown there."""
    row = changed(*runs)["ort/fp16"].latency
    assert row.change == pytest.approx(0.1, abs=1e-6)
    assert row.verdict == "no difference shown"


def simulated(generator: np.random.Generator, mean_ms: float, between: float, within: float = 0.0) -> list[np.ndarray]:
    """A run of five processes, each with noise that only ever adds: the run has a level of its own, and so has every
    process."""
    level = mean_ms * math.exp(between * generator.standard_normal())
    return [
        level * math.exp(within * generator.standard_normal()) * (1 + generator.gamma(1.5, 0.02, 200)) for _ in range(5)
    ]


def slowed(generator: np.random.Generator, mean_ms: float) -> list[np.ndarray]:
    """The same on a host that slows it down by 4 % now and then, for longer than a process lasts: for all of it or for
    some, but for all processes only once in a hundred runs."""
    states = (generator.random(5) < 0.4) * 0.04
    return [mean_ms * math.exp(state) * (1 + generator.gamma(1.5, 0.01, 200)) for state in states]


def shown(change, before: list, after: list, budget: float = 0.0) -> bool:
    """Whether the 95 % interval lies beyond a budget, on either side without one."""
    centre, error = change([before], [after])
    low = centre - 1.96 * error
    return low > math.log1p(budget) or (not budget and centre + 1.96 * error < 0)


@pytest.mark.parametrize(("change", "between"), [(median_change, BETWEEN_MEDIANS), (quickest_change, BETWEEN_QUICKEST)])
def test_runs_that_differ_by_no_more_than_is_assumed_are_told_apart_once_in_twenty_times(change, between):
    generator = np.random.default_rng(5)
    pairs = 200
    claims = sum(
        shown(change, simulated(generator, 7, between), simulated(generator, 7, between)) for _ in range(pairs)
    )
    # The rate is 5 % where the assumption holds exactly; 3 sigma of 200 trials are 4.6 points more.
    assert claims / pairs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / pairs)


@pytest.mark.parametrize("within", [0.005, 0.02])
def test_what_processes_differ_by_widens_the_interval_of_the_median(within):
    generator = np.random.default_rng(9)
    pairs = 200
    claims = sum(
        shown(median_change, *(simulated(generator, 7, BETWEEN_MEDIANS, within) for _ in range(2)))
        for _ in range(pairs)
    )
    assert claims / pairs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / pairs)


def test_a_tenth_trips_a_budget_of_five_percent_where_runs_differ_by_half_a_percent():
    """By the quickest run, whose interval is 2 % to either side."""
    generator = np.random.default_rng(6)
    trips = [
        shown(quickest_change, simulated(generator, 7, 0.005), simulated(generator, 7.7, 0.005), 0.05)
        for _ in range(60)
    ]
    assert sum(trips) >= 57


def test_a_host_that_slows_runs_down_now_and_then_hides_a_tenth_from_the_median_but_not_from_the_quickest_run():
    generator = np.random.default_rng(10)
    trips = {median_change: 0, quickest_change: 0}
    claims = dict(trips)
    for _ in range(100):
        before, after, slower = slowed(generator, 7), slowed(generator, 7), slowed(generator, 7.7)
        for change in trips:
            claims[change] += shown(change, before, after)
            trips[change] += shown(change, before, slower, 0.05)
    assert max(claims.values()) <= 5
    assert trips[quickest_change] >= 95 > 2 * trips[median_change]


def test_a_busy_neighbour_widens_the_interval():
    """Runs that are disturbed in different ways: a third to two thirds of the samples take twice as long."""
    generator = np.random.default_rng(7)

    def disturbed() -> list[np.ndarray]:
        share = generator.uniform(1 / 3, 2 / 3)
        return [7 * (1 + (generator.random(200) < share)) * generator.lognormal(0, 0.02, 200) for _ in range(5)]

    assert sum(shown(median_change, disturbed(), disturbed()) for _ in range(60)) <= 3


@pytest.mark.parametrize("change", [median_change, quickest_change])
def test_repeats_narrow_the_interval_and_their_own_spread_widens_it(change):
    generator = np.random.default_rng(8)
    one = change([simulated(generator, 7, 0.0)], [simulated(generator, 7, 0.0)])[1]
    same = [simulated(generator, 7, 0.0) for _ in range(4)]
    assert change(same, same)[1] == pytest.approx(one / 2, rel=0.15)
    apart = [simulated(generator, mean, 0.0) for mean in (6, 7, 8, 9)]
    assert change(apart, apart)[1] > 2 * one


def test_the_change_of_the_quickest_run_is_that_of_the_minimum():
    before, after = [np.array([3.0, 2.0]), np.array([2.5, 2.1])], [np.array([4.0]), np.array([2.2, 9.0])]
    centre, error = quickest_change([before], [after])
    assert centre == pytest.approx(math.log(2.2 / 2.0))
    variances = [statistics.variance(map(math.log, each)) / 2 for each in ((2.0, 2.1), (4.0, 2.2))]
    assert error == pytest.approx(math.sqrt(sum(variances) + 2 * BETWEEN_QUICKEST**2))


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
