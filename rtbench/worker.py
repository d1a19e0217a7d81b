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
import gc
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rtbench.errors import RtbenchError, WorkerFailed, told

GRACE_S = 5.0
REPORT_S = 0.1
LOOKS = 10
"""How often, within its timeout, a child that may be silent for longer while it computes is looked at."""


@contextmanager
def _starting() -> Iterator[None]:
    """No more files, processes or memory, or no such interpreter: whatever keeps a child from its start is its own
    failure."""
    try:
        yield
    except OSError as error:
        raise WorkerFailed(f"a worker process cannot be started: {told(error)}") from error


class Worker:
    """The parent's end. `log` receives everything the child prints; `timeout_s` is the longest silence
    within a call before the child counts as hung and is killed, `busy_timeout_s` that of a child which computes
    meanwhile, where it may take longer. A child that is not `timed` has OpenMP's threads sleep between their tasks
    instead of spin, which on a busy machine is several times as fast. `python`: the interpreter of another
    environment, which has rtbench too."""

    @_starting()
    def __init__(
        self,
        host: str,
        *,
        log: Path,
        timeout_s: float,
        threads: int,
        busy_timeout_s: float | None = None,
        timed: bool = True,
        python: Path | None = None,
    ) -> None:
        self._timeout_s, self._busy_timeout_s = timeout_s, busy_timeout_s
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {"OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
        if not timed:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"
        with log.open("ab") as output, ExitStack() as undo:
            self._socket, theirs = socket.socketpair()
            undo.callback(self._socket.close)
            self._socket.settimeout(timeout_s)
            with theirs:
                self._process = subprocess.Popen(
                    [python or sys.executable, "-m", "rtbench.worker", str(theirs.fileno()), host],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=os.environ | environment,
                    start_new_session=True,  # Ctrl-C is the parent's to handle
                )
            undo.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, *args: Any, on_progress: Callable[..., None] | None = None, **kwargs: Any) -> Any:
        """The value of the hosted object's method.

        Raises the child's own RtbenchError, or WorkerFailed (any other exception there, a crash, a
        signal, silence for longer than the timeout); after WorkerFailed the child is gone.
        """
        self.begin(method, *args, **kwargs)
        return self.finish(on_progress)

    def begin(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Have the child start on a call; `finish` waits for its value."""
        self._method = method
        with self._answering(method):
            self._send((method, args, kwargs))

    def finish(self, on_progress: Callable[..., None] | None = None) -> Any:
        method = self._method
        while True:
            with self._answering(method):
                kind, payload = self._receive()
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

    @contextmanager
    def _answering(self, method: str) -> Iterator[None]:
        """Make a child that is silent for too long, or gone, a WorkerFailed."""
        try:
            yield
        except TimeoutError as silence:
            self.kill()
            raise WorkerFailed(f"{silence} in {method} and was killed", f"see {self._log}") from None
        except (EOFError, ConnectionError):
            raise WorkerFailed(f"{self._cause_of_death()} in {method}", f"see {self._log}") from None

    # The child's end is a Connection, which waits without end for the rest of a message and for room to write one:
    # so would the parent, of a child that is stopped half-way. Each message has its length before it.

    def _send(self, request: tuple[Any, ...]) -> None:
        message = pickle.dumps(request)
        try:
            self._socket.sendall(struct.pack("!i", len(message)) + message)
        except TimeoutError:
            raise TimeoutError(f"took no call for {self._timeout_s:g} s") from None

    def _receive(self) -> Any:
        (length,) = struct.unpack("!i", self._read(4))
        if length == -1:
            (length,) = struct.unpack("!Q", self._read(8))
        return pickle.loads(self._read(length))

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._await_more()
            more = self._socket.recv(min(count - len(data), 1 << 20))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def _await_more(self) -> None:
        """Return once the child has written something, or is gone; TimeoutError where it does not."""
        if self._busy_timeout_s is None:
            if not wait([self._socket], self._timeout_s):
                raise TimeoutError(f"gave no answer for {self._timeout_s:g} s")
            return
        began = idle_since = time.monotonic()
        used = _cpu_seconds(self.pid)
        while not wait([self._socket], self._timeout_s / LOOKS):
            before, used, now = used, _cpu_seconds(self.pid), time.monotonic()
            if used > before:
                idle_since = now
            if now - idle_since >= self._timeout_s:
                raise TimeoutError(f"did nothing for {self._timeout_s:g} s")
            if now - began >= self._busy_timeout_s:
                raise TimeoutError(f"gave no answer for {self._busy_timeout_s:g} s")

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
        self._socket.close()
        self.resume()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.close()

    def kill(self) -> None:
        """End the child at once; a call that another thread has under way raises WorkerFailed."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # it waits in the kernel, for a device or a disk that is gone
            self._process.wait(GRACE_S)

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "closed its connection, did not end and was killed"
        if code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _cpu_seconds(process: int) -> float:
    """CPU time of a process, 0 of one that has ended."""
    import psutil  # the child does without

    with suppress(psutil.Error, OSError):
        times = psutil.Process(process).cpu_times()
        return float(times.user + times.system)
    return 0.0


def seldom(report: Callable[..., None]) -> Callable[..., None]:
    """For what is done and of how many: at most every REPORT_S and at the end, since each wakes the parent."""
    told = 0.0

    def tell(*progress: Any) -> None:
        nonlocal told
        if progress[-2] == progress[-1] or time.monotonic() - told >= REPORT_S:
            report(*progress)
            told = time.monotonic()

    return tell


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
        getattr(hosted, "close", lambda: None)()


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
    gc.set_threshold(100_000)  # new objects, or looking for garbage takes a sixth of the import of PyTorch
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
