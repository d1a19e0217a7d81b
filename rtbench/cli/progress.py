"""Progress of long work on stderr: a bar on a terminal, lines where the user asked for them, else a line for each thing
that rtbench waits for, and one every ten seconds."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtbench.errors import UsageError, visible_text
from rtbench.terms import WAITING, Loudness

TOLD_EVERY_S = 10.0
INTERVAL = "RTBENCH_PROGRESS_S"
"""The variable that says otherwise; 0 for no such lines."""
ACCEPTED = ("export", "check", "build", "latency")
"""How phases begin after which input is not refused any more: a refusal is one line, and nothing is told before."""


class ProgressBar:
    """Call it with what is being done, how much is done, and how much there is."""

    def __init__(self, loudness: Loudness = "normal") -> None:
        self._console = Console(stderr=True, highlight=False)
        self._verbose = loudness == "verbose"
        self._piped = loudness == "normal" and not sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=loudness == "quiet" or not sys.stderr.isatty(),
        )
        self._phase: str | None = None
        self._waited: set[str] = set()
        self._done = self._total = 0
        self._ended = threading.Event()
        self._interval_s = _interval_s()
        self._accepted = False

    def __call__(self, phase: str, done: int, total: int) -> None:
        phase = visible_text(phase)
        if phase != self._phase:
            self._end_phase()
            for task in self._progress.task_ids:
                self._progress.remove_task(task)
            self._task = self._progress.add_task(phase)
            self._phase, self._began = phase, time.monotonic()
            self._accepted = self._accepted or phase.startswith(ACCEPTED)
            if self._piped and phase.startswith(WAITING) and phase not in self._waited:
                self._waited.add(phase)
                self._console.print(phase, markup=False, soft_wrap=True)
        self._done, self._total = done, total
        self._progress.update(self._task, completed=done, total=total)

    def _end_phase(self) -> None:
        if self._verbose and self._phase is not None:
            seconds = time.monotonic() - self._began
            self._console.print(f"{self._phase}: {self._done} in {seconds:.1f} s", markup=False, soft_wrap=True)

    def _tell(self) -> None:
        """In a thread of its own, since a phase may be silent for long."""
        while not self._ended.wait(self._interval_s):
            if self._accepted:
                share = f": {self._done} of {self._total}" if self._total > 1 else ""
                self._console.print(f"{self._phase}{share}", markup=False, soft_wrap=True)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        if self._piped and self._interval_s > 0:
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._end_phase()
        self._progress.stop()


def _interval_s() -> float:
    said = os.environ.get(INTERVAL, str(TOLD_EVERY_S))
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise UsageError(f"{INTERVAL} is {said}, which is not a number of seconds", "0 writes no such lines")
    return seconds
