"""What can go wrong, as one tree.

RtbenchError                a sentence naming the problem, and a remedy
├── UsageError              wrong usage or input, the user's to mend (exit code 2)
├── ExportFailed             the model cannot be turned into this artifact (rows: failed)
├── RuntimeUnavailable      this machine cannot run it: no driver, package missing (row: unavailable)
├── DeviceFailed            the GPU broke off: out of memory, lost, a call refused (row: failed)
├── InvalidOutput           it ran and its answer is wrong: NaN, wrong shape (row: invalid)
└── WorkerFailed            a worker process crashed, hung or was killed (row: failed)
"""

from __future__ import annotations


class RtbenchError(Exception):
    """Base of every error that is shown as one sentence instead of a traceback.

    `message` names the problem, `remedy` says what to do about it and may be empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)  # both in args, so that it survives pickling between processes
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(RtbenchError):
    """Wrong usage or input."""


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
