"""Waiting for a machine that others use."""

from __future__ import annotations

from rtbench.compare.prepared import Progress
from rtbench.measure.conditions import Judge
from rtbench.measure.monitor import Monitor
from rtbench.terms import WAITING


class Patience:
    """Waits for a machine that is disturbed to calm down, no longer than `seconds` in all."""

    def __init__(self, seconds: float, monitor: Monitor, judge: Judge, progress: Progress) -> None:
        self._seconds, self._monitor, self._judge, self._progress = seconds, monitor, judge, progress
        self._spent = 0.0
        self._told: dict[tuple[str, str], str] = {}

    def spend(self, seconds: float) -> None:
        """Count what repeating a disturbed round has taken."""
        self._spent += seconds

    def wait(self) -> bool:
        """Whether the machine is calm now, or became so while there was patience left."""
        phase = None
        while self._spent < self._seconds:
            seen, busiest = self._monitor.look()
            self._spent += seen.wall_s
            disturbance = self._judge.disturbance(seen)
            if not disturbance:
                return True
            whom = f"{busiest}, which keeps {max(seen.other_s, 0) / seen.wall_s:.1f} of {self._judge.cores} cores busy"
            what = {"other processes": whom, "steal": "the host of this virtual machine (CPU steal)"}
            program = busiest.rpartition(" (process ")[0]  # a compiler is many processes
            cause = disturbance, program
            if phase is None or cause not in self._told:  # two that take turns are told once each
                phase = self._told.setdefault(cause, f"{WAITING} {what.get(disturbance, disturbance)}")
            self._progress(phase, int(self._spent), int(self._seconds))
        return False
