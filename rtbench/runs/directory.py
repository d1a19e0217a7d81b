"""The run directory: everything one comparison produced, written as it goes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from rtbench.artifacts import check_writable, write_text
from rtbench.errors import NotKept, UsageError
from rtbench.measure.accuracy import TOP, Predictions
from rtbench.measure.rounds import Block, last_attempts
from rtbench.records import Record
from rtbench.records.run import Run
from rtbench.runs.csv_lines import file_name, line_of, read_table, row_file
from rtbench.runs.predictions import (
    LEAST_COLUMNS,
    PREDICTIONS,
    Labels,
    as_line,
    prediction_columns,
    prediction_lines,
    quoted,
)
from rtbench.runs.reading import SAID, parsing, read_bytes
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
REPORTS = ("results.csv", "report.md", "report.html")
FLIP_COLUMNS = ("file", "label", "own_top1", "own_confidence", "top1", "confidence")


class Command(Record):
    """What `command.json` holds."""

    arguments: list[str]
    folder: str


class RunDirectory:
    """A new run directory; UsageError where `path` has files in it already or cannot be written.

    With `resume`, one that an interrupted comparison left, of which `kept` is what it had measured (None
    where it had not come to measuring), or one that lacks only reports. No two processes have one at the same time.
    What can no longer be written raises NotKept.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.kept: Run | None = None
        self._resumed = resume
        if resume:
            read_command(path)
        else:
            self._make()
        descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is being measured by another process", "wait for it, or end it") from None
        if resume:
            self.kept = self._interrupted_run()

    def _make(self) -> None:
        path, self._made = self.path, list[Path]()
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UsageError(f"{path} already exists and is not an empty folder", "choose another --out")
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            check_writable(path)
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # the latter of a null character
            self._remove_made()
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to {path}: {reason}", "choose another --out") from None

    def _remove_made(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError, ValueError):  # not made after all, or another run is there by now
                folder.rmdir()

    def _interrupted_run(self) -> Run | None:
        """The record of a run that can be resumed, None where it had not come to measuring."""
        for partial in self.path.rglob(".*.partial"):  # what a kill has left of a file
            partial.unlink(missing_ok=True)
        run = read_run(self.path) if (self.path / RESULT).exists() else None
        if run and run.complete and not self.missing_reports():
            raise UsageError(
                f"{self.path} is complete, there is nothing to resume", f"rtbench report {self.path} shows it"
            )
        return run

    def missing_reports(self) -> list[str]:
        return [name for name in REPORTS if not (self.path / name).exists()]

    def discard(self) -> None:
        """Take back what was made, unless it has come to measuring."""
        if self._resumed or (self.path / RESULT).exists():
            return
        for folder in (self.logs, self.held, self.path / "artifacts"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.path / COMMAND).unlink(missing_ok=True)
        self._remove_made()

    def release(self) -> None:
        """Give up what was held while it was measured."""
        shutil.rmtree(self.held, ignore_errors=True)

    @property
    def held(self) -> Path:
        """Where artifacts are kept under their hash while they are measured, those of an earlier run too."""
        return self.path / "against"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{file_name(name)}.log"

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.not_kept(str(path), error) from None

    def not_kept(self, what: str, error: OSError) -> NotKept:
        remedy = f"what was measured is kept: free some space, then rtbench compare --resume {self.path}"
        return NotKept(
            f"cannot write {what}: {error.strerror}", remedy if (self.path / RESULT).exists() else "make room"
        )

    def _save(self, name: str, text: str) -> None:
        with self._writing(self.path / name):
            write_text(self.path / name, text)

    def save(self, run: Run) -> None:
        self._save(RESULT, run.model_dump_json(indent=2))

    def save_command(self, arguments: Sequence[str]) -> None:
        """Keep what was asked for and where, for `--resume`; as it was, where this is one."""
        if self._resumed:
            return
        command = Command(arguments=list(arguments), folder=str(Path.cwd()))
        self._save(COMMAND, json.dumps(command.model_dump(), indent=2))  # a folder's name may be any bytes

    def save_reports(self, reports: Mapping[str, Callable[[], str]]) -> None:
        """Write those that can be written; NotKept names the others."""
        failed: dict[str, OSError] = {}
        for name, render in reports.items():
            try:
                write_text(self.path / name, render())
            except OSError as error:
                failed[name] = error
        if failed:
            raise self.not_kept(", ".join(failed), next(iter(failed.values())))

    def append_samples(self, block: Block) -> None:
        """Add a block's raw samples to `samples.csv` and what the machine did meanwhile to `conditions.csv`; times are
        the host's monotonic clock, but `device_ms` is the device's, empty where it has none."""
        self._append(CONDITIONS, CONDITION_COLUMNS, condition_line(block))
        self._append(SAMPLES, SAMPLE_COLUMNS, sample_lines([block]))

    def _append(self, name: str, columns: Sequence[str], text: str) -> None:
        path = self.path / name
        with self._writing(path), path.open("a", newline="", encoding="utf-8") as file:
            file.write(text if file.tell() else line_of(columns) + text)

    def take_samples(self, size_of: Callable[[int], int]) -> dict[str, dict[int, Block]]:
        """The blocks of `samples.csv` by row and round, of each round the last attempt; a block that a kill has cut,
        which has not the size that blocks of its round have, is taken out of the file."""
        path = self.path / SAMPLES
        whole = [block for block in every_block(self.path) if len(block.durations_ns) == size_of(block.round)]
        text = line_of(SAMPLE_COLUMNS) + sample_lines(whole)
        if path.exists() and text != path.read_text(encoding="utf-8"):
            self._save(SAMPLES, text)
        if (self.path / CONDITIONS).exists():
            lines = "".join(condition_line(block) for block in whole)
            self._save(CONDITIONS, line_of(CONDITION_COLUMNS) + lines)
        return last_attempts(whole)

    def append_predictions(
        self,
        row: str,
        names: Sequence[str],
        labels: Sequence[Labels],
        predictions: Predictions,
        class_names: Mapping[int, str],
    ) -> None:
        """Add images to the row's `predictions/<row>.csv`."""
        path = self._predictions(row)
        text = prediction_lines(names, labels, predictions, class_names)
        with self._writing(path):
            path.parent.mkdir(exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(text if file.tell() else as_line(prediction_columns(predictions.classes.shape[1])) + text)

    def read_predictions(self, row: str, names: Sequence[str], classes: int) -> Predictions:
        """What `predictions/<row>.csv` holds of these images, from the first on.

        A last line that a kill has cut is taken out of the file. UsageError where it is damaged or of other images.
        """
        path, top = self._predictions(row), min(TOP, classes)
        columns, lines, cut = read_table(path, LEAST_COLUMNS)
        now = prediction_columns(top)
        missing = [""] * (len(now) - len(columns))
        fits = not lines or now[: len(columns)] == columns
        if not fits or [line[0] for line in lines] != list(names[: len(lines)]):
            raise UsageError(f"{path} is of other images than these", "start a new run")
        with parsing(path):
            kept = Predictions(
                np.array([line[2 : 2 + top] for line in lines], dtype=np.int32).reshape(len(lines), top),
                np.array([line[2 + top] for line in lines], dtype=np.float32),
            )
        if cut or (lines and missing):  # which earlier versions did not write
            text = "".join(map(as_line, (now, *([*line, *missing] for line in lines))))
            self._save(f"{PREDICTIONS}/{path.name}", text)
        return kept

    def _predictions(self, row: str) -> Path:
        rows = [each.id for each in self.kept.rows] if self.kept else [row]
        return row_file(self.path / PREDICTIONS, row, rows)

    def save_flipped(self, row: str, lines: Iterable[tuple[str, int, int, float, int, float]]) -> None:
        """The images whose top-1 is not that of the model's own row, as `flipped/<row>.csv`."""
        text = [",".join(FLIP_COLUMNS)]
        for name, label, own, own_confidence, best, confidence in lines:
            text.append(f"{quoted(name)},{label},{own},{own_confidence:.6f},{best},{confidence:.6f}")
        self._save(f"flipped/{file_name(row)}.csv", "\n".join(text) + "\n")


def read_command(path: Path) -> tuple[list[str], Path]:
    """The arguments that a run was started with, and the folder that it was started in."""
    file = path / COMMAND
    content = read_bytes(file)
    if content is None:
        raise UsageError(f"{path} is not a run directory that can be resumed (it has no {COMMAND})", "start a new run")
    try:
        command = Command.model_validate(json.loads(content))
        " ".join(command.arguments).encode()
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        problem = str(error)
    else:
        return command.arguments, Path(command.folder)
    raise UsageError(f"{file} is damaged: {problem[:SAID]}", "start a new run")
