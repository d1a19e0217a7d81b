"""A run with every kind of record in it, to be written and read back."""

from __future__ import annotations

import numpy as np

from rtbench.images.preprocessing import RESNET
from rtbench.measure.summary import summarise_latency
from rtbench.records.measurement import Accuracy, Fidelity
from rtbench.records.model import Artifact, Calibration, Check, Model
from rtbench.records.run import Baseline, Dataset, Environment, Gpu, Row, Run, Scores

FIDELITY = Fidelity(
    images=64,
    top1_agreement=0.984375,
    cosine_mean=0.1 + 0.2,
    max_abs_error=1e-300,
    relative_error=None,
    judged=False,
    verdict="“cannot” be judged",
)


def a_run() -> Run:
    """A run with every kind of record in it."""
    artifact = Artifact(
        path="engines/modèle/onnx-int8.onnx",
        format="onnx",
        precision="int8",
        size_bytes=11_720_001,
        sha256="ab" * 32,
        made_from={"model": "cd" * 32},
        tools={"onnx": "1.23.2"},
        calibration=Calibration(
            source="here", method="minmax", images=2, fingerprint="f", files=["a, b.png", 'c".png']
        ),
        check=Check(status="ok", reason=None, fidelity=FIDELITY, note="a note"),
    )
    generator = np.random.default_rng(4)
    measured = Row(
        id="ort:cpu/int8",
        model="modèle",
        runtime="ort:cpu",
        provider="CPUExecutionProvider",
        device="cpu",
        precision="int8",
        status="ok",
        warnings=["one", "two"],
        artifact=artifact,
        latency=summarise_latency([generator.gamma(2, 1, 7) for _ in range(5)]),
        accuracy=Accuracy(
            images=3, top1=1 / 3, top5=None, top1_ci95=(0.06149194472039628, 0.79), top5_ci95=None, agreement=2 / 3
        ),
        fidelity=FIDELITY,
        scores=Scores(size=3.9, latency=1 / 7, accuracy=None, on_baseline_hardware=False, speedup_vs_torch=None),
    )
    broken = Row(
        id="trt/fp16",
        model="modèle",
        runtime="trt",
        provider=None,
        device=None,
        precision="fp16",
        status="unavailable",
        reason="no driver;\ninstall one",
    )
    model = Model(
        name="modèle",
        source="m.pt",
        arch="resnet18",
        arch_options={"aux_logits": False, "width": 3},
        sha256="cd" * 32,
        parameters=11_689_512,
        classes=1000,
        preprocessing=RESNET,
    )
    return Run(
        created="2026-11-24T16:00:00+00:00",
        command=["rtbench", "compare", "a model.pt"],
        complete=True,
        environment=Environment(
            cpu="cpu",
            cores=2,
            threads=2,
            memory_mib=8192,
            gpu=Gpu(name="Tesla T4", compute_capability="7.5", driver="570.1", memory_mib=15360),
            os="Linux",
            python="3.11.7",
            packages={"numpy": "2.4.6"},
        ),
        models=[model, model.model_copy(update={"name": "other", "arch": None, "parameters": None})],
        baseline=Baseline(name="b", latency_ms=23.5, top1=0.6976, top5=None, size_mib=44.7, hardware="h", gpu="T4"),
        dataset=Dataset(source="/data", images=3, labelled=3, classes=2, labels="index", fingerprint="e" * 64),
        rows=[measured, broken],
    )
