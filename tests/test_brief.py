"""What is printed under the table: a line for each cause, all of them with --verbose, and other formats on stdout."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import GOLDEN, write_images
from made_runs import made_row, made_run

from rtbench.records.run import Run
from rtbench.report.brief import brief_notes, brief_reasons, by_cause
from rtbench.report.cells import notes
from rtbench.report.console import plain_text
from rtbench.report.table import render_table
from rtbench.runs.result import read_run


def busy_run() -> Run:
    """Nine rows, each unstable by the same cause with figures of its own; two that this machine cannot run."""
    rows = []
    for number in range(9):
        row = made_row(f"ort/{number}/fp32", 10.0, [])
        assert row.latency
        said = (
            f"other processes kept 1.{number} of 2 cores busy in {number + 11} of 20 rounds: close them and run again"
        )
        latency = row.latency.model_copy(update={"stable": False, "warnings": [said]})
        rows.append(row.model_copy(update={"latency": latency}))
    gone = {"status": "unavailable", "reason": "no driver; install one", "latency": None, "accuracy": None}
    rows += [made_row(f"{name}/fp16", 1.0, []).model_copy(update=gone) for name in ("trt", "ort:cuda")]
    return made_run(rows)


def test_rows_of_one_cause_share_a_line() -> None:
    run = busy_run()
    lines = brief_notes(run)
    unstable = [line for line in lines if "unstable" in line]
    assert unstable == [
        "ort/0/fp32, ort/1/fp32, ort/2/fp32 and 6 other rows: ! unstable: other processes kept 1.0 of 2 cores busy in"
        " 11 of 20 rounds: close them and run again (ort/0/fp32)"
    ]
    assert brief_reasons(run) == ["trt/fp16, ort:cuda/fp16 unavailable: no driver; install one"]
    assert sum("unstable" in line for line in notes(run)) == 9
    assert not any("McNemar" in line or "than torch/fp32" in line for line in lines)


def test_what_differs_in_more_than_numbers_is_said_apart() -> None:
    assert by_cause([("a", "x 1"), ("b", "y 1"), ("c", "x 1")], ": ") == ["a, c: x 1", "b: y 1"]
    assert by_cause([("a", "x 1"), ("a", "x 2")], ": ") == ["a: x 1 (a)"]
    assert by_cause([], ": ") == []


def test_every_note_is_printed_with_verbose() -> None:
    run = read_run(GOLDEN / "run")
    brief, detailed = (plain_text(render_table(run, detailed=detailed)) for detailed in (False, True))
    every = {line.strip() for line in notes(run)}
    assert any("than torch/fp32" in line for line in every)
    joined = " ".join(detailed.split())
    assert all(" ".join(line.split()) in joined for line in every)
    assert "than torch/fp32 [" in detailed
    assert "than torch/fp32 [" not in brief


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
def test_compare_prints_other_formats_on_stdout(rtbench, tmp_path: Path, form: str) -> None:
    write_images(tmp_path / "images", 2)
    (tmp_path / "m.fake").write_text(json.dumps({"latency_ms": [1.0], "classes": 3}))
    quick = ("--runs", "5", "--patience", "0", "--data", "images", "--out", "run", "--format", form)
    done = rtbench("compare", "m.fake", *quick)
    assert done.returncode == 0
    match form:
        case "json":
            assert json.loads(done.stdout) == json.loads((tmp_path / "run" / "result.json").read_text())
        case "csv":
            (row,) = csv.DictReader(io.StringIO(done.stdout))
            assert (row["row"], row["p50_ms"]) == ("fake/fp32", "1.0")
        case "markdown":
            assert done.stdout == (tmp_path / "run" / "report.md").read_text()


def test_a_gate_is_told_on_stderr_where_stdout_is_for_programs(rtbench, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 2)
    (tmp_path / "m.fake").write_text(json.dumps({"latency_ms": [1.0], "classes": 3}))
    quick = ("--runs", "20", "--patience", "0", "--data", "images")
    assert rtbench("compare", "m.fake", *quick, "--out", "before").returncode == 0
    against = ("--against", "before", "--fail-on", "size:1%", "--format", "json")
    done = rtbench("compare", "m.fake", *quick, "--out", "after", *against)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["against"]["path"]
    assert "PASS" in done.stderr
