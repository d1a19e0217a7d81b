"""A process that hosts one object and answers its parent's calls.

The parent makes a Worker with the name of a class (`package.module:Class`); the child imports it, makes
one instance with a function to report progress by, and then blocks in a read between calls. Whatever
happens to the child, the parent gets an answer: a value, the child's own error, or WorkerFailed.

Between calls a child can be paused: thread pools go on spinning for tens of milliseconds after the last
run, on the very cores that the next worker is timed on.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from rtbench.errors import RtbenchError, WorkerFailed

GRACE_S = 5.0


class Worker:
    """The parent's end. `log` receives everything the child prints; `timeout_s` is the longest silence
    within a call before the child counts as hung and is killed. A child that is not `timed` has OpenMP's
    threads sleep between their tasks instead of spin, which on a busy machine is several times as fast. `python`: the
    interpreter of another environment, which has rtbench too."""

    def __init__(
        self,
        host: str,
        *,
        log: Path,
        timeout_s: float,
        threads: int,
        timed: bool = True,
        python: Path | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._log = log
        self._connection, theirs = Pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output, theirs:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", "rtbench.worker", str(theirs.fileno()), host],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ
                | {"OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
                | ({} if timed else {"OMP_WAIT_POLICY": "PASSIVE"}),
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, *args: Any, on_progress: Callable[..., None] | None = None, **kwargs: Any) -> Any:
        """The value of the hosted object's method.

        Raises the child's own RtbenchError, or WorkerFailed (any other exception there, a crash, a
        signal, silence for longer than the timeout); after WorkerFailed the child is gone.
        """
        try:
            self._connection.send((method, args, kwargs))
            while True:
                if not self._connection.poll(self._timeout_s):
                    self.kill()
                    raise WorkerFailed(
                        f"gave no answer for {self._timeout_s:g} s in {method} and was killed", f"see {self._log}"
                    )
                kind, payload = self._connection.recv()
                if kind == "value":
                    return payload
                if kind == "progress":
                    if on_progress:
                        on_progress(*payload)
                elif kind == "error":
                    raise payload
                else:
                    self.kill()
                    raise WorkerFailed(f"{payload} in {method}", f"its traceback is in {self._log}")
        except (EOFError, ConnectionError):
            raise WorkerFailed(f"{self._cause_of_death()} in {method}", f"see {self._log}") from None

    def pause(self) -> None:
        """Stop the child until `resume`, and wait until all of its threads have stopped: one that spins goes on for
        some milliseconds, in which the next row is timed already."""
        self._process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):  # it has ended
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the child: politely by closing the connection, then not."""
        self._connection.close()
        self.resume()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def kill(self) -> None:
        """End the child at once; a call that another thread has under way raises WorkerFailed."""
        self._process.kill()
        self._process.wait()

    def _cause_of_death(self) -> str:
        code = self._process.wait(GRACE_S)
        if code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def serve(connection: Connection, host: str) -> None:
    """The child's end: answer calls until the parent closes the connection."""
    module, _, name = host.partition(":")

    def report(*progress: Any) -> None:
        connection.send(("progress", progress))

    hosted = getattr(import_module(module), name)(report)
    try:
        while True:
            method, args, kwargs = connection.recv()
            connection.send(_answer(getattr(hosted, method), args, kwargs))
    except (EOFError, BrokenPipeError):
        if hasattr(hosted, "close"):
            hosted.close()


def _answer(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "value", method(*args, **kwargs)
    except BrokenPipeError:
        raise
    except RtbenchError as error:
        if error.__cause__ is not None:
            traceback.print_exc()
        return "error", error
    except Exception as error:  # noqa: BLE001 - becomes the parent's WorkerFailed, traceback in the log
        traceback.print_exc()
        return "crash", "".join(traceback.format_exception_only(error)).strip()


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, which a paused one could not see to itself."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    faulthandler.enable()
    _die_with_parent()
    descriptor, host = sys.argv[1:]
    with Connection(int(descriptor)) as connection:
        serve(connection, host)
    if "torch" in sys.modules:  # which takes a second to end by itself
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
