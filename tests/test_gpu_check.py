"""The judgement of a run on a GPU, on rows made up for it."""

from __future__ import annotations

import pytest

from rtbench.images.preprocessing import RESNET
from rtbench.records.measurement import Fidelity, Latency
from rtbench.records.model import Artifact, EngineBuild, Model, Recipe
from rtbench.records.run import Environment, Gpu, Row, Run
from rtbench.review.builds import build_spreads
from rtbench.review.gpu_check import PROVIDERS, RUNTIMES, judge_gpu_run

T4 = Gpu(name="Tesla T4", compute_capability="7.5", driver="550.54", memory_mib=15360)


def latency(mean_ms: float, device_ms: float | None) -> Latency:
    zero = dict.fromkeys(("std_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms"), 0.0)
    return Latency(
        runs=300,
        rounds=12,
        mean_ms=mean_ms,
        p99_ms=None,
        mean_ci95_ms=None,
        device_mean_ms=device_ms,
        stable=True,
        warnings=[],
        **zero,
    )


def engine(precision: str, number: int, size: int) -> Artifact:
    build = EngineBuild(
        library="tensorrt",
        library_version="10.13",
        compute_capability="7.5",
        gpu="Tesla T4",
        driver="550.54",
        recipe=Recipe(name=f"t4-{precision}", precision=precision, compute_capability="7.5"),
        number=number,
        source="onnx.onnx",
        source_sha256="ab",
        seconds=60,
        timing_cache=False,
    )
    return Artifact(
        path="e",
        format="engine",
        precision=precision,
        size_bytes=size,
        sha256="cd",
        made_from={},
        tools={},
        build=build,
    )


def good_run() -> Run:
    fidelity = Fidelity(
        images=64,
        top1_agreement=1.0,
        cosine_mean=1.0,
        max_abs_error=0.01,
        relative_error=0.01,
        judged=True,
        verdict="follows the model",
    )
    rows = []
    for runtime, precisions in RUNTIMES.items():
        for precision in precisions:
            for number in (1, 2) if runtime == "trt" else (1,):
                rows.append(
                    Row(
                        id=f"{runtime}/{precision}" + (f"#{number}" if number > 1 else ""),
                        model="resnet18",
                        runtime=runtime,
                        provider=PROVIDERS[runtime],
                        device="cuda",
                        precision=precision,
                        status="ok",
                        artifact=engine(precision, number, 1000 + number) if runtime == "trt" else None,
                        latency=latency(2.0 + number / 100, 1.5 if runtime in ("trt", "torch:cuda") else None),
                        fidelity=fidelity,
                    )
                )
    environment = Environment(cpu="c", cores=4, threads=4, memory_mib=1, gpu=T4, os="Linux", python="3.12", packages={})
    model = Model(name="resnet18", source="m", arch=None, sha256="ef", parameters=1, classes=9, preprocessing=RESNET)
    return Run(
        created="2026-11-25T00:00:00+00:00",
        command=[],
        complete=True,
        environment=environment,
        models=[model],
        baseline=None,
        dataset=None,
        rows=rows,
    )


def failures(run: Run) -> list[str]:
    return [str(verdict) for verdict in judge_gpu_run(run) if not verdict.passed]


def changed(row_id: str, **fields: object) -> Run:
    run = good_run()
    rows = [row.model_copy(update=fields) if row.id == row_id else row for row in run.rows]
    return run.model_copy(update={"rows": rows})


def test_a_good_run_passes_with_figures():
    verdicts = [str(verdict) for verdict in judge_gpu_run(good_run())]
    assert failures(good_run()) == []
    assert verdicts[0] == "PASS  GPU: Tesla T4, compute capability 7.5, driver 550.54"
    assert "PASS  trt/fp16 device time fits in host time: 1.500 of 2.010 ms on the device" in verdicts
    assert len(verdicts) == 1 + 3 * 9 + 3 + 2


@pytest.mark.parametrize(
    ("row_id", "fields", "words"),
    [
        ("trt/int8", {"status": "failed", "reason": "lost"}, "trt/int8 ran: failed: lost"),
        ("trt/fp16", {"latency": latency(2.0, 2.5)}, "trt/fp16 device time fits in host time: 2.500 of 2.000"),
        ("torch:cuda/fp32", {"latency": latency(2.0, None)}, "no device time"),
        ("ort:cuda/fp16", {"provider": "CPUExecutionProvider"}, "ort:cuda/fp16 did not fall back"),
        (
            "ort:trt/int8",
            {"placement": {"TensorrtExecutionProvider": {"Conv": 19}, "CPUExecutionProvider": {"Conv": 1, "Cast": 4}}},
            "ort:trt/int8 did not fall back: 1 layers in CPUExecutionProvider",
        ),
        ("ort:cuda/fp32", {"fidelity": None}, "were not compared"),
        ("trt/fp16#2", {"latency": latency(2.9, 1.0)}, "two builds of trt/fp16 agree: 2 builds"),
        ("trt/fp16#2", {"artifact": engine("fp16", 2, 1100)}, "spread of size 9.89%"),
        ("ort:trt/fp32", {"id": "another"}, "ort:trt/fp32 ran: it is not among the rows"),
    ],
)
def test_what_is_wrong_fails_and_says_so(row_id, fields, words):
    (said,) = failures(changed(row_id, **fields))
    assert words in said


def test_without_a_gpu_or_a_second_build_nothing_passes_for_good():
    run = good_run()
    run = run.model_copy(
        update={
            "environment": run.environment.model_copy(update={"gpu": None}),
            "rows": [row for row in run.rows if "#" not in row.id],
        }
    )
    assert [line.split(":")[0] for line in failures(run)] == ["FAIL  GPU", "FAIL  two builds agree"]


def test_spreads_are_of_one_model_and_precision():
    spreads = build_spreads(good_run().rows)
    assert [(each.precision, each.builds) for each in spreads] == [("fp16", 2), ("int8", 2)]
    assert spreads[0].size == pytest.approx(1 / 1001)
    assert spreads[0].latency == pytest.approx(0.01 / 2.01)
