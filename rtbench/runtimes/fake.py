"""A runtime that follows a script, faults and clock included: the pipeline without heavy libraries."""

from __future__ import annotations

import os
import signal
import time
from itertools import cycle
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtbench import __version__
from rtbench.errors import RuntimeUnavailable
from rtbench.models.fake_model import FakeScript, read_script
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo


class FakeSession:
    def __init__(self, script: FakeScript) -> None:
        self._script = script
        self._durations = cycle([round(1e6 * duration) for duration in script.latency_ms])
        self._now = 0
        self._runs = 0
        self._awake_at = 0.0
        if script.sleep:
            signal.signal(signal.SIGCONT, self._resumed)
        self._noise = np.random.Generator(np.random.PCG64(11))
        self.scripted_clock: Clock | None = (lambda: self._now) if script.latency_ms else None
        scripted = bool(script.latency_ms)
        self.info = SessionInfo(provider=f"rtbench {__version__}", device=script.device, settings={}, scripted=scripted)
        self._misbehave("open")

    def bind(self, batch: NDArray[np.float32]) -> None:
        self._input = batch

    def run(self) -> None:
        self._misbehave("run")
        self._runs += 1
        if self._script.latency_ms:
            asleep = self._script.sleep if self._now < self._awake_at else None
            self._now += round(next(self._durations) * (asleep.slower if asleep else 1))

    def _resumed(self, *_: object) -> None:
        assert self._script.sleep
        self._awake_at = self._now + 1e6 * self._script.sleep.wakes_ms

    def fetch(self) -> NDArray[np.float32]:
        logits = self._script.logits(self._input)
        fault = self._script.fault
        if fault and fault.how == "nan" and self._runs > fault.after:
            logits[:] = np.nan
        noise = self._noise.standard_normal(logits.shape, dtype=np.float32)
        noise *= self._script.noise
        noise += logits
        return noise

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        pass

    def _misbehave(self, step: Literal["open", "run"]) -> None:
        fault = self._script.fault
        if fault is None or fault.step != step or self._runs < fault.after:
            return
        match fault.how:
            case "raise":
                raise ArithmeticError("scripted fault")
            case "exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(3600)
            case "eat":
                hoard: list[bytes] = []
                while True:
                    hoard.append(b"x" * 2**26)
            case "unavailable":
                raise RuntimeUnavailable("scripted to be unavailable", "change the script")
            case "nan":
                pass


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> FakeSession:
    return FakeSession(read_script(Path(artifact.path)))


def probe(device: str) -> str:
    return "scripted, for tests"
