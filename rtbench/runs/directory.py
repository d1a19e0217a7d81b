"""The run directory: everything one comparison produced, written as it goes."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from rtbench.artifacts import check_writable, write_text
from rtbench.errors import UsageError
from rtbench.measure.accuracy import TOP, Predictions
from rtbench.measure.rounds import Block, last_attempts
from rtbench.records.run import Run
from rtbench.runs.csv_lines import file_name, line_of
from rtbench.runs.predictions import prediction_header, prediction_lines, quoted
from rtbench.runs.result import RESULT, read_run
from rtbench.runs.samples import (
    CONDITION_COLUMNS,
    CONDITIONS,
    SAMPLE_COLUMNS,
    SAMPLES,
    condition_line,
    every_block,
    sample_lines,
)

COMMAND = "command.json"
FLIP_COLUMNS = ("file", "label", "own_top1", "own_confidence", "top1", "confidence")


class RunDirectory:
    """A new run directory; UsageError where `path` has files in it already or cannot be written.

    With `resume`, one that an interrupted comparison left, of which `kept` is what it had measured (None
    where it had not come to measuring). No two processes have one at the same time.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.kept: Run | None = None
        self._resumed = resume
        if resume:
            self.kept = _interrupted_run(path)
        else:
            self._made = self._make()
        descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is being measured by another process", "wait for it, or end it") from None

    def _make(self) -> list[Path]:
        path = self.path
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already and not an empty folder", "choose another --out")
        check_writable(path)
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror}", "choose another --out") from None
        return made

    def discard(self) -> None:
        """Take back what was made, for a comparison that never came to measuring."""
        if self._resumed:
            return
        for folder in (self.logs, self.held, self.path / "artifacts"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.path / COMMAND).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another run lies there by now
            for folder in self._made:
                folder.rmdir()

    def release(self) -> None:
        """Give up what was held of an earlier run."""
        shutil.rmtree(self.held, ignore_errors=True)

    @property
    def held(self) -> Path:
        """Where artifacts of an earlier run are kept while they are timed again."""
        return self.path / "against"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{file_name(name)}.log"

    def save(self, run: Run) -> None:
        write_text(self.path / RESULT, run.model_dump_json(indent=2))

    def save_command(self, arguments: Sequence[str]) -> None:
        """Keep what was asked for and where, for `--resume`."""
        write_text(self.path / COMMAND, json.dumps({"arguments": list(arguments), "folder": str(Path.cwd())}, indent=2))

    def save_report(self, name: str, text: str) -> None:
        write_text(self.path / name, text)

    def append_samples(self, block: Block) -> None:
        """Add a block's raw samples to `samples.csv` and what the machine did meanwhile to `conditions.csv`; times are
        the host's monotonic clock, but `device_ms` is the device's, empty where it has none."""
        self._append(CONDITIONS, CONDITION_COLUMNS, condition_line(block))
        self._append(SAMPLES, SAMPLE_COLUMNS, sample_lines([block]))

    def _append(self, name: str, columns: Sequence[str], text: str) -> None:
        path = self.path / name
        with path.open("a", newline="", encoding="utf-8") as file:
            file.write(text if file.tell() else line_of(columns) + text)

    def take_samples(self, size_of: Callable[[int], int]) -> dict[str, dict[int, Block]]:
        """The blocks of `samples.csv` by row and round, of each round the last attempt; a block that a kill has cut,
        which has not the size that blocks of its round have, is taken out of the file."""
        path = self.path / SAMPLES
        whole = [block for block in every_block(self.path) if len(block.durations_ns) == size_of(block.round)]
        text = line_of(SAMPLE_COLUMNS) + sample_lines(whole)
        if path.exists() and text != path.read_text(encoding="utf-8"):
            write_text(path, text)
        conditions = self.path / CONDITIONS
        if conditions.exists():
            write_text(conditions, line_of(CONDITION_COLUMNS) + "".join(condition_line(block) for block in whole))
        return last_attempts(whole)

    def append_predictions(
        self, row: str, names: Sequence[str], labels: Sequence[int], predictions: Predictions
    ) -> None:
        """Add images to the row's `predictions/<row>.csv`."""
        path = self._predictions(row)
        path.parent.mkdir(exist_ok=True)
        text = prediction_lines(names, labels, predictions)
        if not path.exists():
            text = prediction_header(predictions) + text
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    def read_predictions(self, row: str, names: Sequence[str], labels: Sequence[int], classes: int) -> Predictions:
        """What `predictions/<row>.csv` holds of these images, from the first on.

        A last line that a kill has cut is taken out of the file. UsageError where it is of other images.
        """
        path, top = self._predictions(row), min(TOP, classes)
        if not path.exists():
            return Predictions.none(top)
        text = path.read_bytes().decode(errors="replace")  # a kill may cut a character too
        lines = list(csv.reader(io.StringIO(text, newline="")))[1:]
        cut = not text.endswith("\n") or (lines and len(lines[-1]) != top + 3)
        if cut and lines:
            lines.pop()
        count = len(lines)
        if [line[0] for line in lines] != list(names[:count]):
            raise UsageError(f"{path} is of other images than these", "start a new run")
        kept = Predictions(
            np.array([line[2:-1] for line in lines], dtype=np.int32).reshape(count, top),
            np.array([line[-1] for line in lines], dtype=np.float32),
        )
        if cut:
            write_text(path, prediction_header(kept) + prediction_lines(names[:count], labels[:count], kept))
        return kept

    def _predictions(self, row: str) -> Path:
        return self.path / "predictions" / f"{file_name(row)}.csv"

    def save_flipped(self, row: str, lines: Iterable[tuple[str, int, int, float, int, float]]) -> None:
        """The images whose top-1 is not that of the model's own row, as `flipped/<row>.csv`."""
        text = [",".join(FLIP_COLUMNS)]
        for name, label, own, own_confidence, best, confidence in lines:
            text.append(f"{quoted(name)},{label},{own},{own_confidence:.6f},{best},{confidence:.6f}")
        write_text(self.path / "flipped" / f"{file_name(row)}.csv", "\n".join(text) + "\n")


def _interrupted_run(path: Path) -> Run | None:
    """The record of a run that can be resumed, None where it had not come to measuring."""
    read_command(path)
    run = read_run(path) if (path / RESULT).exists() else None
    if run and run.complete:
        raise UsageError(f"{path} is complete, there is nothing to resume", f"rtbench report {path} shows it")
    return run


def read_command(path: Path) -> tuple[list[str], Path]:
    """The arguments that a run was started with, and the folder that it was started in."""
    try:
        kept = json.loads((path / COMMAND).read_text(encoding="utf-8"))
        return list(kept["arguments"]), Path(kept["folder"])
    except FileNotFoundError:
        raise UsageError(
            f"{path} is no run directory that can be resumed (it has no {COMMAND})", "start a new run"
        ) from None
