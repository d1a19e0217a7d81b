"""Files of the user's read in a process of its own: whatever is in them ends that process at most.

Archives and MATLAB files are parsed by libraries that a damaged file can crash, or have take all memory.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from rtbench.errors import UsageError, WorkerFailed, visible_text
from rtbench.images.image_set import reason
from rtbench.worker import Worker

MOST_MEMORY = 5 << 29
"""What such a process may allocate, 2.5 GiB: the largest image that is decoded needs 1.7."""
SILENT_S = 60.0
BEAT = 1000

Found = TypeVar("Found")


def read_apart(read: Callable[[Path], Iterable[Found]], paths: Sequence[Path]) -> Iterator[Found]:
    """What `read`, a function of a module, finds in each file; UsageError, naming the file, where it cannot."""
    with Worker("rtbench.images.apart:Reader", log=Path(os.devnull), timeout_s=SILENT_S, threads=1) as worker:
        for path in paths:
            try:
                found = worker.call("read", read, path)
            except WorkerFailed as error:
                raise _unreadable(path, f"the process that read it {error.message}") from None
            yield from cast("list[Found]", found)


class Reader:
    """The child's end."""

    def __init__(self, report: Callable[..., None]) -> None:
        bound_memory()
        self._report = report

    def read(self, read: Callable[[Path], Iterable[Found]], path: Path) -> list[Found]:
        found = []
        try:
            for each in read(path):
                found.append(each)
                if len(found) % BEAT == 0:  # a sign of life
                    self._report()
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 - one untrusted file, of which libraries raise anything
            raise _unreadable(path, reason(error)) from None
        return found


@contextmanager
def bounded_time(seconds: int) -> Iterator[None]:
    """Have this process end where what is done takes more of the CPU's time."""
    before = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)


@contextmanager
def bounded_memory(more: int) -> Iterator[None]:
    """Have what is done get a MemoryError where it takes so many bytes more than this process has."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def bound_memory() -> None:
    """Have this process get a MemoryError rather than the machine's last memory."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MOST_MEMORY if most == resource.RLIM_INFINITY else min(MOST_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(f"{visible_text(str(path))} cannot be read: {why}", "it may be incomplete; download it again")
