"""How a row's artifact comes into a fresh process, in place of the one before."""

from __future__ import annotations

from dataclasses import dataclass

from rtbench.compare.exporting import BUSY_TIMEOUT_S
from rtbench.compare.held import as_held
from rtbench.compare.plan import Plan, PlannedRow
from rtbench.records.measurement import Startup
from rtbench.records.model import Artifact
from rtbench.runs.directory import RunDirectory
from rtbench.runtimes import SessionInfo
from rtbench.worker import Worker


@dataclass(frozen=True)
class Opening:
    """First `begin` and `await_ready`, which several rows may do side by side, then `open`, one after the other, since
    loading is timed."""

    plan: Plan
    directory: RunDirectory
    earlier: str
    """How the names of rows begin that another interpreter may run."""

    def begin(self, row: PlannedRow) -> None:
        """Start the process, and have it import the row's runtime."""
        row.close()
        place = self.plan.place
        slow = row.choice.device == "trt" or "compile" in row.choice.variants
        python = self.plan.options.against_python if row.id.startswith(self.earlier) else None
        row.worker = Worker(
            "rtbench.measure.sessions:SessionHost",
            log=self.directory.log(row.id),
            timeout_s=place.timeout_s,
            busy_timeout_s=max(BUSY_TIMEOUT_S, place.timeout_s) if slow else None,
            threads=place.threads,
            python=python,
        )
        row.fresh = True
        if python is None:  # an earlier rtbench has no such call
            runtime, device = row.choice.runtime.name, row.choice.device
            row.worker.begin("ready", runtime, device, self._artifact(row), row.prepared.model)
            row.importing = True

    def await_ready(self, row: PlannedRow) -> None:
        if row.importing:
            row.importing = False
            row.running.finish()

    def open(self, row: PlannedRow) -> tuple[SessionInfo, Startup]:
        if not row.fresh:
            self.begin(row)
        self.await_ready(row)
        row.fresh = False
        words = row.choice.words(row.record.precision)
        opened: tuple[SessionInfo, Startup] = row.running.call(
            "open",
            row.choice.runtime.name,
            row.choice.device,
            self._artifact(row),
            row.prepared.model,
            row.prepared.images.path,
            self.plan.place.threads,
            self.plan.options.trust_code,
            *([words] if words else []),  # which an earlier rtbench does not know
        )
        return opened

    def _artifact(self, row: PlannedRow) -> Artifact:
        assert row.record.artifact
        return as_held(row.record.artifact, self.directory.held)
