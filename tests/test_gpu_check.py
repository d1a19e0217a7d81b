"""The judgement of a run on a GPU, on rows made up for it."""

from __future__ import annotations

import os
import zipfile

import pytest

from rtbench.images.preprocessing import RESNET
from rtbench.records.measurement import Fidelity, Latency, MlPerf
from rtbench.records.model import Artifact, EngineBuild, Model, Recipe
from rtbench.records.run import Environment, Gpu, Row, Run
from rtbench.review.builds import build_spreads
from rtbench.review.gpu_check import PROVIDERS, RUNTIMES, judge_gpu_run
from rtbench.review.gpu_evidence import expectations, pack, run_trtexec, without_folders

T4 = Gpu(
    name="Tesla T4",
    compute_capability="7.5",
    driver="580.65",
    memory_mib=15360,
    bandwidth_gb_s=320.0,
    l2_bytes=4 << 20,
)
PARAMETERS = 11_000_000
DEVICE_MS = {"torch:cuda/fp32": 2.4, "trt/fp16": 1.5, "trt/int8": 1.0}


def latency(mean_ms: float, device_ms: float | None, **fields: object) -> Latency:
    zero = dict.fromkeys(("std_ms", "min_ms", "max_ms", "p50_ms", "p95_ms"), 1.0) | {"p90_ms": 3.0} | fields
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
        driver="580.65",
        recipe=Recipe(name=f"t4-{precision}", precision=precision, compute_capability="7.5", batch={"max": 8}),
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


FIDELITY = Fidelity(
    images=64,
    top1_agreement=1.0,
    cosine_mean=1.0,
    max_abs_error=0.01,
    relative_error=0.01,
    judged=True,
    verdict="follows the model",
)


def good_row(runtime: str, precision: str, number: int) -> Row:
    name = f"{runtime}/{precision}"
    return Row(
        id=name + (f"#{number}" if number > 1 else ""),
        model="resnet18",
        runtime=runtime,
        provider=f"{PROVIDERS[runtime]} 10.16 (and more)",
        device="cuda",
        precision=precision,
        status="ok",
        artifact=engine(precision, number, 1000 + number) if runtime == "trt" else None,
        layers={precision.upper(): {"products": 21, "others": 3}, "FP32": {"others": 1}} if runtime == "trt" else {},
        latency=latency(2.5 + number / 100, DEVICE_MS.get(name)),
        mlperf=MlPerf(verdict="VALID", queries=300, p90_ms=3.1, p90_bound_ms=3.2),
        fidelity=FIDELITY,
        timed="(1, 3, 224, 224) float32 in host memory to (1, 9) float32 logits in host memory",
    )


def good_run() -> Run:
    rows = [
        good_row(runtime, precision, number)
        for runtime, precisions in RUNTIMES.items()
        for precision in precisions
        for number in ((1, 2) if runtime == "trt" else (1,))
    ]
    environment = Environment(cpu="c", cores=4, threads=4, memory_mib=1, gpu=T4, os="Linux", python="3.12", packages={})
    model = Model(
        name="resnet18",
        source="m",
        arch="resnet18",
        sha256="ef",
        parameters=PARAMETERS,
        classes=9,
        preprocessing=RESNET,
    )
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


def failures(run: Run, again: Run | None = None, trtexec: dict[str, float] | None = None) -> list[str]:
    verdicts = judge_gpu_run(run, again or good_run(), trtexec)
    return [str(verdict) for verdict in verdicts if not verdict.passed]


def changed(row_id: str, **fields: object) -> Run:
    run = good_run()
    rows = [row.model_copy(update=fields) if row.id == row_id else row for row in run.rows]
    return run.model_copy(update={"rows": rows})


def test_a_good_run_passes_with_figures():
    verdicts = [str(verdict) for verdict in judge_gpu_run(good_run(), good_run(), {"trt/fp16": 1.4})]
    assert failures(good_run()) == []
    assert verdicts[0] == "PASS  GPU: Tesla T4, compute capability 7.5, driver 580.65"
    fits = "PASS  trt/fp16 device time fits in host time: 1.500 of 2.510 ms on the device, its weights alone take 0.056"
    assert fits in verdicts
    assert "PASS  trt/int8 convolutions run in int8: 21 in INT8" in verdicts
    assert "PASS  trt/fp16 is faster on the device than torch:cuda/fp32: 1.500 ms and 2.400 ms" in verdicts
    assert all(verdict.startswith("PASS") for verdict in verdicts)


RTX = engine("fp16", 1, 1001).model_copy(
    update={"build": engine("fp16", 1, 1001).build.model_copy(update={"library": "tensorrt_rtx"})}
)
UNJUDGED = FIDELITY.model_copy(update={"judged": False, "verdict": "not judged: outputs hardly vary"})


@pytest.mark.parametrize(
    ("row_id", "fields", "words"),
    [
        ("ort:trt/int8", {"status": "failed", "reason": "lost"}, "ort:trt/int8 ran: failed: lost"),
        (
            "torch:cuda/fp32",
            {"latency": latency(2.3, 2.4)},
            "torch:cuda/fp32 device time fits in host time: 2.400 of 2.3",
        ),
        ("ort:cuda/fp16", {"provider": "CPUExecutionProvider"}, "ort:cuda/fp16 did not fall back"),
        ("trt/fp16", {"provider": "tensorrt_rtx 1.7"}, "trt/fp16 did not fall back: tensorrt_rtx 1.7 on cuda"),
        ("trt/fp16", {"artifact": RTX}, "trt/fp16 did not fall back: built by tensorrt_rtx, not tensorrt"),
        (
            "ort:trt/int8",
            {"placement": {"TensorrtExecutionProvider": {"Conv": 19}, "CPUExecutionProvider": {"Conv": 1, "Cast": 4}}},
            "ort:trt/int8 did not fall back: 1 layers in CPUExecutionProvider",
        ),
        (
            "trt/int8",
            {"layers": {"INT8": {"products": 20}, "FP16": {"products": 1}}},
            "run in int8: 20 in INT8, 1 in FP16",
        ),
        ("trt/int8", {"layers": {}}, "convolutions run in int8: the engine does not say"),
        ("ort:cuda/fp32", {"fidelity": None}, "were not compared"),
        ("ort:cuda/fp32", {"fidelity": UNJUDGED}, "not judged: outputs hardly vary; give a trained model"),
        ("ort:cuda/fp32", {"latency": latency(2.0, None, disturbed="other processes")}, "was not disturbed: other"),
        ("ort:cuda/fp32", {"mlperf": None}, "p90 is that of MLPerf's generator: it has not driven"),
        ("ort:cuda/fp32", {"latency": latency(2.0, None, p90_ms=2.9)}, "MLPerf's generator: 2.900 and 3.100 ms"),
        ("torch:cuda/fp32", {"latency": latency(2.0, 1.4)}, "trt/fp16 is faster on the device than torch:cuda/fp32"),
        ("trt/fp16#2", {"latency": latency(2.5, 1.7)}, "two builds of trt/fp16 agree: 2 builds"),
        ("trt/fp16#2", {"artifact": engine("fp16", 2, 1100)}, "spread of size 9.89 %"),
        ("ort:cuda/fp32", {"id": "another"}, "ort:cuda/fp32 ran: it is not among the rows"),
    ],
)
def test_what_is_wrong_fails_and_says_so(row_id, fields, words):
    said = failures(changed(row_id, **fields))
    assert words in said[0]
    assert len(said) == 1 or row_id == "ort:trt/int8"  # which a second run cannot be compared with either


def test_a_device_time_that_no_memory_could_keep_up_with_fails():
    run = good_run()
    rows = [row.model_copy(update={"latency": latency(2.5, 0.01)}) if "int8" in row.id else row for row in run.rows]
    (said,) = failures(run.model_copy(update={"rows": rows}))
    assert (
        "trt/int8 device time fits in host time: 0.010 of 2.500 ms on the device, its weights alone take 0.021" in said
    )


def test_int8_that_is_slower_than_fp16_fails():
    slower = latency(2.5, 1.6)
    run = changed("trt/int8", latency=slower)
    rows = [row.model_copy(update={"latency": slower}) if row.id == "trt/int8#2" else row for row in run.rows]
    (said,) = failures(run.model_copy(update={"rows": rows}))
    assert "trt/int8 is faster on the device than trt/fp16: 1.600 ms and 1.500 ms" in said


def test_a_second_run_must_be_the_same():
    (said,) = failures(good_run(), changed("ort:trt/fp16", latency=latency(2.9, None)))
    assert "a second run of ort:trt/fp16 is the same: means 2.510 and 2.900 ms, outputs alike" in said
    (said,) = failures(good_run(), changed("ort:trt/fp16", fidelity=UNJUDGED))
    assert "outputs differ" in said
    assert len([line for line in judge_gpu_run(good_run()) if not line.passed]) == 3  # no second run


def test_trtexec_must_agree():
    assert failures(good_run(), None, {"trt/fp16": 1.5}) == []
    (said,) = failures(good_run(), None, {"trt/fp16": 1.2})
    assert "trt/fp16 device time is that of trtexec: 1.500 and 1.200 ms" in said


def test_without_a_gpu_or_a_second_build_nothing_passes_for_good():
    run = good_run()
    run = run.model_copy(
        update={
            "environment": run.environment.model_copy(update={"gpu": None}),
            "rows": [row for row in run.rows if "#" not in row.id],
        }
    )
    assert [line.split(":")[0] for line in failures(run)] == ["FAIL  GPU", "FAIL  two builds agree"]


def test_spreads_are_of_one_model_and_recipe():
    spreads = build_spreads(good_run().rows)
    assert [(each.name, each.builds) for each in spreads] == [("trt/fp16", 2), ("trt/int8", 2)]
    assert spreads[0].size == pytest.approx(1 / 1001)
    assert spreads[0].latency is None or spreads[0].latency >= 0


TRTEXEC = """#!/bin/sh
echo "$@"
echo "[I] Latency: min = 1.5 ms, max = 2 ms, mean = 1.9 ms, median = 1.8 ms"
echo "[I] GPU Compute Time: min = 1.1 ms, max = 1.9 ms, mean = 1.42 ms, median = 1.3 ms, percentile(90%) = 1.5 ms"
"""


def test_trtexec_is_run_on_each_engine_and_kept(tmp_path, monkeypatch):
    assert run_trtexec(good_run(), tmp_path) == {}
    tool = tmp_path / "trtexec"
    tool.write_text(TRTEXEC)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = run_trtexec(good_run(), tmp_path)
    assert found == dict.fromkeys(("trt/fp16", "trt/fp16#2", "trt/int8", "trt/int8#2"), 1.42)
    assert (tmp_path / "trtexec-trt-fp16.txt").read_text().startswith("--loadEngine=e --shapes=input:1x3x224x224\n")


def test_measured_stands_beside_published():
    (said,) = [line for line in expectations(good_run()) if line.startswith("trt/fp16:")]
    assert said.startswith("trt/fp16: 1.500 ms measured, 1.00 ms published for a T4")


def test_one_file_has_everything_and_no_private_path(tmp_path):
    folder, engines = tmp_path / "home" / "gpu-check", tmp_path / "home" / "engines"
    (folder / "logs").mkdir(parents=True)
    engines.mkdir()
    for name in ("trt-fp16.json", "trt-fp16.layers.json", "trt-fp16.log"):
        (engines / name).write_text(f'{{"path": "{engines}/trt-fp16.engine"}}')
    row = good_row("trt", "fp16", 1)
    row = row.model_copy(update={"artifact": row.artifact.model_copy(update={"path": f"{engines}/trt-fp16.engine"})})
    run = good_run().model_copy(update={"rows": [row], "command": ["rtbench", "compare", f"{engines}/mine.pt"]})
    (folder / "result.json").write_text(run.model_dump_json())
    (folder / "logs" / "trt.log").write_text(f'File "{folder}/worker.py", line 3\nsee https://example.org/a/b\n')
    target = pack(run, folder, ["PASS  GPU: here"])
    assert target == folder.with_name("gpu-check.zip")
    with zipfile.ZipFile(target) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert {*texts} == {
        *("verdicts.txt", "result.json", "logs/trt.log"),
        *("artifacts/trt-fp16.json", "artifacts/trt-fp16.layers.json", "artifacts/trt-fp16.log"),
    }
    assert [name for name, text in texts.items() if str(tmp_path) in text or "home" in text] == []
    assert "https://example.org/a/b" in texts["logs/trt.log"]
    assert Run.model_validate_json(texts["result.json"]).rows[0].id == "trt/fp16"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/x.py", "x.py"),
        ('"/home/me/models/mine.pt"', '"mine.pt"'),
        ("see /var/log/a.b/c; 3/4 of it, ms/image", "see c; 3/4 of it, ms/image"),
        ("file:///home/me/x", "file://x"),
    ],
)
def test_paths_lose_their_folders(text, expected):
    assert without_folders(text) == expected
