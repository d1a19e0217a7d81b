"""Scores against arithmetic done by hand from the published baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_runs import made_model

from rtbench.errors import UsageError
from rtbench.records.measurement import Accuracy, Comparison, Latency
from rtbench.records.model import Artifact
from rtbench.records.run import Baseline, Environment, Gpu, Row, Scores
from rtbench.scores.baselines import load_baseline, measured_baseline
from rtbench.scores.normalise import best_torch_for, reference_for, score_rows

T4 = load_baseline("resnet18-t4")
OWN = """
name = "ours"
latency_ms = 12.5
top1 = 0.75
top5 = 0.92
size_mib = 30
hardware = "a box"
"""


MODELS = [made_model(name).model_copy(update={"classes": 1000}) for name in ("m", "n", "other", "a", "b")]


def machine(gpu: str | None = None) -> Environment:
    found = Gpu(name=gpu, compute_capability="7.5", driver="570.1", memory_mib=15360) if gpu else None
    return Environment(
        cpu="some cpu", cores=2, threads=2, memory_mib=8192, gpu=found, os="Linux", python="3.11", packages={}
    )


def row(
    name: str = "ort/fp32",
    *,
    model: str = "m",
    ms: float | None = 10.0,
    size: int = 2**20,
    top1: float | None = None,
    device: str = "cpu",
    status: str = "ok",
) -> Row:
    runtime, precision = name.rsplit("/", 1)
    return Row(
        id=name,
        model=model,
        runtime=runtime,
        provider=None,
        device=device,
        precision=precision,
        status=status,
        artifact=Artifact(
            path="a.onnx", format="onnx", precision=precision, size_bytes=size, sha256="0", made_from={}, tools={}
        ),
        latency=None
        if ms is None
        else Latency(
            runs=100,
            rounds=10,
            mean_ms=ms,
            std_ms=0.1,
            min_ms=ms / 3,
            max_ms=ms * 3,
            p50_ms=ms * 0.9,
            p90_ms=ms,
            p95_ms=ms,
            p99_ms=ms,
            mean_ci95_ms=(ms * 0.99, ms * 1.01),
            stable=True,
            warnings=[],
        ),
        accuracy=None
        if top1 is None
        else Accuracy(images=500, top1=top1, top5=0.99, top1_ci95=(0, 1), top5_ci95=(0, 1), agreement=None),
    )


def compared(own: Row, other: Row, ratio: float) -> Comparison:
    return Comparison(row=own.id, to=other.id, ratio=ratio, ci95=(ratio - 0.1, ratio + 0.1), verdict="faster")


def scores(
    scored: Row,
    *others: Row,
    baseline: Baseline | None = T4,
    gpu: str | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Scores:
    result = score_rows([scored, *others], baseline, machine(gpu), comparisons, models=MODELS, score_accuracy=True)[
        0
    ].scores
    assert result is not None
    return result


def test_the_shipped_baseline_is_the_published_one() -> None:
    assert (T4.latency_ms, T4.top1, T4.top5, T4.size_mib) == (23.5, 0.6976, 0.8908, 44.7)
    assert "T4" in T4.hardware
    assert "E5-2680 v4" in T4.hardware


def test_scores_are_the_three_formulas() -> None:
    result = scores(row(ms=4.7, size=11_720_000, top1=0.884))
    assert result.size == pytest.approx(44.7 * 1048576 / 11_720_000, rel=1e-12)
    assert result.latency == pytest.approx(5.0, rel=1e-12)
    assert result.accuracy == pytest.approx(0.884 / 0.6976, rel=1e-12)


def test_the_baseline_itself_scores_one_three_times() -> None:
    result = scores(row(ms=23.5, size=round(44.7 * 2**20), top1=0.6976))
    assert (result.size, result.latency, result.accuracy) == pytest.approx((1, 1, 1), rel=1e-7)


def test_without_labels_there_is_no_accuracy_score_and_the_others_stay() -> None:
    result = scores(row(ms=4.7))
    assert result.accuracy is None
    assert result.latency == pytest.approx(5.0)


def test_the_sample_gets_no_accuracy_score() -> None:
    (scored,) = score_rows([row(top1=0.9)], T4, machine(), models=MODELS, score_accuracy=False)
    assert scored.scores is not None
    assert scored.scores.accuracy is None
    assert scored.scores.latency == pytest.approx(2.35)
    assert scored.accuracy.top1 == 0.9  # measured all the same


def test_a_top1_of_nought_is_a_score_of_nought_and_not_a_missing_one() -> None:
    assert scores(row(top1=0.0)).accuracy == 0


@pytest.mark.parametrize("status", ["unavailable", "failed", "invalid"])
def test_rows_that_are_not_ok_get_no_scores(status: str) -> None:
    bad, good = row("ort/int8", ms=1.0, top1=0.9, status=status), row("torch/fp32")
    scored = score_rows([bad, good], T4, machine(), models=MODELS, score_accuracy=True)
    assert scored[0] == bad
    assert scored[0].scores is None
    assert scored[1].scores is not None


def test_a_row_that_is_not_measured_yet_gets_no_scores() -> None:
    assert score_rows([row(ms=None)], T4, machine(), models=MODELS, score_accuracy=True)[0].scores is None


def test_rows_come_back_in_order_with_nothing_else_changed() -> None:
    rows = [row("torch/fp32", ms=20.0), row("ort/fp32", status="failed"), row("ort/int8", ms=5.0, top1=0.5)]
    scored = score_rows(rows, T4, machine(), models=MODELS, score_accuracy=True)
    assert [each.model_copy(update={"scores": None}) for each in scored] == rows
    assert all(each.scores is None for each in rows)


def test_speed_up_is_over_torch_fp32_of_the_same_run() -> None:
    torch, quick = row("torch/fp32", ms=20.0), row("ort/int8", ms=2.5)
    both = [compared(quick, row("ort/fp32"), 3.0), compared(quick, torch, 8.25), compared(torch, quick, 0.12)]
    assert scores(quick, torch, comparisons=both).speedup_vs_torch == 8.25
    assert scores(quick, torch, comparisons=both).speedup_ci95 == (8.15, 8.35)
    assert scores(torch, quick, comparisons=both).speedup_vs_torch == 1.0
    other = row("torch:cpu/fp32", ms=20.0)
    assert scores(quick, other, comparisons=[compared(quick, other, 7.5)]).speedup_vs_torch == 7.5


def test_no_speed_up_without_a_measured_torch_fp32_row() -> None:
    others = [row("ort/fp16"), row("torch/fp16"), row("torch/fp32", ms=None, status="failed")]
    assert scores(row(), *others).speedup_vs_torch is None


def test_the_fastest_torch_row_is_of_the_same_model_measured_and_well() -> None:
    slow, fast = row("torch+channels_last/fp32", ms=8.0), row("torch+compile/fp32", ms=5.0)
    others = [
        row("ort/int8", ms=1.0),
        row("torch+bf16/fp32", ms=2.0, model="n"),
        *(row("torch+bf16/fp32", ms=3.0, status=status) for status in ("failed", "invalid", "unavailable")),
        row("torch+bf16/fp32", ms=None),
    ]
    reference = row("torch/fp32", ms=10.0)
    assert best_torch_for(others[0], [*others, reference, slow, fast]) is fast
    assert best_torch_for(others[0], [fast, slow, reference, *others]) is fast
    assert best_torch_for(others[0], [row("torch/fp32", ms=4.0), slow, fast]) is None, "it is the reference itself"
    assert best_torch_for(others[0], others) is None


def test_of_two_reference_rows_the_first_is_compared_with() -> None:
    on_cpu, on_gpu = row("torch:cpu/fp32"), row("torch:cuda/fp32", device="cuda")
    assert reference_for(row(), [row(), on_cpu, on_gpu]) is on_cpu


def test_with_several_models_speed_up_is_over_the_rows_own_model() -> None:
    a, b = (row("torch/fp32", model=name).model_copy(update={"id": f"{name}/torch/fp32"}) for name in "ab")
    quick_b = row("ort/fp32", model="b", ms=6.0)
    assert reference_for(quick_b, [a, b, quick_b]) is b
    both = [compared(quick_b, a, 5.0), compared(quick_b, b, 10.0)]
    assert scores(quick_b, a, b, comparisons=both).speedup_vs_torch == 10.0


def test_a_model_without_a_torch_row_is_compared_with_the_runs_only_one() -> None:
    graph = row("ort/fp32", model="graph", ms=6.0)
    a, b = row("torch/fp32", model="a", ms=30.0), row("torch/fp32", model="b", ms=60.0)
    assert reference_for(graph, [graph, a]) is a
    assert reference_for(graph, [graph, a, b]) is None  # either would be a guess
    assert reference_for(graph, [graph]) is None


@pytest.mark.parametrize(
    ("gpu", "device", "expected"),
    [
        ("Tesla T4", "cuda", True),
        ("NVIDIA T4", "cuda", True),
        ("Tesla T4", "cpu", False),
        ("Tesla T4", "vulkan", False),
        ("NVIDIA T400 4GB", "cuda", False),
        ("NVIDIA T4G", "cuda", False),
        ("NVIDIA H100 80GB HBM3", "cuda", False),
        (None, "cpu", False),
    ],
)
def test_the_t4_is_known_by_its_name(gpu: str | None, device: str, expected: bool) -> None:
    assert scores(row(device=device), gpu=gpu).on_baseline_hardware is expected


@pytest.mark.parametrize(
    ("gpu", "expected"), [("NVIDIA GeForce RTX 4090", True), ("NVIDIA GeForce RTX 4080", False), ("RTX 40900", False)]
)
def test_a_baseline_of_ones_own_may_name_a_gpu_of_two_words(gpu: str, expected: bool) -> None:
    own = T4.model_copy(update={"name": "ours", "gpu": "RTX 4090"})
    assert scores(row(device="cuda"), baseline=own, gpu=gpu).on_baseline_hardware is expected


def test_a_baseline_that_names_no_gpu_is_nobodys_hardware() -> None:
    own = T4.model_copy(update={"name": "ours", "gpu": None})
    assert not scores(row(device="cuda"), baseline=own, gpu="Tesla T4").on_baseline_hardware


def test_the_measured_baseline_is_reference_of_this_run() -> None:
    rows = [
        row("ort/fp32", ms=5.0, size=3 * 2**20, top1=0.8),
        row("torch/fp32", ms=20.0, size=6 * 2**20, top1=0.75),
        row("torch/fp32", model="other", ms=99.0),
    ]
    baseline = measured_baseline(rows, "this box")
    assert baseline is not None
    assert (baseline.latency_ms, baseline.size_mib, baseline.top1, baseline.top5) == (20.0, 6.0, 0.75, 0.99)
    assert baseline.hardware == "this box"
    assert "measured" in baseline.name
    quick, torch, _ = score_rows(rows, baseline, machine(), models=MODELS, score_accuracy=True)
    assert (torch.scores.size, torch.scores.latency, torch.scores.accuracy) == (1, 1, 1)
    assert (quick.scores.size, quick.scores.latency) == (2, 4)
    assert quick.scores.accuracy == pytest.approx(0.8 / 0.75)
    assert quick.scores.on_baseline_hardware


def test_a_measured_baseline_without_labels_scores_no_accuracy() -> None:
    baseline = measured_baseline([row("torch/fp32", ms=20.0)], "this box")
    assert (baseline.top1, baseline.top5) == (None, None)
    assert scores(row(top1=0.9), baseline=baseline).accuracy is None


def test_no_measured_baseline_before_its_row_is_measured() -> None:
    assert measured_baseline([row("torch/fp32", ms=None), row("torch/fp16"), row("ort/fp32")], "this box") is None
    assert load_baseline("measured") is None
    own, torch = row(top1=0.9), row("torch/fp32", ms=20.0)
    result = scores(own, torch, baseline=None, comparisons=[compared(own, torch, 2.0)])
    assert (result.size, result.latency, result.accuracy) == (None, None, None)
    assert not result.on_baseline_hardware
    assert result.speedup_vs_torch == pytest.approx(2.0)


def test_a_baseline_file_is_only_measured_here_if_it_was() -> None:
    own = T4.model_copy(update={"name": "measured on the T4 last spring"})
    assert not scores(row(device="cpu"), baseline=own, gpu=None).on_baseline_hardware


def test_a_baseline_file_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(OWN)
    assert load_baseline(str(path)) == Baseline(
        name="ours", latency_ms=12.5, top1=0.75, top5=0.92, size_mib=30.0, hardware="a box", gpu=None
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'name = "ours', "not valid TOML"),
        (OWN.replace("latency_ms = 12.5\n", "").encode(), "latency_ms"),
        (OWN.replace("30", '"big"').encode(), "size_mib"),
        ((OWN + "latency = 3\n").encode(), "latency"),
        (b"\xff\xfe\x00", "ours.toml"),
    ],
    ids=["no TOML", "missing field", "wrong kind", "unknown field", "not text"],
)
def test_a_bad_baseline_file_is_named_with_what_is_wrong_in_it(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "ours.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_baseline(str(path))
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_an_unknown_baseline_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no baseline 'resnet19'.*resnet18-t4.*measured"):
        load_baseline("resnet19")


def test_the_accuracy_score_is_for_the_baselines_own_task():
    """Ten classes right in nine cases of ten say nothing beside ImageNet's 69.76 %."""
    ten = [made_model("m").model_copy(update={"classes": 10})]
    (scored,) = score_rows([row(top1=0.9)], T4, machine(), models=ten, score_accuracy=True)
    assert scored.scores.accuracy is None
    assert scored.scores.latency == pytest.approx(2.35)
    ours = T4.model_copy(update={"classes": None, "top1": 0.75})
    (scored,) = score_rows([row(top1=0.9)], ours, machine(), models=ten, score_accuracy=True)
    assert scored.scores.accuracy == pytest.approx(1.2)


def test_with_several_models_a_measured_baseline_is_each_models_own_row():
    rows = [row("torch/fp32", model=name, ms=ms) for name, ms in (("m", 20.0), ("n", 8.0))]
    rows += [row("ort/fp32", model=name, ms=ms) for name, ms in (("m", 10.0), ("n", 2.0))]
    scored = score_rows(rows, measured_baseline(rows, "here"), machine(), models=MODELS, score_accuracy=True)
    assert [each.scores.latency for each in scored] == [1.0, 1.0, 2.0, 4.0]
