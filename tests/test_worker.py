"""The worker process, against a host that misbehaves in every way."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from rtbench.errors import RuntimeUnavailable, UsageError, WorkerFailed
from rtbench.worker import Worker, seldom

HOST = f"{__name__}:Misbehaving"
CONNECTION = int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else -1
"""In the child: its end of the connection."""


class Misbehaving:
    """Lives in the child."""

    def __init__(self, report):
        self.report = report

    def add(self, first, second=0):
        print("printed by the child")
        return first + second

    def count(self, total):
        for done in range(total):
            self.report("counting", done + 1, total)
        return total

    def unavailable(self):
        raise RuntimeUnavailable("no driver", "install it")

    def divide(self):
        return 1 / 0

    def exit(self):
        os._exit(3)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def segfault(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def sleep(self):
        time.sleep(600)

    def pid(self):
        return os.getpid()

    def compute(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "computed"

    def write_half(self):
        os.write(CONNECTION, struct.pack("!i", 1000) + b"half")
        os.kill(os.getpid(), signal.SIGSTOP)

    def hang_up(self):
        os.close(CONNECTION)
        time.sleep(600)

    def environment(self, name):
        return os.environ.get(name)

    def spin(self, threads):
        """Go on computing after the answer, as thread pools do: in C, so that all threads do at once."""
        for _ in range(threads):
            forever = ("sha256", b"", b"", 10**9)
            threading.Thread(target=hashlib.pbkdf2_hmac, args=forever, daemon=True).start()


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    workers = []

    def make(timeout_s=60.0, **how):
        worker = Worker(HOST, log=tmp_path / "worker.log", timeout_s=timeout_s, threads=1, **how)
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close()


def test_values_come_back_and_prints_go_to_the_log(start, tmp_path):
    worker = start()
    assert worker.call("add", 2, second=3) == 5
    assert worker.call("add", 4) == 4
    worker.close()
    assert (tmp_path / "worker.log").read_text().count("printed by the child") == 2


def test_progress_arrives_in_order_before_the_value(start):
    seen = []
    assert start().call("count", 3, on_progress=lambda *each: seen.append(each)) == 3
    assert seen == [("counting", 1, 3), ("counting", 2, 3), ("counting", 3, 3)]


def test_progress_is_seldom_told_but_at_first_and_at_the_end(monkeypatch):
    now, told = 100.0, []
    monkeypatch.setattr("rtbench.worker.time", SimpleNamespace(monotonic=lambda: now))
    tell = seldom(lambda *progress: told.append(progress))
    for done in range(1, 31):
        tell("outputs", done, 30)
        now += 0.03
    assert told == [("outputs", done, 30) for done in (1, 5, 9, 13, 17, 21, 25, 29, 30)]


def test_the_childs_own_error_is_raised_and_the_child_lives_on(start):
    worker = start()
    with pytest.raises(RuntimeUnavailable) as caught:
        worker.call("unavailable")
    assert (caught.value.message, caught.value.remedy) == ("no driver", "install it")
    assert worker.call("add", 1) == 1


def test_a_bug_keeps_its_traceback_in_the_log(start, tmp_path):
    with pytest.raises(WorkerFailed, match="ZeroDivisionError"):
        start().call("divide")
    assert "return 1 / 0" in (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize(
    ("method", "words"),
    [("exit", "exited with code 3"), ("kill", r"SIGKILL \(out of memory\?\)"), ("segfault", "SIGSEGV")],
)
def test_death_is_told_with_its_cause(start, method, words):
    with pytest.raises(WorkerFailed, match=words):
        start().call(method)


def test_a_hung_child_is_killed(start):
    worker = start(timeout_s=2.0)  # whether it has come to the call by then or not
    with pytest.raises(WorkerFailed, match="no answer for 2 s in sleep"):
        worker.call("sleep")
    assert not psutil.pid_exists(worker.pid)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


@pytest.mark.parametrize("size", [10, 10_000_000], ids=["small", "more than a pipe holds"])
@pytest.mark.parametrize("busy_timeout_s", [None, 600.0])
def test_a_child_that_is_stopped_from_outside_is_killed(start, size, busy_timeout_s):
    worker = start(timeout_s=1.0, busy_timeout_s=busy_timeout_s)
    pid = worker.call("pid")
    stop(pid)
    with pytest.raises(WorkerFailed, match="for 1 s in add and was killed"):
        worker.call("add", bytes(size), second=b"")
    assert not psutil.pid_exists(pid)


def test_a_child_that_is_stopped_before_its_first_call_is_killed(start):
    worker = start(timeout_s=1.0)
    stop(worker.pid)
    with pytest.raises(WorkerFailed, match="no answer for 1 s in add"):
        worker.call("add", 1)
    assert not psutil.pid_exists(worker.pid)


def test_a_child_that_is_stopped_between_two_messages_is_killed(start):
    worker = start(timeout_s=1.0, busy_timeout_s=600.0)
    with pytest.raises(WorkerFailed, match="did nothing for 1 s in count"):
        worker.call("count", 1000, on_progress=lambda *_: os.kill(worker.pid, signal.SIGSTOP))


@pytest.mark.parametrize("busy_timeout_s", [None, 600.0])
def test_a_child_that_is_stopped_in_the_middle_of_a_message_is_killed(start, busy_timeout_s):
    worker = start(timeout_s=1.0, busy_timeout_s=busy_timeout_s)
    with pytest.raises(WorkerFailed, match="for 1 s in write_half"):
        worker.call("write_half")
    assert not psutil.pid_exists(worker.pid)


def test_a_child_that_computes_may_be_silent_for_longer(start):
    worker = start(timeout_s=1.0, busy_timeout_s=600.0)
    assert worker.call("compute", 2.5) == "computed"
    with pytest.raises(WorkerFailed, match="did nothing for 1 s in sleep"):
        worker.call("sleep")


def test_a_child_that_computes_without_end_is_killed_too(start):
    with pytest.raises(WorkerFailed, match="no answer for 2 s in compute"):
        start(timeout_s=1.0, busy_timeout_s=2.0).call("compute", 600)


def test_a_child_that_hangs_up_without_ending_is_killed(start, monkeypatch):
    monkeypatch.setattr("rtbench.worker.GRACE_S", 0.5)
    worker = start()
    with pytest.raises(WorkerFailed, match="closed its connection, did not end and was killed in hang_up"):
        worker.call("hang_up")
    assert not psutil.pid_exists(worker.pid)


def test_closing_ends_a_child_that_is_stopped_again(start, monkeypatch):
    worker = start()
    worker.call("add", 1)
    stop(worker.pid)
    with monkeypatch.context() as patch:
        patch.setattr("rtbench.worker.GRACE_S", 0.5)
        patch.setattr(Worker, "resume", lambda _: None)
        worker.close()
    assert not psutil.pid_exists(worker.pid)


def test_a_paused_child_stands_still_until_resumed(start):
    worker = start()
    process = psutil.Process(worker.call("pid"))
    worker.pause()
    assert process.status() == psutil.STATUS_STOPPED
    worker.resume()
    assert worker.call("add", 1) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the clock of another process is Linux's")
def test_no_thread_runs_on_once_pause_has_returned(start):
    worker = start()
    clock = (~worker.pid << 3) | 2
    worker.call("spin", 2)
    for _ in range(20):
        before = time.clock_gettime_ns(clock)
        while time.clock_gettime_ns(clock) - before < 2_000_000:  # it spins
            pass
        worker.pause()
        stopped = time.clock_gettime_ns(clock)
        time.sleep(0.01)
        assert time.clock_gettime_ns(clock) == stopped
        worker.resume()
    assert worker.call("add", 1) == 1


def test_pausing_a_child_that_has_died_is_no_error(start):
    worker = start()
    with pytest.raises(WorkerFailed):
        worker.call("exit")
    worker.pause()
    worker.resume()
    with pytest.raises(WorkerFailed):
        worker.call("add", 1)


def test_another_interpreter_can_host_it(start, tmp_path):
    """One in whose environment the answer is another."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexport SOURCE=elsewhere\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert start().call("environment", "SOURCE") is None
    assert start(python=python).call("environment", "SOURCE") == "elsewhere"


def test_closing_ends_a_paused_child(start):
    worker = start()
    pid = worker.call("pid")
    worker.pause()
    worker.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_paused_child_dies_with_its_parent(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from rtbench.worker import Worker;"
        f"worker = Worker('{HOST}', log=Path('{tmp_path}/log'), timeout_s=60, threads=1);"
        "print(worker.call('pid'), flush=True); worker.pause(); os.kill(os.getpid(), 9)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    pid = int(parent.stdout)
    while _runs(pid):  # until the time limit of every test
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_error_survives_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(UsageError("it is empty", "fill it")))
    assert isinstance(error, UsageError)
    assert str(error) == "it is empty; fill it"
