"""Damaged files of a run directory: `report`, `diff`, `history` and `--resume` read them or refuse in a sentence."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN
from judge import INPUTS, SEED, judge
from made_runs import bad_row, made_answers, made_blocks, made_row, made_run, scored, seed, write_run
from mutate import mutations

from rtbench.measure.rounds import Block
from rtbench.report.changes import render_diff, render_diff_json, render_diff_markdown
from rtbench.report.console import plain_text
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.report.table import render_table
from rtbench.report.tidy_csv import render_csv
from rtbench.report.trends import render_history, render_history_page
from rtbench.review.diff import diff
from rtbench.review.gate import judge as hold_to_budgets
from rtbench.review.gpu_check import judge_gpu_run
from rtbench.review.history import history
from rtbench.review.sides import Side, read_side
from rtbench.runs.directory import RunDirectory, read_command
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block

ROWS = {"torch/fp32": 20.0, "ort/int8": 6.0}
DAYS = [f"2026-11-0{day}T12:00:00+00:00" for day in (1, 2, 3)]


def write_small_run(path: Path, created: str = DAYS[0]) -> None:
    """Two rows of six rounds of three runs, one of which failed; predictions of 24 images."""
    blocks: dict[str, list[Block]] = {}
    for position, (row, mean_ms) in enumerate(ROWS.items()):
        blocks[row] = [
            replace(
                block, starts_ns=block.starts_ns[:3], durations_ns=block.durations_ns[:3], device_ms=block.device_ms[:3]
            )
            for block in made_blocks(row, position, mean_ms, seed(row))[:6]
        ]
    made = [made_row(row, mean_ms, range(0, 400, 8 - position)) for position, (row, mean_ms) in enumerate(ROWS.items())]
    rows, comparisons = scored([*made, bad_row("trt/fp16", "failed", "exploded")], blocks)
    write_run(
        path, made_run(rows, comparisons=comparisons, created=created), blocks, {row: made_answers([1]) for row in ROWS}
    )
    for file in (path / "predictions").iterdir():
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:25]))
    (path / "conditions.csv").write_text(CONDITIONS)
    (path / "command.json").write_text(json.dumps({"arguments": ["compare", "a.pt", "--runs", "5"], "folder": "/tmp"}))


CONDITIONS = (
    "row,round,attempt,wall_s,other_s,waited_s,stolen_s,throttled_s,cpu_mhz,temperature_c,gpu_sm_mhz,gpu_temperature_c,"
    "gpu_power_w,gpu_slowdowns,gpu_other_processes\n"
    "ort/int8,0,0,0.5,0.1,0,0.02,0,2400,61.5,1590,80,68.5,power cap;heat,0\n"
    "torch/fp32,0,0,0.5,0,0,0,0,,,,,,,\n"
)


@functools.cache
def place() -> Path:
    """A folder of this process's own, with whole runs and one to be damaged."""
    folder = Path(tempfile.mkdtemp(prefix="rtbench-fuzz-"))
    for name, created in zip(("whole", "damaged", "last"), DAYS, strict=True):
        write_small_run(folder / "runs" / name, created)
    return folder


@functools.cache
def whole() -> Side:
    return read_side(place() / "runs" / "whole")


def read_file(name: str, data: bytes) -> None:
    """Everything that is read of a run of which one file holds `data`."""
    folder = place() / "runs" / "damaged"
    kept = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(data)
        if name == "command.json":
            read_command(folder)
            RunDirectory(folder, resume=True)
        elif name == "conditions.csv":
            every_block(folder)
        else:
            show(folder)
    finally:
        (folder / name).write_bytes(kept)


def show(folder: Path) -> None:
    run = read_run(folder)
    texts = [plain_text(render_table(run)), render_markdown(run), render_csv(run)]
    judge_gpu_run(run)
    render_html(run, read_evidence(folder, run)).encode()
    for sides in ((whole(), read_side(folder)), (read_side(folder), whole())):
        found = diff(*sides)
        gate = hold_to_budgets(found, {"latency": 0.05, "accuracy": 0.01, "size": 0.01})
        texts += [plain_text(render_diff(found, gate)), render_diff_markdown(found, gate)]
        render_diff_json(found, gate).encode()
    for text in texts:
        text.encode()
        assert text.replace("\n", "").isprintable()


def read_history(name: str, data: bytes) -> None:
    """A history in which one run is damaged is never refused, and has the others."""
    folder = place() / "runs"
    file = folder / "damaged" / name
    kept = file.read_bytes()
    try:
        file.write_bytes(data)
        found = history(folder)
        if {"whole", "last"} - {point.run for point in found.points}:
            raise AssertionError("a whole run is missing")
        plain_text(render_history(found)).encode()
        render_history_page(found).encode()
    finally:
        file.write_bytes(kept)


VALUES: Sequence[Any] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63 - 1,
        -(2**63),
        10**30,
        0.0,
        -0.0,
        0.5,
        1.5,
        -1e-9,
        1e308,
        -1e308,
        5e-324,
    ),
    *(float("nan"), float("inf"), "", "x", "\x1b[31m\n\u202e", "[/red]", "\ud800", "1", "A" * 5000, "../../x", "=1+1"),
    *([], {}, [[]], [None], [1, 2], {"a": 1}, "DEEP"),
)


def value_mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """JSON of which one to three values are replaced, left out, doubled or swapped with others."""
    chooser = random.Random(seed)
    for _ in range(count):
        data = json.loads(chooser.choice(seeds))
        for _ in range(chooser.choice((1, 1, 2, 3))):
            places = [*_places(data)]
            if not places:  # everything was left out
                break
            within, key = chooser.choice(places)
            other, its = chooser.choice(places)
            match chooser.randrange(8):
                case 0 if isinstance(within, dict):
                    del within[key]
                case 0 | 1 if isinstance(within, list):
                    within.insert(key, within[key])
                case 2:
                    within[key] = json.loads(json.dumps(other[its]))
                case _:
                    within[key] = chooser.choice(VALUES)
            data = json.loads(json.dumps(data))  # no value is in two places
        yield json.dumps(data).replace('"DEEP"', "[" * 50_000).encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object and index or key in it."""
    for key in [*data] if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from _places(data[key])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "run"
    write_small_run(path)
    return path


def first_result() -> bytes:
    return (GOLDEN / "first-result.json").read_bytes()


@pytest.mark.parametrize(
    "name", ["result.json", "samples.csv", "conditions.csv", "predictions/ort-int8.csv", "command.json"]
)
def test_a_damaged_file_of_a_run(made: Path, name: str) -> None:
    seeds = [(made / name).read_bytes()] + ([first_result()] if name == "result.json" else [])
    tally = judge(f"run {name}", functools.partial(read_file, name), mutations(seeds, INPUTS, SEED))
    assert not tally.faults, str(tally)
    assert min(tally.ok, tally.refused) > 0


@pytest.mark.parametrize("name", ["result.json", "command.json"])
def test_json_with_other_values(made: Path, name: str) -> None:
    seeds = [(made / name).read_bytes()] + ([first_result()] if name == "result.json" else [])
    tally = judge(f"run {name} by value", functools.partial(read_file, name), value_mutations(seeds, INPUTS, SEED))
    assert not tally.faults, str(tally)
    assert min(tally.ok, tally.refused) > 0


@pytest.mark.parametrize("name", ["result.json", "samples.csv", "predictions/ort-int8.csv"])
def test_a_history_with_a_damaged_run(made: Path, name: str) -> None:
    seeds = [(made / name).read_bytes()]
    inputs = mutations(seeds, INPUTS // 2, SEED)
    if name == "result.json":
        inputs = chain(inputs, value_mutations(seeds, INPUTS // 2, SEED))
    tally = judge(f"history {name}", functools.partial(read_history, name), inputs)
    assert not tally.faults, str(tally)
    assert tally.refused == 0
