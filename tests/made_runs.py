"""Run directories made without measuring, with every way that a row can end: what reports are tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rtbench.images.preprocessing import RESNET
from rtbench.measure.rounds import Block
from rtbench.measure.summary import summarise_latency
from rtbench.records.measurement import Accuracy, Comparison, Conditions, Difference, Fidelity, Startup
from rtbench.records.model import Artifact, Model
from rtbench.records.run import Dataset, Environment, Row, Run, Scores
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.review.diff import RowChange, diff
from rtbench.review.sides import read_side
from rtbench.runs.csv_lines import file_name
from rtbench.runs.directory import RunDirectory
from rtbench.runs.result import read_run
from rtbench.scores.baselines import load_baseline
from rtbench.stats import compare_rounds, mcnemar_test, paired_interval, wilson_interval

IMAGES = 400
LABELS = [index // 40 for index in range(IMAGES)]
ROUNDS, RUNS_A_ROUND, PROCESSES = 20, 25, 5
SLOWER = 1.25
"""Past what two runs of the same thing are held to differ by, for several rows together."""
SIZES = {"fp32": 46_800_000, "fp16": 23_400_000, "int8": 11_800_000}


def made_blocks(row: str, position: int, mean_ms: float, seed: int, drift: float = 0.0) -> list[Block]:
    """Rounds of a row around a mean, a second apart; `drift` is the share by which the last is slower."""
    generator = np.random.default_rng(seed)
    blocks = []
    for number in range(ROUNDS):
        level = mean_ms * (1 + drift * number / (ROUNDS - 1))
        durations = (1e6 * level * generator.normal(1, 0.01, RUNS_A_ROUND)).astype(np.int64)
        start = (number * 10 + position) * 10**9
        starts = start + np.cumsum(durations) - durations
        blocks.append(
            Block(
                row,
                number,
                0,
                number * PROCESSES // ROUNDS,
                position,
                starts,
                durations,
                np.full(RUNS_A_ROUND, np.nan),
            )
        )
    return blocks


def made_answers(wrong: Sequence[int]) -> list[int]:
    """Right for every image of LABELS but those at the indices of `wrong`."""
    return [(label + 1) % 10 if index in set(wrong) else label for index, label in enumerate(LABELS)]


def made_model(name: str = "resnet18", *, random_weights: bool = False) -> Model:
    return Model(
        name=name,
        source=f"{name}.pt",
        arch="resnet18",
        sha256="cd" * 32,
        parameters=11_689_512,
        classes=10,
        preprocessing=RESNET,
        random_weights=random_weights,
    )


def made_row(row: str, mean_ms: float, wrong: Sequence[int], *, drift: float = 0.0, model: str = "resnet18") -> Row:
    *_, runtime, precision = row.split("/")
    answers, reference = made_answers(wrong), made_answers(range(0, IMAGES, 8))
    right = sum(answer == label for answer, label in zip(answers, LABELS, strict=True))
    same = sum(answer == other for answer, other in zip(answers, reference, strict=True))
    blocks = made_blocks(row, 0, mean_ms, seed(row), drift)
    return Row.model_validate(
        {
            "id": row,
            "model": model,
            "runtime": runtime,
            "provider": "made",
            "device": "cpu",
            "precision": precision,
            "status": "ok",
            "artifact": Artifact.model_validate(
                {
                    "path": f"engines/{model}/{runtime}-{precision}.onnx",
                    "format": "state_dict" if runtime == "torch" else "onnx",
                    "precision": precision,
                    "size_bytes": SIZES[precision],
                    "sha256": "ab" * 32,
                    "made_from": {"model": "cd" * 32},
                    "tools": {"onnx": "1.23.2"},
                }
            ),
            "startup": Startup(load_ms=120.5, first_run_ms=30.25),
            "latency": summarise_latency(
                [block.ms for block in blocks], [block.process for block in blocks], warmup_runs=20, settled=True
            ),
            "conditions": Conditions(
                other_cores=0.05,
                stolen_cores=0.0,
                throttled_s=0,
                cpu_mhz=(2400, 2600),
                temperature_c=None,
                gpu=None,
            ),
            "accuracy": Accuracy(
                images=IMAGES,
                top1=right / IMAGES,
                top5=None,
                top1_ci95=wilson_interval(right, IMAGES),
                top5_ci95=None,
                agreement=same / IMAGES,
                difference=None if runtime == "torch" else made_difference(answers, reference),
            ),
            "fidelity": Fidelity(
                images=IMAGES,
                top1_agreement=same / IMAGES,
                cosine_mean=0.99,
                max_abs_error=0.5,
                relative_error=0.05,
                judged=True,
                verdict="follows the model",
            ),
        }
    )


def made_difference(answers: Sequence[int], reference: Sequence[int]) -> Difference:
    each = list(zip(answers, reference, LABELS, strict=True))
    lost = sum(own == label != answer for answer, own, label in each)
    gained = sum(answer == label != own for answer, own, label in each)
    return Difference(
        images=IMAGES,
        top1=(gained - lost) / IMAGES,
        top1_ci95=paired_interval(gained, lost, IMAGES),
        lost=lost,
        gained=gained,
        mcnemar_p=mcnemar_test(gained, lost),
        flipped=sum(answer != own for answer, own, _ in each),
        worst_classes=[],
    )


def bad_row(row: str, status: str, reason: str | None, model: str = "resnet18") -> Row:
    *_, runtime, precision = row.split("/")
    return Row.model_validate(
        {
            "id": row,
            "model": model,
            "runtime": runtime,
            "provider": None,
            "device": None,
            "precision": precision,
            "status": status,
            "reason": reason,
        }
    )


def seed(row: str) -> int:
    return sum(map(ord, row))


def scored(rows: Sequence[Row], blocks: Mapping[str, Sequence[Block]]) -> tuple[list[Row], list[Comparison]]:
    """Rows with their scores against the published baseline, and their comparisons with torch/fp32."""
    baseline = load_baseline("resnet18-t4")
    reference = next((row for row in rows if row.id.endswith("torch/fp32")), None)
    found, comparisons = [], []
    for row in rows:
        if not row.latency or not row.artifact:
            found.append(row)
            continue
        ratio, interval = None, None
        if reference and reference is not row:
            own, other = ({block.round: block.ms for block in blocks[each.id]} for each in (row, reference))
            processes = {block.round: block.process for block in blocks[row.id]}
            ratio, interval, verdict = compare_rounds(own, other, processes)
            comparisons.append(Comparison(row=row.id, to=reference.id, ratio=ratio, ci95=interval, verdict=verdict))
        scores = Scores(
            size=baseline.size_mib / (row.artifact.size_bytes / 2**20),
            latency=baseline.latency_ms / row.latency.mean_ms,
            accuracy=row.accuracy.top1 / baseline.top1 if row.accuracy and baseline.top1 else None,
            on_baseline_hardware=False,
            speedup_vs_torch=1.0 if reference is row else ratio,
            speedup_ci95=interval,
        )
        found.append(row.model_copy(update={"scores": scores}))
    return found, comparisons


def made_run(rows: Sequence[Row], models: Sequence[Model] | None = None, **changes: object) -> Run:
    run = Run(
        created="2026-11-24T16:00:00+00:00",
        command=["rtbench", "compare", "resnet18.pt", "--data", "my photos"],
        complete=True,
        environment=Environment(
            cpu="A CPU",
            cores=2,
            threads=2,
            memory_mib=8192,
            gpu=None,
            os="Linux",
            python="3.11.7",
            packages={"numpy": "2.4.6", "torch": "2.14.1"},
        ),
        models=list(models or [made_model()]),
        baseline=load_baseline("resnet18-t4"),
        dataset=Dataset(
            source="my photos", images=IMAGES, labelled=IMAGES, classes=10, labels="index", fingerprint="e" * 64
        ),
        rows=list(rows),
    )
    return run.model_copy(update=changes)


def usual_rows() -> dict[str, tuple[float, Sequence[int], float]]:
    """Of each measured row: mean, wrong answers, drift. ort/fp16 drifts by 30 %; ort/int8 flips a few images."""
    wrong = list(range(0, IMAGES, 8))
    return {
        "torch/fp32": (20.0, wrong, 0.0),
        "ort/fp32": (12.0, wrong, 0.0),
        "ort/fp16": (11.5, wrong, 0.3),
        "ort/int8": (6.0, [*wrong[1:], 1, 2, 3], 0.0),
    }


def write_usual_run(path: Path, *, slower: float = 1.0, **changes: object) -> Run:
    """A run with rows of every status, in a run directory; `slower` stretches every latency."""
    rows = usual_rows()
    blocks = {
        row: made_blocks(row, position, slower * mean_ms, seed(row), drift)
        for position, (row, (mean_ms, _, drift)) in enumerate(rows.items())
    }
    measured = [made_row(row, slower * mean, wrong, drift=drift) for row, (mean, wrong, drift) in rows.items()]
    bad = [
        bad_row("trt/fp16", "unavailable", "no NVIDIA driver; install one"),
        bad_row("trt/int8", "failed", "engine: exploded | <script>alert(1)</script>"),
        bad_row("ort:cuda/int8", "invalid", "output has NaN or infinity for 3 of 400 images"),
    ]
    found, comparisons = scored([*measured, *bad], blocks)
    run = made_run(found, comparisons=comparisons, **changes)
    answers = {row: made_answers(wrong) for row, (_, wrong, _) in rows.items()}
    write_run(path, run, blocks, answers)
    return run


def write_run(
    path: Path, run: Run, blocks: Mapping[str, Sequence[Block]], answers: Mapping[str, Sequence[int]]
) -> None:
    """A run directory as `compare` leaves it, without its reports."""
    directory = RunDirectory(path)
    directory.save(run)
    for number in range(max((len(each) for each in blocks.values()), default=0)):
        for each in blocks.values():
            directory.append_samples(each[number])
    for row, classes in answers.items():
        file = path / "predictions" / f"{file_name(row)}.csv"
        file.parent.mkdir(exist_ok=True)
        lines = [f"{label}/{index}.png,{label},{classes[index]},11" for index, label in enumerate(LABELS)]
        file.write_text("\n".join(["file,label,top1,top2", *lines]) + "\n")


def rewrite(folder: Path, **changes: object) -> None:
    run = read_run(folder).model_copy(update=changes)
    (folder / "result.json").write_text(run.model_dump_json())


def changed(before: Path, after: Path) -> dict[str, RowChange]:
    return {row.id: row for row in diff(read_side(before), read_side(after)).rows}


def write_page(folder: Path) -> Path:
    run = read_run(folder)
    page = folder / "report.html"
    page.write_text(render_html(run, read_evidence(folder, run)), encoding="utf-8")
    return page
