"""What can go wrong, as one tree.

RtbenchError                a sentence naming the problem, and a remedy
├── UsageError              wrong usage or input, the user's to fix (exit code 2)
│   └── NotKept             the run directory can no longer be written; measuring ends and can be resumed
├── ExportFailed             the model cannot be turned into this artifact (rows: failed)
├── RuntimeUnavailable      this machine cannot run it: no driver, package missing (row: unavailable)
├── DeviceFailed            the GPU stopped: out of memory, lost, a call refused (row: failed)
├── InvalidOutput           it ran and its answer is wrong: NaN, wrong shape (row: invalid)
└── WorkerFailed            a worker process crashed, hung or was killed (row: failed)
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CHARACTERS = 600


def one_line(text: str) -> str:
    """What a library or a file name says, as one line that cannot steer a terminal; its middle left out where it is
    very long."""
    shown = visible_text(" ".join(filter(None, map(str.strip, text.splitlines()))))
    if len(shown) <= MOST_CHARACTERS:
        return shown
    return f"{shown[: MOST_CHARACTERS * 2 // 3]} … {shown[-MOST_CHARACTERS // 4 :]}"


def visible_text(text: str) -> str:
    """The text with everything that does not print as itself escaped: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def counted(number: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def not_importable(package: str, extra: str, error: ImportError) -> RuntimeUnavailable:
    """What to raise where a package that an extra of rtbench's brings is not there, or does not fit this machine."""
    missing = isinstance(error, ModuleNotFoundError)
    said = f"{package} is not installed" if missing else f"{package} cannot be imported: {error}"
    return RuntimeUnavailable(said, f"pip install 'rtbench[{extra}]'")


def told(error: OSError) -> str:
    """What the system said, and of which file."""
    said = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {said}" if isinstance(error.filename, (str, bytes)) else said


class RtbenchError(Exception):
    """Base of every error that is shown as one sentence instead of a traceback.

    `message` names the problem, `remedy` says what to do about it and may be empty; both are one line each.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)  # both in args, so that it survives pickling between processes
        self.message = one_line(message)
        self.remedy = one_line(remedy)

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(RtbenchError):
    """Wrong usage or input."""


class NotKept(UsageError):
    """The run directory can no longer be written: no row's failure, and the end of measuring."""


@contextmanager
def reading() -> Iterator[None]:
    """What the system refuses of a file that the user named is the user's to fix."""
    try:
        yield
    except OSError as error:
        raise UsageError(told(error)) from error


class ExportFailed(RtbenchError):
    """The model cannot be turned into this artifact."""


class RuntimeUnavailable(RtbenchError):
    """This machine cannot run it."""


class DeviceFailed(RtbenchError):
    """The GPU broke off."""


class InvalidOutput(RtbenchError):
    """It ran and its answer is wrong."""


class WorkerFailed(RtbenchError):
    """A worker process crashed, hung or was killed; `remedy` names its log."""


def interrupt_once() -> bool:
    """Have the first Ctrl-C interrupt, and others change nothing: what was measured is being kept by then. False where
    Ctrl-C is not Python's, or not this thread's."""
    of_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not of_python or threading.current_thread() is not threading.main_thread():
        return False

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: None)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    return True


@contextmanager
def interrupted_once() -> Iterator[None]:
    """The same until the end of a block."""
    changed = interrupt_once()
    try:
        yield
    finally:
        if changed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
