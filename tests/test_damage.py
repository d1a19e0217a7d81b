"""A run directory that is damaged, unreadable or not one: one sentence that names the file, from every command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import write_usual_run

from rtbench.errors import UsageError
from rtbench.measure.accuracy import Predictions
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.review.diff import diff
from rtbench.review.history import history
from rtbench.review.sides import read_side
from rtbench.runs.directory import RunDirectory, read_command
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "run"
    write_usual_run(path)
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def told(call: Callable[[], object], *words: str) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def result(**changes: object) -> Callable[[bytes], bytes]:
    return lambda whole: json.dumps(json.loads(whole) | changes).encode()


def in_row(**changes: object) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        data = json.loads(whole)
        data["rows"][1] = data["rows"][1] | changes
        return json.dumps(data).encode()

    return change


def in_latency(**changes: object) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        data = json.loads(whole)
        data["rows"][1]["latency"] |= changes
        return json.dumps(data).encode()

    return change


RESULTS: dict[str, Callable[[bytes], bytes]] = {
    "deep nesting": lambda _: b"[" * 100_000,
    "a deep object": lambda _: b'{"a":' * 100_000,
    "a huge integer": lambda whole: whole.replace(b'"cores": 2', b'"cores": ' + b"9" * 5000),
    "an integer past 64 bits": lambda whole: whole.replace(b'"cores": 2', b'"cores": ' + b"9" * 30),
    "NaN": lambda whole: whole.replace(b'"mean_ms":', b'"mean_ms":NaN,"std_ms":', 1),
    "infinity": in_latency(mean_ms=1e308 * 10),
    "a number past a double": lambda whole: whole.replace(b'"std_ms":', b'"std_ms":1e999,"std_ms":1e999,"min_ms":', 1),
    "not UTF-8": lambda whole: whole.replace(b"resnet18", b"\xff\xfe\xfa"),
    "half a surrogate": lambda whole: whole.replace(b"resnet18", b"\\ud800"),
    "no models": result(models=[]),
    "rows that are none": result(rows=[1, None]),
    "a latency of zero": in_latency(p50_ms=0.0),
    "a negative latency": in_latency(mean_ms=-1.0),
    "unstable and no reason": in_latency(stable=False, warnings=[]),
    "the schema is true": result(schema_version=True),
    "schema 0": result(schema_version=0),
    "schema -1": result(schema_version=-1),
    "schema 1 with rows that are none": result(schema_version=1, rows=[1]),
    "schema 1 with rows null": result(schema_version=1, rows=None),
    "schema 1 with conditions of a kind": lambda whole: in_row(conditions=[1])(result(schema_version=1)(whole)),
}


@pytest.mark.parametrize("damage", RESULTS)
def test_a_damaged_result(run: Path, damage: str) -> None:
    file = run / "result.json"
    before = file.read_bytes()
    file.write_bytes(RESULTS[damage](before))
    assert file.read_bytes() != before
    for call in (lambda: read_run(run), lambda: read_side(run), lambda: read_run(file)):
        told(call, str(file))


CSV: dict[str, Callable[[bytes], bytes]] = {
    "not UTF-8": lambda whole: whole[:200] + b"\xff\xfe" + whole[200:],
    "a short line": lambda whole: whole + b"ort/int8,1\n",
    "a long line": lambda whole: whole[:-1] + b",1,2,3\n",
    "no header": lambda whole: whole.partition(b"\n")[2],
    "another header": lambda whole: b"a,b\n" + whole.partition(b"\n")[2],
    "a break within the header": lambda whole: whole.replace(b",", b"\r", 1),
    "a cell without end": lambda whole: whole + b'"' + b"x" * 200_000 + b'"\n',
    "null characters": lambda whole: whole + b"\0" * 100 + b"\n",
}


def with_text(whole: bytes) -> bytes:
    """Another line, of as many cells, without a number."""
    cells = whole.rstrip(b"\n").rpartition(b"\n")[2].count(b",")
    return whole + b"ort/int8" + b",one" * cells + b"\n"


@pytest.mark.parametrize("damage", [*CSV, "text"])
@pytest.mark.parametrize("name", ["samples.csv", "predictions/ort-int8.csv"])
def test_damaged_samples_and_predictions(run: Path, name: str, damage: str) -> None:
    file = run / name
    file.write_bytes(CSV.get(damage, with_text)(file.read_bytes()))
    told(lambda: read_side(run), f"{file} is damaged: ")
    told(lambda: read_evidence(run, read_run(run)), f"{file} is damaged: ")
    assert "Ship" in render_markdown(read_run(run))  # which needs neither


@pytest.mark.parametrize("durations", [b"0", b"-5", b"99999999999999999999", b"1.5", b"nan", b""])
def test_samples_that_no_clock_gives(run: Path, durations: bytes) -> None:
    file = run / "samples.csv"
    header, first, rest = file.read_bytes().split(b"\n", 2)
    cells = first.split(b",")
    cells[header.split(b",").index(b"duration_ns")] = durations
    file.write_bytes(b"\n".join([header, b",".join(cells), rest]))
    told(lambda: read_side(run), f"{file} is damaged: ")


@pytest.mark.parametrize("column", ["round", "attempt", "process", "position"])
def test_a_number_of_a_block_that_is_none(run: Path, column: str) -> None:
    file = run / "samples.csv"
    header, first, rest = file.read_bytes().split(b"\n", 2)
    cells = first.split(b",")
    cells[header.split(b",").index(column.encode())] = b"18446744073709551616"
    file.write_bytes(b"\n".join([header, b",".join(cells), rest]))
    told(lambda: read_side(run), f"{file} is damaged: ")
    told(lambda: read_evidence(run, read_run(run)), f"{file} is damaged: ")


@pytest.mark.parametrize("damage", ["no column", "no time", "text"])
def test_damaged_conditions(run: Path, damage: str) -> None:
    columns = "row,round,attempt,wall_s,other_s,waited_s,stolen_s,throttled_s,cpu_mhz,temperature_c"
    columns += ",gpu_sm_mhz,gpu_temperature_c,gpu_power_w,gpu_slowdowns,gpu_other_processes"
    line = "ort/int8,0,0,0.5,0,0,0,0,,,,,,,"
    text = f"{columns}\n{line}\n"
    file = run / "conditions.csv"
    file.write_text(text)
    every_block(run)
    changes = {"no column": ("wall_s", "wall"), "no time": ("0.5", ""), "text": ("0.5", "half")}
    file.write_text(text.replace(*changes[damage]))
    told(lambda: every_block(run), f"{file} is damaged: ")


def test_predictions_of_other_images_are_not_compared(made: Path, run: Path) -> None:
    file = run / "predictions" / "ort-int8.csv"
    file.write_text(file.read_text().replace("0/0.png", "0/other.png"))
    found = {row.id: row for row in diff(read_side(made), read_side(run)).rows}
    assert found["ort/int8"].accuracy.reason == "the predictions are of other images"
    assert found["ort/fp32"].accuracy.verdict == "no difference shown"


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"null", b"[]", b"[" * 100_000, b'{"arguments": "compare", "folder": "/"}', b"\xff\xfe"),
        *(b'{"arguments": [1], "folder": "/"}', b'{"arguments": ["compare"], "folder": 1}', b'{"arguments": []}'),
        b'{"arguments": ["\\ud800"], "folder": "/"}',
    ],
)
def test_a_damaged_command(run: Path, damage: bytes) -> None:
    (run / "command.json").write_bytes(damage)
    told(lambda: read_command(run), "command.json is damaged: ", "start a new run")
    told(lambda: RunDirectory(run, resume=True), "command.json is damaged: ")


@pytest.mark.parametrize(
    "damage",
    [
        b'file,label,top1,confidence\n"a.png",1,2\n',
        b'file,label,top1,confidence\n"a.png",1,two,0.5\n',
        b'file,label,top1,confidence\n"a.png",1,99999999999,0.5\n',
        b'file,label,top1,confidence\n"a.png",1,2,half\n',
        b'file,label\n"a.png",1\n',
        b"file,label,top1,confidence\n\xff,1,2,0.5\n",
    ],
)
def test_damaged_predictions_are_not_gone_on_with(tmp_path: Path, damage: bytes) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.append_predictions("row", ["a.png"], [(1,)], Predictions.unanswered(1, 1), {})
    file = directory.path / "predictions" / "row.csv"
    file.write_bytes(damage)
    told(lambda: directory.read_predictions("row", ["a.png"], 1), f"{file} is damaged: ")
    assert file.read_bytes() == damage


NAMES = ["result.json", "samples.csv", "conditions.csv", "predictions/ort-int8.csv", "command.json"]


@pytest.fixture
def instead(run: Path) -> Iterator[Callable[[str, str], Path]]:
    """Put something else in the place of a file of the run."""

    def put(name: str, what: str) -> Path:
        file = run / name
        file.unlink(missing_ok=True)
        match what:
            case "a folder":
                file.mkdir()
            case "a pipe":
                os.mkfifo(file)
            case "a device":
                file.symlink_to("/dev/zero")
            case "a loop":
                file.symlink_to(file.name)
        return file

    yield put


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a device", "a loop"])
@pytest.mark.parametrize("name", NAMES)
def test_something_else_in_the_place_of_a_file(run: Path, instead: Any, name: str, what: str) -> None:
    file = instead(name, what)
    words = (str(file), "Too many levels" if what == "a loop" else "is not a file")
    read = {"command.json": read_command, "conditions.csv": every_block}.get(name, read_side)
    told(lambda: read(run), *words)


def test_one_damaged_run_is_skipped_by_history_and_said_once(tmp_path: Path) -> None:
    for day in range(1, 7):
        write_usual_run(tmp_path / f"run-{day}", created=f"2026-11-0{day}T12:00:00+00:00")
    (tmp_path / "run-2" / "samples.csv").write_bytes(b"\xff\n")
    (tmp_path / "run-4" / "result.json").write_bytes(b"[" * 100_000)
    (tmp_path / "run-5" / "predictions" / "ort-int8.csv").write_bytes(b"file,label,top1\na\n")
    (tmp_path / "run-6" / "result.json").unlink()
    (tmp_path / "run-6" / "result.json").mkdir()
    found = history(tmp_path)
    assert len(found.skipped) == len(set(found.skipped))
    for name in ("run-2/samples.csv", "run-4/result.json", "run-5/predictions"):
        assert sum(name in sentence for sentence in found.skipped) == 1
    assert {point.run for point in found.points} == {"run-1", "run-2", "run-3", "run-5"}


def test_every_command_tells_it_in_one_line(rtbench: Callable[..., Any], run: Path) -> None:
    shutil.copytree(run, run.parent / "whole")
    (run / "result.json").write_bytes(b"[" * 100_000)
    (run / "command.json").write_bytes(b"{")
    (run.parent / "one.fake").write_text("{}")
    for arguments in (
        ["report", run],
        ["diff", run, "whole"],
        ["diff", "whole", run],
        ["compare", "--resume", run],
        ["compare", "one.fake", "--against", run, "--out", "new"],
        ["gpu-check", run],
        ["report", "/dev/null"],
        ["report", "x" * 300],
        ["diff", "x" * 300, "whole"],
        ["history", "x" * 300],
        ["compare", "--resume", "x" * 300],
        ["compare", "one.fake", "--out", "x" * 300],
        ["compare", "one.fake", "--against", "x" * 300, "--out", "new"],
    ):
        done = rtbench(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), (arguments, done.stderr)
        assert done.stderr.startswith("rtbench: ")
    assert not (run.parent / "new").exists()


def test_a_run_without_rows_is_shown(run: Path) -> None:
    file = run / "result.json"
    file.write_bytes(result(rows=[])(file.read_bytes()))
    record = read_run(run)
    assert "Nothing to ship" in render_markdown(record)
    assert "Nothing to ship" in render_html(record, read_evidence(run, record))


def test_a_run_without_its_baseline_is_shown(run: Path) -> None:
    file = run / "result.json"
    file.write_bytes(result(baseline=None)(file.read_bytes()))
    record = read_run(run)
    assert any(row.scores for row in record.rows)
    assert "Scores against the baseline" not in render_html(record, read_evidence(run, record))
