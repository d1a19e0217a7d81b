"""Machines to measure on: one by script, and one that is really busy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from rtbench.measure.conditions import Seen
from rtbench.measure.monitor import Reading

QUIET, BUSY = Seen(0.1, 0.001), Seen(0.1, 0.15, cpu_mhz=2400.0)
STOPPED = Seen(0.1, throttled_s=0.05)
"""By a container's limit, which does not pass."""


class ScriptedMonitor:
    """What is seen of each block in turn, of each look at the machine, and after that `then`; Ctrl-C falls after
    `interrupt` blocks."""

    hidden: Sequence[str] = ()

    def __init__(
        self,
        blocks: Sequence[Seen] = (),
        looks: Sequence[Seen] = (),
        *,
        then: Seen = QUIET,
        interrupt: int | None = None,
    ) -> None:
        self.blocks, self.looks, self.then, self.interrupt = list(blocks), list(looks), then, interrupt
        self.timed = self.looked = 0

    def read(self, worker: int | None) -> Reading:
        assert worker
        return Reading(0, 0, 0, 0, {}, 0, 0)

    def since(self, before: Reading, worker: int | None) -> Seen:
        if self.timed == self.interrupt:
            raise KeyboardInterrupt
        self.timed += 1
        return self.blocks.pop(0) if self.blocks else self.then

    def sample_lead(self) -> None: ...

    def look(self) -> tuple[Seen, str]:
        self.looked += 1
        return self.looks.pop(0) if self.looks else self.then, "a neighbour (process 7)"


@contextmanager
def spinning(count: int = 1) -> Iterator[list[subprocess.Popen]]:
    """Processes that are busy already."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        while any(sum(psutil.Process(each.pid).cpu_times()[:2]) < 0.05 for each in processes):
            time.sleep(0.01)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
