"""Raw samples as columns: parsed from `samples.csv`, and kept next to it in `samples.npz`, which is read in a moment.

While rows are timed there is only the CSV file, to which a line is added a run and which a kill can at worst cut. The
other is written when a run is complete, and only read where it was made of this very CSV file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import zipfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from rtbench.artifacts import file_sha256, replacing
from rtbench.runs.csv_lines import split_columns
from rtbench.runs.reading import opened, parsing

KEY = ("round", "attempt", "process", "position")
TIMES = ("start_ns", "duration_ns", "device_ms", "disturbed")
REQUIRED = {"row", "round", "start_ns", "duration_ns"}
"""What files of every version have; earlier ones had one process and one attempt, and nothing said of disturbance."""
Key = tuple[str, int, int, int, int]
"""A block's row and the numbers of KEY."""
LAYOUT, SEAL = "samples 1", 32
"""Of `samples.npz`: what its arrays mean, and how many bytes its seal has."""
CHUNK = 1 << 20
"""Characters parsed at once."""
NAN = float("nan")


@dataclass(frozen=True)
class Columns:
    """Blocks in the order measured, and one after the other their samples, as many of each as `sizes` says."""

    rows: list[str]
    keys: NDArray[np.int64]
    """(blocks, 5): the index of the block's row among `rows`, and the numbers of KEY."""
    disturbed: list[str]
    sizes: NDArray[np.int64]
    starts_ns: NDArray[np.int64]
    durations_ns: NDArray[np.int64]
    device_ms: NDArray[np.float64]


def read_columns(path: Path) -> Columns:
    """What a file of samples holds, nothing where there is none; UsageError where it is damaged."""
    return _load(path) or _parse(path)


def save_columns(path: Path) -> None:
    """Keep the samples of a complete run as columns beside their CSV file at `path`, which has them all too."""
    found = _parse(path)
    content = io.BytesIO()
    np.savez(
        content,
        rows=np.array(found.rows, dtype=np.str_),
        keys=found.keys,
        disturbed=np.array(found.disturbed, dtype=np.str_),
        sizes=found.sizes,
        starts_ns=found.starts_ns,
        durations_ns=found.durations_ns,
        device_ms=found.device_ms,
    )
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = bytes(SEAL)
    data = content.getbuffer()[:-SEAL]
    with suppress(OSError), replacing(path.with_suffix(".npz")) as partial:
        partial.write_bytes(data.tobytes() + _seal(path, data))


def _load(path: Path) -> Columns | None:
    """What was kept of the file at `path`; None where that is missing, damaged or not of this very file."""
    try:
        content = path.with_suffix(".npz").read_bytes()
        if content[-SEAL:] != _seal(path, memoryview(content)[:-SEAL]):
            return None
    except OSError:
        return None
    with np.load(io.BytesIO(content)) as kept:
        return Columns(
            kept["rows"].tolist(),
            kept["keys"],
            kept["disturbed"].tolist(),
            *(kept[name] for name in ("sizes", "starts_ns", "durations_ns", "device_ms")),
        )


def _seal(path: Path, data: memoryview) -> bytes:
    """What the archive's comment says: that it is whole, of this layout, and of the file at `path`."""
    digest = hashlib.sha256(f"{LAYOUT} {file_sha256(path)} ".encode())
    digest.update(data)
    return digest.digest()


def _parse(path: Path) -> Columns:
    """A last line that a kill has cut is left out."""
    found = _Found({}, [], [], array("q"), array("q"), array("d"))
    with opened(path) as file, parsing(path):
        if file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            first = text.readline()
            header = next(csv.reader([first]), [])
            if first.endswith(("\n", "\r")) and not {*header} >= REQUIRED:
                raise ValueError(f"it lacks some of the columns {', '.join(sorted(REQUIRED))}")
            for lines in _chunks(text):
                found.add(lines, header)
        return found.columns()


def _chunks(file: TextIO) -> Iterator[str]:
    """Whole lines, some thousands at once; a row's name may have a line break in it, between quotes."""
    while text := file.read(CHUNK) + file.readline():
        while text.count('"') % 2 and (line := file.readline()):
            text += line
        yield text[: text.rfind("\n") + 1]


@dataclass(frozen=True)
class _Found:
    """Columns in the making."""

    keys: dict[Key, int]
    disturbed: list[str]
    turns: list[tuple[int, int]]
    """The first of the lines that follow each other and are of one block, and which block."""
    starts_ns: array[int]
    durations_ns: array[int]
    device_ms: array[float]

    def add(self, text: str, header: list[str]) -> None:
        fields = dict(zip(header, split_columns(text, len(header)), strict=False))
        of_blocks = (fields.get(name, itertools.repeat("0")) for name in KEY)
        at, first = 0, len(self.starts_ns)
        for (row, *numbers), same in itertools.groupby(zip(fields["row"], *of_blocks, strict=False)):
            round_number, attempt, process, position = map(int, numbers)
            block = self.keys.setdefault((row, round_number, attempt, process, position), len(self.keys))
            if block == len(self.disturbed):
                self.disturbed.append(fields["disturbed"][at] if "disturbed" in fields else "")
            if not self.turns or self.turns[-1][1] != block:
                self.turns.append((first + at, block))
            at += len(list(same))
        durations_ns = np.array(fields["duration_ns"], dtype=np.int64)
        if (durations_ns <= 0).any():
            raise ValueError("a duration is not positive")
        self.starts_ns.frombytes(np.array(fields["start_ns"], dtype=np.int64).tobytes())
        self.durations_ns.frombytes(durations_ns.tobytes())
        on_device = fields.get("device_ms") or [""] * at
        self.device_ms.extend((float(ms or "nan") for ms in on_device) if any(on_device) else [NAN] * at)

    def columns(self) -> Columns:
        turns = np.array(self.turns, dtype=np.int64).reshape(-1, 2)
        sizes = np.diff(turns[:, 0], append=len(self.starts_ns))
        times = np.array(self.starts_ns), np.array(self.durations_ns), np.array(self.device_ms)
        if len(turns) > len(self.keys):  # lines of a block are apart
            block = np.repeat(turns[:, 1], sizes)
            order = np.argsort(block, kind="stable")
            sizes, times = np.bincount(block), (times[0][order], times[1][order], times[2][order])
        codes = {row: code for code, row in enumerate(dict.fromkeys(row for row, *_ in self.keys))}
        keys = np.array([(codes[row], *numbers) for row, *numbers in self.keys], dtype=np.int64).reshape(-1, 5)
        return Columns(list(codes), keys, self.disturbed, sizes, *times)
