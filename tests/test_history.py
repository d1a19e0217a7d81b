"""All runs under a folder: in order, with the changes that are real, and computed once."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_runs import rewrite, write_usual_run
from rich.console import Console

from rtbench.errors import UsageError
from rtbench.records.run import Cpu
from rtbench.report.trends import render_history
from rtbench.review import history as module
from rtbench.review.history import INDEX, History, history
from rtbench.runs.result import read_run
from rtbench.worker import Worker


@pytest.fixture
def folder(tmp_path) -> Path:
    for day, slower in enumerate((1.0, 1.002, 1.2), start=1):
        write_usual_run(tmp_path / f"run-{day}", slower=slower, created=f"2026-11-{day:02}T12:00:00+00:00")
    return tmp_path


def marks(found: History) -> dict[str, dict[str, bool]]:
    return {
        point.run: {figure: point.better[figure] for figure in point.change}
        for point in found.points
        if point.row == "ort/int8"
    }


def test_changes_are_marked_where_they_happened(folder):
    found = history(folder)
    assert marks(found) == {"run-1": {}, "run-2": {}, "run-3": {"latency": False}}
    change = next(each.change for each in found.points if each.run == "run-3" and each.row == "ort/int8")
    before, after = (
        next(row.latency.p50_ms for row in read_run(folder / run).rows if row.id == "ort/int8")
        for run in ("run-2", "run-3")
    )
    assert change["latency"] == pytest.approx(after / before - 1)


def test_figures_are_those_of_the_runs_in_the_order_of_time(folder):
    (folder / "run-1").rename(folder / "z-oldest")
    (folder / "run-2").rename(folder / "deep")
    points = history(folder).points
    assert list(dict.fromkeys(point.run for point in points)) == ["z-oldest", "deep", "run-3"]
    for point in points:
        row = next(row for row in read_run(folder / point.run).rows if row.id == point.row)
        assert point.p50_ms == (row.latency.p50_ms if row.latency else None)
        assert point.top1 == (row.accuracy.top1 if row.accuracy else None)
        assert point.status == row.status


def test_runs_of_other_machines_and_models_are_not_compared(folder):
    run = read_run(folder / "run-3")
    environment = run.environment.model_copy(update={"threads": 1})
    (folder / "run-3" / "result.json").write_text(run.model_copy(update={"environment": environment}).model_dump_json())
    assert marks(history(folder))["run-3"] == {}


def test_runs_of_cpus_of_one_name_are_not_compared(folder):
    """The same name, cores and threads, and another model of CPU."""
    for run, model in (("run-2", "1"), ("run-3", "17")):
        cpu = Cpu(vendor="AuthenticAMD", family="25", model=model, stepping="1", microcode=None, flags=[])
        rewrite(folder / run, environment=read_run(folder / run).environment.model_copy(update={"cpu_details": cpu}))
    found = history(folder)
    assert marks(found)["run-3"] == {}
    assert len({point.machine for point in found.points}) == 3


def test_what_is_no_run_is_skipped_and_said(folder):
    (folder / "damaged").mkdir()
    (folder / "damaged" / "result.json").write_text("{")
    found = history(folder)
    assert len(found.skipped) == 1
    assert "damaged" in found.skipped[0]
    assert len({point.run for point in found.points}) == 3


def test_diffs_are_kept_and_made_again_when_a_run_changes(folder, monkeypatch):
    import rtbench.review.history as module

    computed = []
    real = module.diff
    monkeypatch.setattr(module, "diff", lambda *sides: computed.append(sides) or real(*sides))
    first = history(folder)
    assert len(computed) == 2
    assert history(folder) == first
    assert len(computed) == 2
    samples = folder / "run-3" / "samples.csv"
    samples.write_text(samples.read_text().replace("ort/int8", "ort/gone"))
    again = history(folder)
    assert len(computed) == 3
    assert marks(again)["run-3"] == {}


def test_a_change_of_answers_is_seen(folder):
    assert marks(history(folder))["run-2"] == {}
    path = folder / "run-2" / "predictions" / "ort-int8.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{line.split(',')[0]},99,0,1" for line in lines)]) + "\n")
    assert marks(history(folder))["run-2"] == {"accuracy": False}


def test_a_run_is_compared_with_the_one_before_it_whatever_comes_and_goes(folder):
    whole = history(folder)
    first, second = ((folder / run / "result.json", folder / run / "away.json") for run in ("run-1", "run-2"))
    second[0].rename(second[1])
    change = next(each.change for each in history(folder).points if each.run == "run-3" and each.row == "ort/int8")
    assert change["latency"] == pytest.approx(0.2, abs=0.01)
    first[0].rename(first[1])
    assert marks(history(folder)) == {"run-3": {}}
    for there, away in (first, second):
        away.rename(there)
    assert history(folder) == whole


def damages(index: Path) -> Iterator[bytes]:
    whole = index.read_bytes()
    yield b""
    yield b"no index\n" * 100
    yield b"\xff" * 100
    yield whole[: len(whole) // 2]
    yield whole.replace(b"run-3", b"run-9")
    other = b'{"runs": {"run-1": 3}}'
    yield hashlib.sha256(other).hexdigest().encode() + b"\n" + other
    for at in range(0, len(whole), len(whole) // 50):
        yield whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def test_a_damaged_index_is_made_again(folder):
    expected = history(folder)
    whole = (folder / INDEX).read_bytes()
    for damaged in damages(folder / INDEX):
        (folder / INDEX).write_bytes(damaged)
        assert history(folder) == expected
        assert (folder / INDEX).read_bytes() == whole


def test_an_index_that_cannot_be_written_is_done_without(folder):
    (folder / INDEX).mkdir()
    assert marks(history(folder))["run-3"] == {"latency": False}
    assert list((folder / INDEX).iterdir()) == []
    assert not list(folder.glob("*.partial"))


def test_one_damaged_run_leaves_the_others(folder):
    """Its figures are those of its record, and the runs after it are compared where they can be."""
    write_usual_run(folder / "run-4", created="2026-11-04T12:00:00+00:00")
    (folder / "run-2" / "samples.csv").write_text("row,round\n0,0\n")
    for _ in range(2):  # the second time from the index
        found = history(folder)
        assert marks(found) == {"run-1": {}, "run-2": {}, "run-3": {}, "run-4": {"latency": True}}
        assert len(found.skipped) == 1
        assert "run-2/samples.csv is damaged" in found.skipped[0]


def test_two_histories_at_once_do_each_other_no_harm(rtbench, folder):
    expected = history(folder)
    (folder / INDEX).unlink()
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: rtbench("history", folder, "--format", "json"), range(3)))
    assert [each.stderr for each in done] == [""] * 3
    assert [History.model_validate_json(each.stdout) for each in done] == [expected] * 3
    assert history(folder) == expected


@pytest.mark.parametrize("harm", ["none", "a reader that is killed", "no reader at all"])
def test_many_runs_are_read_side_by_side_to_the_same_end(folder, monkeypatch, harm):
    for place, name in (("run-2", "a-second"), ("run-1", "z-first")):  # not in the order of time
        (folder / place).rename(folder / name)
    for day, name in ((4, "b"), (5, "y"), (6, os.fsdecode(b"caf\xe9"))):
        write_usual_run(folder / name, slower=1 + day / 20, created=f"2026-11-{day:02}T12:00:00+00:00")
    for name, file in (("b", "samples.csv"), ("bad", "result.json")):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_text("row,round\nno samples")
    alone, index = history(folder), (folder / INDEX).read_bytes()
    assert len(alone.skipped) == 2
    (folder / INDEX).unlink()

    monkeypatch.setattr(module, "MANY", 2)
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    started, begin = [], Worker.begin

    def note(self, *call):
        started.append(self.pid)
        begin(self, *call)
        if harm == "a reader that is killed" and len(started) == 2:
            self.kill()

    monkeypatch.setattr(Worker, "begin", note)
    if harm == "no reader at all":
        monkeypatch.setattr(module, "READER", "rtbench.review.gone:Reader")
    assert history(folder) == alone
    assert (folder / INDEX).read_bytes() == index
    assert len(started) == 2
    assert history(folder) == alone
    assert len(started) == 2  # what is kept needs none


def test_a_name_that_is_no_text_is_shown(folder):
    (folder / "run-3").rename(folder / os.fsdecode(b"caf\xe9"))
    for _ in range(2):
        assert marks(history(folder))["caf\\xe9"] == {"latency": False}


def test_a_folder_without_runs_is_told(tmp_path, rtbench):
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="there are no runs under"):
        history(tmp_path / "runs")
    done = rtbench("history", tmp_path / "missing")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_is_the_golden_one(folder, golden, width):
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(render_history(history(folder)))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width
    golden(f"history-{width}.txt", "\n".join(lines) + "\n")


def test_the_command_gives_every_format(rtbench, folder, tmp_path):
    table = rtbench("history", folder)
    assert "latency +19.8 % worse" in table.stdout
    page = rtbench("history", folder, "--format", "html", "--output", tmp_path / "history.html")
    assert page.returncode == 0, page.stderr
    assert "run-3" in (tmp_path / "history.html").read_text()
    assert History.model_validate_json(rtbench("history", folder, "--format", "json").stdout) == history(folder)
    assert json.loads(rtbench("history", ".", "--format", "json", cwd=folder).stdout)["folder"] == "."
