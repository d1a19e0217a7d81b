"""conditions.csv: what the machine did in every block comes back as it was written, wherever the file is cut."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from rtbench.measure.conditions import GpuReading, Seen, summarise_conditions
from rtbench.measure.rounds import Block, last_attempts
from rtbench.runs.directory import RunDirectory
from rtbench.runs.samples import CONDITION_COLUMNS, every_block, read_blocks

GPU = GpuReading(sm_mhz=1590, temperature_c=81, power_w=68.5, slowdowns=frozenset({"power cap"}), other_processes=2)
READINGS = [
    Seen(0.25),
    Seen(0.25, 0.125, 0.0625, 0.02, 1.5, cpu_mhz=2399.5, temperature_c=61.5),
    Seen(0.25, gpu=GPU),
    Seen(0.25, gpu=replace(GPU, slowdowns=frozenset({"power cap", "hardware slowdown"}), other_processes=0)),
    Seen(0.25, gpu=replace(GPU, slowdowns=frozenset())),
    None,
]


def block(number: int, seen: Seen | None, *, row: str = "a, model/ort/int8", attempt: int = 0) -> Block:
    starts = 10**9 * (number + 1) + np.arange(3)
    return Block(row, number, attempt, 0, 0, starts, np.array([7, 8, 9]), np.full(3, np.nan), seen)


def test_conditions_come_back_as_they_were(directory: RunDirectory) -> None:
    for number, seen in enumerate(READINGS):
        directory.append_samples(block(number, seen))
    assert [each.seen for each in every_block(directory.path)] == READINGS
    with (directory.path / "conditions.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header == list(CONDITION_COLUMNS)
    assert len(lines) == len(READINGS) - 1  # a line a block of which something was seen
    assert {len(line) for line in lines} == {len(header)}


def test_each_attempt_has_its_own(directory: RunDirectory) -> None:
    busy, quiet = Seen(0.25, 0.4), Seen(0.25, 0.001)
    directory.append_samples(replace(block(0, busy), disturbed="other processes"))
    directory.append_samples(block(0, quiet, attempt=1))
    assert [(each.attempt, each.seen, each.disturbed) for each in every_block(directory.path)] == [
        (0, busy, "other processes"),
        (1, quiet, ""),
    ]
    (last,) = last_attempts(every_block(directory.path))["a, model/ort/int8"].values()
    assert last.seen == quiet
    (counted,) = read_blocks(directory.path)["a, model/ort/int8"]  # of which nothing is read but the samples
    assert (counted.attempt, counted.seen) == (1, None)


def test_six_digits_are_kept(directory: RunDirectory) -> None:
    seen = Seen(1 / 3, 1e-9 / 7, cpu_mhz=2799.99871, temperature_c=200 / 3)
    directory.append_samples(block(0, seen))
    (read,) = every_block(directory.path)
    assert read.seen is not None
    for name in ("wall_s", "other_s", "cpu_mhz", "temperature_c"):
        assert getattr(read.seen, name) == pytest.approx(getattr(seen, name), rel=1e-5)
    assert summarise_conditions([read.seen]).cpu_mhz == (2800.0, 2800.0)


def test_a_run_without_the_file_has_no_conditions(directory: RunDirectory) -> None:
    directory.append_samples(block(0, READINGS[1]))
    (directory.path / "conditions.csv").unlink()
    (read,) = every_block(directory.path)
    assert read.seen is None


def test_a_file_cut_anywhere_is_gone_on_with(directory: RunDirectory) -> None:
    """A kill falls between a block's conditions and its samples, or in the middle of either; then it is timed again."""
    for number, seen in enumerate(READINGS[:4]):
        directory.append_samples(block(number, seen))
    samples, conditions = directory.path / "samples.csv", directory.path / "conditions.csv"
    last = samples.read_bytes().rindex(b'"a, model/ort/int8",3,0,0,0,4000000000,')
    whole, kept = conditions.read_bytes(), samples.read_bytes()[:last]
    start = whole.index(b'"a, model/ort/int8",3')
    for keep in range(start, len(whole) + 1):
        conditions.write_bytes(whole[:keep])
        samples.write_bytes(kept)
        directory.take_samples(lambda _: 3)
        directory.append_samples(block(3, READINGS[3]))
        directory.append_samples(block(4, READINGS[4]))
        assert [each.seen for each in every_block(directory.path)] == READINGS[:5], keep
