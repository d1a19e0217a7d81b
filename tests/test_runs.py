"""The run directory: what is written comes back, and nothing else is touched."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from rtbench.errors import UsageError
from rtbench.images.preprocessing import RESNET
from rtbench.measure.accuracy import Predictions
from rtbench.measure.latency import Block
from rtbench.records.measurement import Accuracy, Fidelity
from rtbench.records.model import Artifact, Calibration, Check, Model
from rtbench.records.run import Baseline, Dataset, Environment, Gpu, Row, Run, Scores
from rtbench.runs.csv_lines import file_name
from rtbench.runs.directory import RunDirectory, read_command
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_blocks, read_samples
from rtbench.stats import summarise_latency

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


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def saved(directory: RunDirectory) -> dict:
    return json.loads((directory.path / "result.json").read_text(encoding="utf-8"))


def test_a_run_comes_back_as_it_was(directory: RunDirectory) -> None:
    run = a_run()
    directory.save(run)
    for path in (directory.path, directory.path / "result.json"):
        again = read_run(path)
        assert again == run
        assert again.model_dump() == run.model_dump()


def test_a_run_without_dataset_baseline_and_gpu_comes_back_too(directory: RunDirectory) -> None:
    run = a_run()
    bare = run.model_copy(
        update={
            "dataset": None,
            "baseline": None,
            "complete": False,
            "rows": [],
            "environment": run.environment.model_copy(update={"gpu": None}),
        }
    )
    directory.save(bare)
    assert read_run(directory.path) == bare


def test_result_json_says_which_model_and_which_schema(directory: RunDirectory) -> None:
    directory.save(a_run())
    result = saved(directory)
    assert result["schema_version"] == 1
    assert result["model"] == result["models"][0]
    assert result["model"]["name"] == "modèle"
    assert [row["id"] for row in result["rows"]] == ["ort:cpu/int8", "trt/fp16"]
    assert result["rows"][0]["accuracy"]["top1"] == 1 / 3


def test_saving_again_replaces_the_whole_file_and_leaves_no_other(directory: RunDirectory) -> None:
    run = a_run()
    directory.save(run)
    directory.save(run.model_copy(update={"rows": run.rows[:1]}))
    assert len(read_run(directory.path).rows) == 1
    assert [path.name for path in directory.path.iterdir()] == ["result.json"]


def damaged(text: str) -> dict[str, bytes]:
    result = json.loads(text)

    def dump(**changes: object) -> bytes:
        return json.dumps(result | changes).encode()

    without_rows = {key: value for key, value in result.items() if key != "rows"}
    wrong_row = result["rows"][1] | {"status": "fine"}
    return {
        "truncated": text.encode()[: len(text) // 2],
        "empty": b"",
        "no JSON": b"hello",
        "a list": b"[]",
        "null": b"null",
        "other schema": dump(schema_version=2),
        "no date": json.dumps({key: value for key, value in result.items() if key != "created"}).encode(),
        "no rows": json.dumps(without_rows).encode(),
        "unknown field": dump(colour="red"),
        "wrong value deep down": dump(rows=[wrong_row]),
        "not text": b"\xff\xfe" + text.encode()[:100],
    }


@pytest.mark.parametrize("damage", damaged(a_run().model_dump_json()))
def test_a_damaged_result_is_told_in_a_sentence_that_names_it(directory: RunDirectory, damage: str) -> None:
    path = directory.path / "result.json"
    path.write_bytes(damaged(a_run().model_dump_json())[damage])
    with pytest.raises(UsageError) as caught:
        read_run(directory.path)
    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_what_is_wrong_deep_down_is_named(directory: RunDirectory) -> None:
    (directory.path / "result.json").write_bytes(damaged(a_run().model_dump_json())["wrong value deep down"])
    with pytest.raises(UsageError, match=r"rows\.0\.status"):
        read_run(directory.path)


def test_no_run_directory_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing is no run directory"):
        read_run(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is no run directory.*result\.json"):
        read_run(tmp_path / "empty")


def test_samples_come_back_as_they_were(directory: RunDirectory) -> None:
    generator = np.random.default_rng(6)
    rows = ["ort:cpu/int8", "a, model/torch/fp32", 'the "other"/ort/fp32']
    written: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    lines = []
    for number in range(4):
        for position, row in enumerate(generator.permutation(rows).tolist()):
            starts = np.sort(generator.integers(2**53, 2**62, 3 + number % 2))  # past what a double holds exactly
            durations = generator.integers(1, 10**9, 3 + number % 2)
            on_device = np.where(durations % 2, np.nan, durations / 1e6)
            yardstick = float("nan") if number == 2 else 0.1 + number / 7
            directory.append_samples(Block(row, number, number // 2, position, starts, durations, on_device, yardstick))
            written[row].append(durations)
            lines += [
                (
                    row,
                    number,
                    number // 2,
                    position,
                    int(s),
                    int(d),
                    *("" if x != x else repr(x) for x in (m, yardstick)),
                )
                for s, d, m in zip(starts, durations, on_device.tolist(), strict=True)
            ]
    read = read_samples(directory.path)
    assert set(read) == set(rows)
    again = read_blocks(directory.path)[rows[0]]
    assert [block.process for block in again] == [0, 0, 1, 1]
    np.testing.assert_array_equal([block.yardstick_ms for block in again], [0.1, 0.1 + 1 / 7, np.nan, 0.1 + 3 / 7])
    for row in rows:
        assert len(read[row]) == 4
        for before, after in zip(written[row], read[row], strict=True):
            np.testing.assert_allclose(after, before / 1e6, rtol=1e-15)
    with (directory.path / "samples.csv").open(newline="") as file:
        header, *table = csv.reader(file)
    assert header == ["row", "round", "process", "position", "start_ns", "duration_ns", "device_ms", "yardstick_ms"]
    assert [(row, *map(int, rest), *last) for row, *rest, last in [(*line[:-2], line[-2:]) for line in table]] == lines


def test_a_row_that_missed_a_round_keeps_the_others(directory: RunDirectory) -> None:
    for number in (0, 2):
        block = Block("a/ort/fp32", number, 0, 0, np.array([1, 2]), np.array([10**6, number]), np.full(2, np.nan))
        directory.append_samples(block)
    assert [list(samples) for samples in read_samples(directory.path)["a/ort/fp32"]] == [[1.0, 0.0], [1.0, 2e-6]]


def blocks(count: int) -> list[Block]:
    generator = np.random.default_rng(2)
    return [
        Block(
            ("torch/fp32", "ort/fp32")[number % 2],
            number // 2,
            0,
            0,
            np.arange(4) + 10 * number,
            generator.integers(1, 10**6, 4),
            np.array([0.1, np.nan, 1 / 3, 2e-9]) if number % 2 else np.full(4, np.nan),
            number / 3 if number else float("nan"),
        )
        for number in range(count)
    ]


def test_samples_cut_anywhere_come_back_as_whole_blocks(directory: RunDirectory) -> None:
    written = blocks(5)
    for block in written:
        directory.append_samples(block)
    path = directory.path / "samples.csv"
    whole = path.read_bytes()
    for keep in [0, 10, *range(60, len(whole), 7), len(whole)]:
        path.write_bytes(whole[:keep])
        taken = [block for row in directory.take_samples(lambda _: 4).values() for block in row]
        done = [block for block in written if any(each.starts_ns[0] == block.starts_ns[0] for each in taken)]
        assert len(taken) == len(done)
        for block in written[len(done) :]:  # and it can be gone on with
            directory.append_samples(block)
        assert path.read_bytes() == whole


NAMES = ["plain.png", "a, b.png", 'say "hi".png', "0/ünï.png", " space .png", "two\nlines.png", "'", '"']
LABELS = list(range(100, 100 + len(NAMES)))


def some_predictions(top: int = 5) -> Predictions:
    classes = np.arange(len(NAMES) * top, dtype=np.int32).reshape(-1, top)
    classes[3] = -1
    confidences = np.random.default_rng(3).random(len(NAMES), dtype=np.float32)
    return Predictions(classes, confidences)


def test_predictions_parse_back_whatever_the_files_are_called(directory: RunDirectory) -> None:
    predictions = some_predictions()
    for part in (slice(0, 3), slice(3, 8)):
        batch = Predictions(predictions.classes[part], predictions.confidences[part])
        directory.append_predictions("ort:cpu/int8", NAMES[part], LABELS[part], batch)
    with (directory.path / "predictions" / "ort-cpu-int8.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["file", "label", "top1", "top2", "top3", "top4", "top5", "confidence"]
    assert [line[0] for line in lines] == NAMES
    assert [int(line[1]) for line in lines] == LABELS
    assert [[int(value) for value in line[2:-1]] for line in lines] == predictions.classes.tolist()
    kept = directory.read_predictions("ort:cpu/int8", NAMES, LABELS, 1000)
    np.testing.assert_array_equal(kept.classes, predictions.classes)
    np.testing.assert_array_equal(kept.confidences, predictions.confidences)  # to the last bit


@pytest.mark.parametrize("top", [2, 5])
def test_predictions_cut_anywhere_are_gone_on_with(directory: RunDirectory, top: int) -> None:
    predictions = some_predictions(top)
    directory.append_predictions("row", NAMES, LABELS, predictions)
    path = directory.path / "predictions" / "row.csv"
    whole = path.read_bytes()
    for keep in range(len(whole) + 1):
        path.write_bytes(whole[:keep])
        kept = directory.read_predictions("row", NAMES, LABELS, top)
        np.testing.assert_array_equal(kept.classes, predictions.classes[: len(kept)])
        rest = Predictions(predictions.classes[len(kept) :], predictions.confidences[len(kept) :])
        directory.append_predictions("row", NAMES[len(kept) :], LABELS[len(kept) :], rest)
        assert path.read_bytes() == whole, keep


def test_predictions_of_other_images_are_refused(directory: RunDirectory) -> None:
    directory.append_predictions("row", NAMES, LABELS, some_predictions())
    with pytest.raises(UsageError, match="of other images"):
        directory.read_predictions("row", NAMES[::-1], LABELS, 1000)


def test_predictions_of_few_classes_have_few_columns(directory: RunDirectory) -> None:
    batch = Predictions(np.array([[1, 0]], dtype=np.int32), np.array([0.75], dtype=np.float32))
    directory.append_predictions("torch/fp32", ["a.png"], [1], batch)
    with (directory.path / "predictions" / "torch-fp32.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"file": "a.png", "label": "1", "top1": "1", "top2": "0", "confidence": "0.75"}
        ]


def test_predictions_must_be_as_many_as_the_images(directory: RunDirectory) -> None:
    with pytest.raises(ValueError, match="zip"):
        directory.append_predictions("torch/fp32", ["a", "b"], [1, 2], Predictions.unanswered(1, 5))


def test_only_an_interrupted_run_is_resumed_and_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing is no run directory that can be resumed \(it has no command\.json"):
        RunDirectory(tmp_path / "missing", resume=True)
    first = RunDirectory(tmp_path / "run")
    first.save_command(["compare", "a model.pt"])
    with pytest.raises(UsageError, match="is being measured by another process"):
        RunDirectory(tmp_path / "run", resume=True)
    run = a_run()
    first.save(run.model_copy(update={"complete": False}))
    del first
    second = RunDirectory(tmp_path / "run", resume=True)
    assert second.kept == run.model_copy(update={"complete": False})
    assert read_command(second.path) == (["compare", "a model.pt"], Path.cwd())
    second.save(run)
    del second
    with pytest.raises(UsageError, match="is complete, there is nothing to resume"):
        RunDirectory(tmp_path / "run", resume=True)


def test_file_names_stay_in_their_folder() -> None:
    assert file_name("ort:cpu/int8") == "ort-cpu-int8"
    for row in ("../../etc/passwd", "a\\b", "a b/c\0d", "résumé/ort/fp32"):
        assert Path(file_name(row)).name == file_name(row)
        assert not set(file_name(row)) & set('/\\: \0"')


def test_a_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "a" / "b" / "run").path.is_dir()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunDirectory(tmp_path / "empty").save(a_run())
    assert read_run(tmp_path / "empty") == a_run()


@pytest.mark.parametrize("content", ["notes.txt", ".hidden", "folder/"])
def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run" / content
    if content.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        RunDirectory(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == [path]


def test_a_file_and_a_place_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file is there already"):
        RunDirectory(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot write to"):
        RunDirectory(tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def fill(directory: RunDirectory) -> None:
    directory.logs.mkdir()
    directory.log("ort:cpu/int8").write_text("log")


def test_discarding_takes_back_the_folder_and_its_new_parents(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.txt").write_text("mine")
    directory = RunDirectory(tmp_path / "old" / "new" / "newer" / "run")
    fill(directory)
    directory.discard()
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["mine.txt"]


def test_discarding_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    directory = RunDirectory(Path("runs") / "one")
    fill(directory)
    directory.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_discarding_leaves_a_folder_that_was_there_and_empties_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    directory = RunDirectory(tmp_path / "run")
    fill(directory)
    directory.discard()
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
    assert list((tmp_path / "run").iterdir()) == []


def test_discarding_leaves_the_runs_beside_it(tmp_path: Path) -> None:
    """Two comparisons into one new parent folder, as by default: the first gives up, the second measures."""
    first = RunDirectory(tmp_path / "runs" / "first")
    second = RunDirectory(tmp_path / "runs" / "second")
    second.save(a_run())
    fill(first)
    first.discard()
    assert not first.path.exists()
    assert read_run(second.path) == a_run()
