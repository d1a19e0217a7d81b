"""What a reader makes of inputs: read, refused in a sentence, or a fault, each told and none the end of the rest.

The reader runs in a process of its own, which a crash or a hang may end. How many inputs each harness makes and from
which seed comes from FUZZ_INPUTS and FUZZ_SEED; where FUZZ_OUT names a folder, what was found is kept there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from rtbench.errors import UsageError

INPUTS = int(os.environ.get("FUZZ_INPUTS", "150"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))

MOST_CPU_S, MOST_WALL_S = 10.0, 120.0
"""How long one input may take of the reader's own time; a reader that waits uses none, but on a busy machine one that
works may wait too."""
MOST_MEMORY = 2 * 2**30
ADDRESSES = 4 * MOST_MEMORY
"""Where an allocation fails, before the machine runs out: libraries reserve more than they use."""

CRASH = "crash:"
Reader = Callable[[bytes], object]


@dataclass
class Tally:
    reader: str
    inputs: int = 0
    ok: int = 0
    refused: int = 0
    contained: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """By what happened and where, how often."""

    def __str__(self) -> str:
        return "\n".join(f"{count} x {fault}" for fault, count in self.faults.most_common())


def judge(name: str, reader: Reader, inputs: Iterable[bytes], *, contained: bool = False) -> Tally:
    """Give every input to `reader`, a function that a new process can import (or a partial of one).

    It should return, or raise UsageError; anything else is a fault, and so are a crash, too long, too much memory,
    and a file left open. Assert that `faults` is empty. `contained`: rtbench runs this reader in a process of its own
    and says in a sentence that it ended, so a crash is counted by itself.
    """
    tally, child = Tally(name), _Child(reader)
    try:
        for index, data in enumerate(inputs):
            outcome = child.read(data)
            tally.inputs += 1
            tally.ok += outcome == "ok"
            tally.refused += outcome == "refused"
            if contained and outcome.startswith(CRASH):
                tally.contained += 1
            elif outcome not in ("ok", "refused"):
                tally.faults[outcome] += 1
                if tally.faults[outcome] == 1:
                    _keep_input(name, index, data)
    finally:
        child.end()
        _keep_tally(tally)
    return tally


class _Child:
    """The process that reads, made anew after it has ended."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # no threads nor locks of the tests before
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._reader), daemon=True)
        self._process.start()
        theirs.close()
        assert self._connection.recv() == "ready"
        self._cpu = psutil.Process(self._process.pid)

    def read(self, data: bytes) -> str:
        before, since = sum(self._cpu.cpu_times()[:2]), time.monotonic()
        try:
            self._connection.send_bytes(data)
            while not self._connection.poll(1.0):
                used, waited = sum(self._cpu.cpu_times()[:2]) - before, time.monotonic() - since
                if used > MOST_CPU_S or waited > MOST_WALL_S:
                    self._again()
                    return f"hang: more than {MOST_CPU_S:g} s" if used > MOST_CPU_S else "hang: waits for ever"
            outcome: str = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._again()
            return f"{CRASH} exit code {code}"
        if outcome.startswith("memory"):
            self._again()
        return outcome

    def _again(self) -> None:
        self.end()
        self._start()

    def end(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve(connection: Connection, reader: Reader) -> None:
    """The child's end: an outcome for every input, until the parent closes the connection."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", ResourceWarning)
    leaks: list[str] = []
    sys.unraisablehook = lambda found: leaks.append(f"left behind: {found.exc_value!r}")
    before = _memory("VmHWM")
    limit = _memory("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        outcome = _outcome(reader, data)
        if leaks:
            outcome = leaks[0]
            leaks.clear()
        if outcome.startswith("memory") or _memory("VmHWM") - before > MOST_MEMORY:
            outcome = f"memory: more than {MOST_MEMORY / 2**30:g} GiB"
        connection.send(outcome)


def _outcome(reader: Reader, data: bytes) -> str:
    try:
        reader(data)
    except UsageError:
        return "refused"
    except MemoryError:
        return "memory"
    except BaseException as error:  # noqa: BLE001 - what it was is the outcome
        last = traceback.extract_tb(error.__traceback__)
        own = next((frame for frame in reversed(last) if "/rtbench/" in frame.filename), last[-1])
        return f"{type(error).__name__} at {Path(own.filename).name}:{own.lineno}"
    return "ok"


def _memory(name: str) -> int:
    """A line of this process's status, in bytes: resource's peak would be that of the parent before it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def _keep_input(name: str, index: int, data: bytes) -> None:
    if "FUZZ_OUT" in os.environ:
        folder = Path(os.environ["FUZZ_OUT"]) / "inputs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name.replace('/', '-').replace(' ', '-')}-{SEED}-{index}").write_bytes(data)


def _keep_tally(tally: Tally) -> None:
    if "FUZZ_OUT" in os.environ:
        line = json.dumps({**vars(tally), "seed": SEED})
        with (Path(os.environ["FUZZ_OUT"]) / "tallies.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
