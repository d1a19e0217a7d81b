"""`samples.csv`, the raw samples of every row in the order measured, and `conditions.csv`, a line a block: what the
machine did meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.conditions import GpuReading, Seen
from rtbench.measure.rounds import Block, counted_blocks, last_attempts
from rtbench.runs.csv_lines import line_of, whole_lines

SAMPLES, CONDITIONS = "samples.csv", "conditions.csv"
SAMPLE_COLUMNS = (
    *("row", "round", "attempt", "process", "position"),
    *("start_ns", "duration_ns", "device_ms", "disturbed"),
)
SEEN = ("wall_s", "other_s", "waited_s", "stolen_s", "throttled_s", "cpu_mhz", "temperature_c")
GPU_SEEN = ("gpu_sm_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_slowdowns", "gpu_other_processes")
CONDITION_COLUMNS = ("row", "round", "attempt", *SEEN, *GPU_SEEN)


def read_samples(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """The samples that the figures of a run directory are made of: for each row its rounds, in milliseconds."""
    return {row: [block.ms for block in blocks] for row, blocks in read_blocks(path).items()}


def read_blocks(path: Path) -> dict[str, list[Block]]:
    """The same as blocks, which say in which process each was timed, and when.

    Of a round that was repeated the last attempt, and no disturbed rounds where enough others are there.
    """
    return counted_blocks(last_attempts(every_block(path)))


def every_block(path: Path) -> list[Block]:
    """All blocks of a run directory in the order measured, disturbed ones too; none without the file."""
    grouped: dict[tuple[str, int, int, int, int], list[dict[str, str]]] = {}
    for line in whole_lines(path / SAMPLES):
        # earlier versions had one process and one attempt, no device_ms, and did not say what was disturbed
        numbers = (int(line.get(name) or 0) for name in ("round", "attempt", "process", "position"))
        grouped.setdefault((line["row"], *numbers), []).append(line)  # type: ignore[arg-type]
    seen = _read_seen(path)
    return [
        Block(
            *key,
            np.array([line["start_ns"] for line in lines], dtype=np.int64),
            np.array([line["duration_ns"] for line in lines], dtype=np.int64),
            np.array([line.get("device_ms") or "nan" for line in lines], dtype=np.float64),
            seen.get(key[:3]),
            lines[0].get("disturbed") or "",
        )
        for key, lines in grouped.items()
    ]


def _read_seen(path: Path) -> dict[tuple[str, int, int], Seen]:
    found = {}
    for line in whole_lines(path / CONDITIONS):
        numbers = {name: float(line[name]) for name in SEEN if line[name]}
        gpu = None
        if line["gpu_sm_mhz"]:
            gpu = GpuReading(
                sm_mhz=int(line["gpu_sm_mhz"]),
                temperature_c=int(line["gpu_temperature_c"]),
                power_w=float(line["gpu_power_w"]),
                slowdowns=frozenset(filter(None, line["gpu_slowdowns"].split(";"))),
                other_processes=int(line["gpu_other_processes"]),
            )
        found[line["row"], int(line["round"]), int(line["attempt"])] = Seen(**numbers, gpu=gpu)
    return found


def sample_lines(blocks: Iterable[Block]) -> str:
    return "".join(
        line_of(
            (
                *(block.row, block.round, block.attempt, block.process, block.position, start, duration),
                "" if np.isnan(on_device) else repr(on_device),
                block.disturbed,
            )
        )
        for block in blocks
        for start, duration, on_device in zip(
            block.starts_ns.tolist(), block.durations_ns.tolist(), block.device_ms.tolist(), strict=True
        )
    )


def condition_line(block: Block) -> str:
    seen, gpu = block.seen, block.seen.gpu if block.seen else None
    if seen is None:
        return ""
    numbers = (getattr(seen, name) for name in SEEN)
    on_gpu: tuple[object, ...] = ("",) * len(GPU_SEEN)
    if gpu:
        slowdowns = ";".join(sorted(gpu.slowdowns))
        on_gpu = (gpu.sm_mhz, gpu.temperature_c, gpu.power_w, slowdowns, gpu.other_processes)
    cells = ("" if each is None else f"{each:.6g}" for each in numbers)
    return line_of((block.row, block.round, block.attempt, *cells, *on_gpu))
