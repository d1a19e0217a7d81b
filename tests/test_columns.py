"""Samples kept as columns too: the same samples, of this very CSV file, or the CSV file is read."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN
from made_runs import changed, made_blocks, write_usual_run

from rtbench.errors import UsageError
from rtbench.measure.rounds import Block
from rtbench.review.sides import read_side
from rtbench.runs import columns
from rtbench.runs.directory import RunDirectory
from rtbench.runs.samples import SAMPLES, every_block, read_blocks, read_durations, read_samples, sample_lines

ROWS = ("ort:cpu/int8", "a, model/torch/fp32", 'the "other"/ort/fp32', "two\nlines/ort/fp32")


def written(directory: RunDirectory, count: int = 4) -> list[Block]:
    generator = np.random.default_rng(3)
    blocks = [
        Block(
            row,
            number,
            number % 2,
            number // 2,
            position,
            generator.integers(2**53, 2**62, 3 + number % 2),
            generator.integers(1, 10**9, 3 + number % 2),
            generator.choice([np.nan, 1 / 3, 2e-9], 3 + number % 2),
            disturbed="other processes" if number == 1 else "",
        )
        for number in range(count)
        for position, row in enumerate(ROWS)
    ]
    for block in blocks:
        directory.append_samples(block)
    return blocks


def assert_same(found: list[Block], expected: list[Block]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("starts_ns", "durations_ns", "device_ms"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        emptied = [replace(each, starts_ns=None, durations_ns=None, device_ms=None) for each in (one, other)]
        assert emptied[0] == emptied[1]


def test_columns_hold_what_the_csv_file_does(directory: RunDirectory, monkeypatch) -> None:
    blocks = written(directory)
    assert_same(every_block(directory.path), blocks)
    columns.save_columns(directory.path / SAMPLES)
    monkeypatch.setattr(columns, "_parse", lambda path: pytest.fail(f"{path} was parsed"))
    assert_same(every_block(directory.path), blocks)


def test_columns_of_another_file_are_not_read(directory: RunDirectory) -> None:
    written(directory)
    columns.save_columns(directory.path / SAMPLES)
    path = directory.path / SAMPLES
    text = path.read_text()
    path.write_text(text.replace("other processes", "no others at al"))  # of the same size
    assert {block.disturbed for block in every_block(directory.path)} == {"", "no others at al"}
    path.write_text(text)
    more = replace(written(directory, 1)[0], round=9)
    directory.append_samples(more)
    assert every_block(directory.path)[-1].round == 9
    path.unlink()
    assert every_block(directory.path) == []


def test_columns_damaged_anywhere_are_not_read(directory: RunDirectory) -> None:
    blocks = written(directory, 2)
    columns.save_columns(directory.path / SAMPLES)
    path = directory.path / "samples.npz"
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert_same(every_block(directory.path), blocks)
    for keep in range(0, len(whole), 101):
        path.write_bytes(whole[:keep])
        assert_same(every_block(directory.path), blocks)
    path.unlink()
    path.mkdir()
    assert_same(every_block(directory.path), blocks)
    columns.save_columns(directory.path / SAMPLES)  # which must not fail for it


def test_lines_of_a_block_may_lie_apart(directory: RunDirectory) -> None:
    blocks = made_blocks("torch/fp32", 0, 2.0, 1)[:3] + made_blocks("ort/fp32", 1, 1.0, 2)[:3]
    header, *lines = ("".join((",".join(columns_of_file()), "\n", sample_lines(blocks)))).splitlines(keepends=True)
    lines = lines[::2] + lines[1::2]
    (directory.path / SAMPLES).write_text(header + "".join(lines))
    found = {(block.row, block.round): block for block in every_block(directory.path)}
    for block in blocks:
        again = found[block.row, block.round]
        order = np.argsort(again.starts_ns)
        np.testing.assert_array_equal(again.starts_ns[order], block.starts_ns)
        np.testing.assert_array_equal(again.durations_ns[order], block.durations_ns)


def columns_of_file() -> tuple[str, ...]:
    return ("row", *columns.KEY, *columns.TIMES)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_that_an_editor_has_saved_is_the_same(directory: RunDirectory, ending) -> None:
    blocks = [block for block in written(directory) if block.row != ROWS[-1]]
    text = ",".join(columns_of_file()) + "\n" + sample_lines(blocks) + "\n"
    (directory.path / SAMPLES).write_bytes(text.replace("\n", ending).encode())
    assert_same(every_block(directory.path), blocks)


def test_runs_of_the_first_version_are_read() -> None:
    rows = read_samples(GOLDEN / "run")
    lines = (GOLDEN / "run" / SAMPLES).read_text().splitlines()[1:]
    assert sum(len(each) for samples in rows.values() for each in samples) == len(lines)
    first = lines[0].split(",")
    assert rows[first[0]][0][0] == int(first[-1]) / 1e6


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(",0,0,0,0,", ",0,0,zero,0,", 1),
        lambda text: text.replace("duration_ns", "seconds"),
        lambda text: "\0" * 100 + "\n" + text,
        lambda text: text + "ort/fp32,1,0\n",
        lambda text: text + "ort/fp32,1,0,0,0,1,0,,\n",
        lambda text: text + f"ort/fp32,1,0,0,0,1,{2**70},,\n",
        lambda text: text + "ort/fp32,99999,0,0,0,1,1,,\nort/fp32,99999,0,0,0,1,\n",
    ],
)
def test_damaged_samples_are_told_in_a_sentence(tmp_path: Path, damage) -> None:
    write_usual_run(tmp_path / "run")
    path = tmp_path / "run" / SAMPLES
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError, match=r"samples\.csv is damaged: "):
        read_side(tmp_path / "run")
    path.write_bytes(b"row,\xff\n")
    with pytest.raises(UsageError, match=r"samples\.csv is damaged: "):
        read_side(tmp_path / "run")


def test_a_complete_comparison_keeps_columns(rtbench, tmp_path, ten_classes) -> None:
    model = tmp_path / "model.fake"
    model.write_text(json.dumps({"latency_ms": [1.0, 2.0]}))
    done = rtbench("compare", model, "--data", ten_classes, "--out", tmp_path / "run", "--runs", "50")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run" / SAMPLES
    kept = columns._load(path)
    assert kept is not None
    assert len(kept.durations_ns) == 50
    assert kept.rows == columns._parse(path).rows
    np.testing.assert_array_equal(kept.keys, columns._parse(path).keys)


def test_a_side_of_a_diff_takes_few_bytes_a_sample(directory: RunDirectory) -> None:
    """A reader that makes objects of lines takes some 600."""
    samples = 100_000
    write_usual_run(directory.path / "run")
    blocks = [
        replace(block, starts_ns=np.resize(block.starts_ns, 1250), durations_ns=np.resize(block.durations_ns, 1250))
        for row in ("torch/fp32", "ort/fp32", "ort/fp16", "ort/int8")
        for block in made_blocks(row, 0, 2.0, 1)
    ]
    blocks = [replace(block, device_ms=np.full(1250, np.nan)) for block in blocks]
    path = directory.path / "run" / SAMPLES
    path.write_text(",".join(columns_of_file()) + "\n" + sample_lines(blocks))
    for _ in range(2):
        tracemalloc.start()
        try:
            side = read_side(directory.path / "run")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(side.medians[0]) == 4
        assert peak < 150 * samples
        columns.save_columns(path)
    assert changed(directory.path / "run", directory.path / "run")["ort/int8"].latency.change == 0


def test_a_row_without_a_last_attempt_has_no_samples(directory: RunDirectory) -> None:
    """As in a file that says so of a row's only round, when another row's was repeated."""
    for row, attempt in (("torch/fp32", 7), ("ort/int8", 0)):
        directory.append_samples(Block(row, 0, attempt, 0, 0, *np.full((2, 3), 5), np.full(3, np.nan), disturbed=""))
    assert list(read_blocks(directory.path)) == list(read_durations(directory.path)) == ["torch/fp32"]


@pytest.mark.parametrize("seed", range(20))
def test_durations_are_those_of_the_blocks(directory: RunDirectory, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for number in range(generator.integers(1, 12)):
        for attempt in range(generator.integers(1, 3)):
            for position, row in enumerate(ROWS):
                if generator.random() < 0.8:
                    times = generator.integers(1, 10**9, (2, generator.integers(1, 5)))
                    disturbed = "other processes" if generator.random() < 0.2 else ""
                    nan = np.full(times.shape[1], np.nan)
                    block = Block(row, number, attempt, number // 4, position, *times, nan, disturbed=disturbed)
                    directory.append_samples(block)
    found, expected = read_durations(directory.path), read_blocks(directory.path)
    assert [*found] == [*expected]
    for row, blocks in expected.items():
        sizes = [len(block.ms) for block in blocks]
        np.testing.assert_array_equal(found[row].ms, np.concatenate([[], *(block.ms for block in blocks)]))
        np.testing.assert_array_equal(found[row].process, np.repeat([block.process for block in blocks], sizes))
        assert [len(list(each)) for _, each in itertools.groupby(found[row].block)] == sizes
