"""The run directory: everything one comparison produced, written as it goes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rtbench.artifacts import check_writable, write_text
from rtbench.errors import UsageError
from rtbench.latency import Block
from rtbench.records import SCHEMA_VERSION, Run

RESULT, SAMPLES = "result.json", "samples.csv"
UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = ()
"""For each schema version from 1 on, what makes a `result.json` of it one of the next version."""
SAMPLE_COLUMNS = ("row", "round", "position", "start_ns", "duration_ns", "device_ms")


class RunDirectory:
    """A new run directory; UsageError where `path` has files in it already or cannot be written."""

    def __init__(self, path: Path) -> None:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already and not an empty folder", "choose another --out")
        self.path = path
        check_writable(path)
        self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}", "choose another --out") from None

    def discard(self) -> None:
        """Take back what was made, for a comparison that never came to measuring."""
        shutil.rmtree(self.logs, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run lies there by now
            for folder in self._made:
                folder.rmdir()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{file_name(name)}.log"

    def save(self, run: Run) -> None:
        write_text(self.path / RESULT, run.model_dump_json(indent=2))

    def save_report(self, name: str, text: str) -> None:
        write_text(self.path / name, text)

    def append_samples(self, block: Block) -> None:
        """Add a block's raw samples to `samples.csv`; times are the host's monotonic clock, but `device_ms` is
        the device's, empty where it has none."""
        path = self.path / SAMPLES
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(SAMPLE_COLUMNS)
            for start, duration, device in zip(block.starts_ns, block.durations_ns, block.device_ms, strict=True):
                on_device = "" if np.isnan(device) else f"{device:.6f}"
                writer.writerow((block.row, block.round, block.position, int(start), int(duration), on_device))

    def save_predictions(
        self, row: str, names: Sequence[str], labels: Sequence[int], predictions: NDArray[np.int32]
    ) -> None:
        """The row's largest classes for every labelled image, as `predictions/<row>.csv`."""
        lines = [",".join(["file", "label", *(f"top{rank + 1}" for rank in range(predictions.shape[1]))])]
        for name, label, best in zip(names, labels, predictions, strict=True):
            quoted = '"' + name.replace('"', '""') + '"'
            lines.append(",".join([quoted, str(label), *map(str, best)]))
        write_text(self.path / "predictions" / f"{file_name(row)}.csv", "\n".join(lines) + "\n")


def file_name(row: str) -> str:
    """A row's id as a file name: `ort:cpu/int8` is `ort-cpu-int8`."""
    return "".join(char if char.isalnum() or char in "._" else "-" for char in row)


def read_run(path: Path) -> Run:
    """The record of a run directory, or of a `result.json` itself; UsageError where it is none."""
    file = path / RESULT if path.is_dir() else path
    try:
        return Run.model_validate(_upgraded(json.loads(file.read_bytes()), file))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is no run directory (it has no {RESULT})", "name a folder that compare wrote"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where or 'it'}: {first['msg']}"
    except ValueError as error:  # no JSON, or no text
        problem = str(error)
    raise UsageError(f"{file} is no result of this version of rtbench: {problem}", "measure again")


def _upgraded(data: Any, file: Path) -> Any:
    """A result of any earlier schema version as one of this version; UsageError where it is of a later one."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        return data  # which Run then refuses, with the reason
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version}, and this version of rtbench reads up to {SCHEMA_VERSION}",
            "use the newer rtbench that wrote it",
        )
    for step in UPGRADES[version - 1 :]:
        data = step(data)
    return data


def read_samples(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """The raw samples of a run directory: for each row its rounds, in milliseconds."""
    return {row: [block.durations_ns / 1e6 for block in blocks] for row, blocks in read_blocks(path).items()}


def read_blocks(path: Path) -> dict[str, list[Block]]:
    """The raw samples of a run directory as they were measured: for each row its blocks, in order.

    Empty where nothing was timed. A killed run may end in half a line, which is left out.
    """
    found: dict[str, dict[int, list[dict[str, str]]]] = {}
    for line in _lines(path / SAMPLES):
        found.setdefault(line["row"], {}).setdefault(int(line["round"]), []).append(line)
    return {
        row: [
            Block(
                row,
                number,
                int(lines[0]["position"]),
                np.array([int(line["start_ns"]) for line in lines], dtype=np.int64),
                np.array([int(line["duration_ns"]) for line in lines], dtype=np.int64),
                np.array([float(line.get("device_ms") or "nan") for line in lines]),
            )
            for number, lines in rounds.items()
        ]
        for row, rounds in found.items()
    }


@dataclass(frozen=True)
class Prediction:
    file: str
    label: int
    classes: tuple[int, ...]
    """With the largest output first; -1 where the output was not finite."""


def read_predictions(path: Path, row: str) -> list[Prediction]:
    """What a row answered for every labelled image; empty where it was not asked."""
    return [
        Prediction(
            line["file"], int(line["label"]), tuple(int(line[key]) for key in line if key and key.startswith("top"))
        )
        for line in _lines(path / "predictions" / f"{file_name(row)}.csv")
    ]


def _lines(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file, none where it is missing."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole, newline="")))
