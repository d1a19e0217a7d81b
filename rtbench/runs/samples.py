"""`samples.csv`: the raw samples of every row, in the order measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.latency import Block
from rtbench.runs.csv_lines import line_of, whole_lines

SAMPLES = "samples.csv"

SAMPLE_COLUMNS = ("row", "round", "process", "position", "start_ns", "duration_ns", "device_ms", "yardstick_ms")


def read_samples(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """The raw samples of a run directory: for each row its rounds, in milliseconds."""
    return {row: [block.ms for block in blocks] for row, blocks in read_blocks(path).items()}


def read_blocks(path: Path) -> dict[str, list[Block]]:
    """The raw samples of a run directory as they were measured: for each row its blocks, in order."""
    blocks: dict[str, list[Block]] = {}
    for block in blocks_in(path / SAMPLES):
        blocks.setdefault(block.row, []).append(block)
    return blocks


def blocks_in(path: Path) -> list[Block]:
    """Blocks in the order measured, none without the file."""
    grouped: dict[tuple[str, int, int, int], list[dict[str, str]]] = {}
    for line in whole_lines(path):
        process = line.get("process", "0")  # earlier versions had one, no device_ms and no yardstick
        key = (line["row"], int(line["round"]), int(process), int(line["position"]))
        grouped.setdefault(key, []).append(line)
    return [
        Block(
            *key,
            np.array([line["start_ns"] for line in lines], dtype=np.int64),
            np.array([line["duration_ns"] for line in lines], dtype=np.int64),
            np.array([line.get("device_ms") or "nan" for line in lines], dtype=np.float64),
            float(lines[0].get("yardstick_ms") or "nan"),
        )
        for key, lines in grouped.items()
    ]


def sample_lines(block: Block) -> str:
    device = ("" if np.isnan(each) else repr(each) for each in block.device_ms.tolist())
    yardstick = "" if np.isnan(block.yardstick_ms) else repr(block.yardstick_ms)
    return "".join(
        line_of((block.row, block.round, block.process, block.position, start, duration, on_device, yardstick))
        for start, duration, on_device in zip(
            block.starts_ns.tolist(), block.durations_ns.tolist(), device, strict=True
        )
    )
