"""result.json: a run comes back as it was written, and a damaged file is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import GOLDEN
from full_run import a_run

from rtbench.errors import UsageError
from rtbench.records.measurement import Comparison, Conditions
from rtbench.records.run import Run
from rtbench.runs.directory import RunDirectory
from rtbench.runs.result import read_run


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
    assert result["schema_version"] == 2
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
        "other schema": dump(schema_version=3),
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


def test_a_result_of_the_first_schema_is_read_without_what_is_gone(tmp_path: Path) -> None:
    """As its first version wrote it, and as its last did, which had a yardstick."""
    first = json.loads((GOLDEN / "first-result.json").read_text())
    assert first["schema_version"] == 1
    usual = {"other_cores": 0.1, "stolen_cores": 0.0, "throttled_s": 0.0, "cpu_mhz": None, "temperature_c": 50.0}
    last = json.loads(json.dumps(first))
    for row in last["rows"]:
        row["conditions"] = row["latency"] and usual | {"yardstick_ms": [0.6, 0.7], "gpu": None}
    pair = {"row": first["rows"][0]["id"], "to": first["rows"][1]["id"], "ratio": 2.0, "ci95": [1.9, 2.1]}
    last["comparisons"] = [pair | {"verdict": "faster", "quantile": 0.1}]
    for written in (first, last):
        (tmp_path / "result.json").write_text(json.dumps(written))
        run = read_run(tmp_path)
        assert run.schema_version == 2
        for row, old in zip(run.rows, written["rows"], strict=True):
            assert (row.id, row.status) == (old["id"], old["status"])
            if row.latency:
                assert row.latency.p50_ms == old["latency"]["p50_ms"]
                assert (row.latency.disturbed_rounds, row.latency.disturbed) == (0, None)
        assert Run.model_validate_json(run.model_dump_json()) == run
    assert run.comparisons == [Comparison(**pair, verdict="faster")]
    found = [row.conditions for row in run.rows if row.conditions]
    assert found == [Conditions(**usual, gpu=None)] * sum(row.latency is not None for row in run.rows) != []


def test_what_is_wrong_deep_down_is_named(directory: RunDirectory) -> None:
    (directory.path / "result.json").write_bytes(damaged(a_run().model_dump_json())["wrong value deep down"])
    with pytest.raises(UsageError, match=r"rows\.0\.status"):
        read_run(directory.path)


def test_no_run_directory_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing is not a run directory"):
        read_run(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is not a run directory.*result\.json"):
        read_run(tmp_path / "empty")
