"""`samples.csv`, the raw samples of every row in the order measured, and `conditions.csv`, a line a block: what the
machine did meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.conditions import GpuReading, Seen
from rtbench.measure.rounds import Block, counted_blocks, last_attempts
from rtbench.runs.columns import KEY, TIMES, read_columns
from rtbench.runs.csv_lines import line_of, whole_lines
from rtbench.runs.reading import parsing

SAMPLES, CONDITIONS = "samples.csv", "conditions.csv"
SAMPLE_COLUMNS = ("row", *KEY, *TIMES)
SEEN = ("wall_s", "other_s", "waited_s", "stolen_s", "throttled_s", "cpu_mhz", "temperature_c")
GPU_SEEN: dict[str, Callable[[str], Any]] = {
    "sm_mhz": int,
    "temperature_c": int,
    "power_w": float,
    "slowdowns": lambda text: frozenset(text.split(";")),
    "other_processes": int,
    "lead_mhz": int,
    "chosen_clock": lambda text: text == "True",
}
"""What is seen of a GPU, and how each is read."""
CONDITION_COLUMNS = ("row", "round", "attempt", *SEEN, *(f"gpu_{name}" for name in GPU_SEEN))


def read_samples(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """The samples that the figures of a run directory are made of: for each row its rounds, in milliseconds."""
    return {row: [block.ms for block in blocks] for row, blocks in read_blocks(path).items()}


def read_blocks(path: Path) -> dict[str, list[Block]]:
    """The same as blocks, which say in which process each was timed, and when, but not what the machine did meanwhile.

    Of a round that was repeated the last attempt, and no disturbed rounds where enough others are there. A row that has
    none of these is left out.
    """
    counted = counted_blocks(last_attempts(_blocks(path, {})))
    return {row: blocks for row, blocks in counted.items() if blocks}


@dataclass(frozen=True)
class Durations:
    """The samples that a row's figures are made of, in milliseconds, and of each its process and its block's number."""

    ms: NDArray[np.float64]
    process: NDArray[np.int64]
    block: NDArray[np.int64]


def read_durations(path: Path) -> dict[str, Durations]:
    """What `read_blocks` gives, without a block of its own for every ten samples: of millions, in a second."""
    found = read_columns(path / SAMPLES)
    code, numbers, attempt, process, _ = found.keys.T
    rounds, at = np.unique(numbers, return_inverse=True)
    last = np.zeros(len(rounds), dtype=np.int64)
    np.maximum.at(last, at, attempt)
    current = attempt == last[at]
    disturbed = np.array([bool(each) for each in found.disturbed], dtype=bool)
    calm = ~np.isin(at, at[current & disturbed])
    durations = {}
    for number, row in enumerate(found.rows):
        own = current & (code == number)
        left = own & calm
        counted = np.flatnonzero(left if 2 * left.sum() >= own.sum() else own)
        if not len(counted):
            continue
        chosen = np.isin(np.repeat(np.arange(len(code)), found.sizes), counted)
        sizes = found.sizes[counted]
        durations[row] = Durations(
            found.durations_ns[chosen] / 1e6, np.repeat(process[counted], sizes), np.repeat(counted, sizes)
        )
    return durations


def every_block(path: Path) -> list[Block]:
    """All blocks of a run directory in the order measured, disturbed ones too; none without the file.

    UsageError where it is damaged.
    """
    with parsing(path / CONDITIONS):
        return _blocks(path, _read_seen(path))


def _blocks(path: Path, seen: Mapping[tuple[str, int, int], Seen]) -> list[Block]:
    found = read_columns(path / SAMPLES)
    keys = (
        (found.rows[code], number, attempt, process, place)
        for code, number, attempt, process, place in found.keys.tolist()
    )
    ends = np.cumsum(found.sizes).tolist()
    return [
        Block(
            *key,
            found.starts_ns[start:end],
            found.durations_ns[start:end],
            found.device_ms[start:end],
            seen.get(key[:3]),
            disturbed,
        )
        for key, disturbed, start, end in zip(keys, found.disturbed, [0, *ends], ends, strict=False)
    ]


def _read_seen(path: Path) -> dict[tuple[str, int, int], Seen]:
    found = {}
    for line in whole_lines(path / CONDITIONS, ("row", "round", "attempt", *SEEN)):
        numbers = {name: float(line[name]) for name in SEEN if line[name] or name == "wall_s"}
        gpu = None
        said = {name: kind(text) if (text := line.get(f"gpu_{name}")) else None for name, kind in GPU_SEEN.items()}
        if any(value is not None for value in said.values()):
            gpu = GpuReading(**said | {"slowdowns": said["slowdowns"] or frozenset()})
        found[line["row"], int(line["round"]), int(line["attempt"])] = Seen(**numbers, gpu=gpu)
    return found


def sample_lines(blocks: Iterable[Block]) -> str:
    lines = []
    for block in blocks:
        head = line_of((block.row, block.round, block.attempt, block.process, block.position)).rstrip("\n")
        last = line_of(("", block.disturbed))
        on_device = ("" if each != each else repr(each) for each in block.device_ms.tolist())
        times = zip(block.starts_ns.tolist(), block.durations_ns.tolist(), on_device, strict=True)
        lines += [f"{head},{start},{duration},{ms}{last}" for start, duration, ms in times]
    return "".join(lines)


def condition_line(block: Block) -> str:
    seen, gpu = block.seen, block.seen.gpu if block.seen else None
    if seen is None:
        return ""
    numbers = (getattr(seen, name) for name in SEEN)
    on_gpu = [""] * len(GPU_SEEN)
    if gpu:
        said = vars(gpu) | {"slowdowns": ";".join(sorted(gpu.slowdowns))}
        on_gpu = ["" if said[name] is None else str(said[name]) for name in GPU_SEEN]
    cells = ("" if each is None else f"{each:.6g}" for each in numbers)
    return line_of((block.row, block.round, block.attempt, *cells, *on_gpu))
