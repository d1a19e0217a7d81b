"""Which figures of two runs may be compared at all, and those of what was timed in the same rounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import SLOWER, changed, rewrite, write_usual_run

from rtbench.records.measurement import Comparison
from rtbench.records.run import Against, AgainstRow, Cpu, Gpu, Run
from rtbench.review.diff import diff
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    write_usual_run(tmp_path / "before")
    write_usual_run(tmp_path / "after", slower=SLOWER)
    return tmp_path / "before", tmp_path / "after"


EPYC = Cpu(vendor="AuthenticAMD", family="25", model="1", stepping="1", microcode="0xa0011d1", flags=["avx2", "f16c"])
ENVIRONMENTS = {
    "other hardware: another CPU, 2 cores, no GPU; was A CPU": {"cpu": "another CPU"},
    "other hardware: AuthenticAMD family 25 model 1 stepping 1, microcode 0xa0011d1 (avx2 f16c); was not known": {
        "cpu_details": EPYC
    },
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


@pytest.mark.parametrize(
    "change",
    [{"model": "17"}, {"family": "26"}, {"stepping": "2"}, {"microcode": None}, {"flags": ["avx2"]}],
    ids=lambda each: next(iter(each)),
)
def test_one_name_stands_for_several_cpus(runs, change):
    """Both say "A CPU", and the rest of what the system says of it must be the same too."""
    for folder, cpu in zip(runs, (EPYC, EPYC.model_copy(update=change)), strict=True):
        environment = read_run(folder).environment.model_copy(update={"cpu_details": cpu})
        rewrite(folder, environment=environment)
    latency = changed(*runs)["ort/int8"].latency
    assert latency.verdict == "not comparable"
    assert latency.reason.startswith("other hardware: AuthenticAMD family")
    assert changed(runs[1], runs[1])["ort/int8"].latency.verdict == "no difference shown"


def timed_again(before: Run, ratio: float, low: float, high: float, verdict: str) -> Against:
    comparison = Comparison(row="ort/int8", to="against/ort/int8", ratio=ratio, ci95=(low, high), verdict=verdict)
    rows = [
        AgainstRow(id="ort/int8", before_ms=6.0, after_ms=6.3, comparison=comparison, reason=None),
        AgainstRow(id="ort/fp32", before_ms=None, after_ms=12.0, comparison=None, reason="its artifact has changed"),
    ]
    return Against(path="before", created=before.created, python=None, rows=rows)


def test_what_was_timed_in_the_same_rounds_is_compared_so(runs):
    before = read_run(runs[0])
    rewrite(runs[1], against=timed_again(before, 0.952, 0.946, 0.958, "slower"))
    found = diff(read_side(runs[0]), read_side(runs[1]))
    assert found.side_by_side
    rows = {row.id: row.latency for row in found.rows}
    assert rows["ort/int8"].change == pytest.approx(1 / 0.952 - 1)
    assert rows["ort/int8"].ci95 == pytest.approx((1 / 0.958 - 1, 1 / 0.946 - 1))
    assert rows["ort/int8"].verdict == "worse"
    assert (rows["ort/int8"].before, rows["ort/int8"].after) == (6.0, 6.3)
    assert (rows["ort/fp32"].verdict, rows["ort/fp32"].reason) == ("not comparable", "its artifact has changed")
    assert rows["torch/fp32"].reason == "not measured in both"
    rewrite(runs[1], against=timed_again(before, 1.05, 1.04, 1.06, "faster"))
    assert changed(*runs)["ort/int8"].latency.verdict == "better"


def test_another_run_than_the_one_timed_again_is_compared_as_ever(runs):
    other = read_run(runs[0]).model_copy(update={"created": "2020-01-01T00:00:00+00:00"})
    rewrite(runs[1], against=timed_again(other, 0.952, 0.946, 0.958, "slower"))
    found = diff(read_side(runs[0]), read_side(runs[1]))
    assert not found.side_by_side
    assert next(row for row in found.rows if row.id == "ort/int8").latency.change == pytest.approx(0.25, abs=0.01)


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
