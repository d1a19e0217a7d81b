"""How a row's artifact comes into a fresh process, in place of the one before."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from rtbench.compare.exporting import BUSY_TIMEOUT_S
from rtbench.compare.held import as_held
from rtbench.compare.plan import Plan, PlannedRow
from rtbench.errors import WorkerFailed
from rtbench.export.opening import framework_of
from rtbench.records.measurement import Startup
from rtbench.records.model import Artifact
from rtbench.runs.directory import RunDirectory
from rtbench.runtimes import SessionInfo
from rtbench.runtimes.known import OWN_RUNTIME, RuntimeChoice
from rtbench.worker import Worker


@dataclass(frozen=True)
class Opening:
    """First `begin` and `await_ready`, which several rows may do side by side, then `open`, one after the other, since
    loading is timed."""

    plan: Plan
    directory: RunDirectory
    earlier: str
    """How the names of rows begin that another interpreter may run."""
    early: dict[str, Worker] = field(default_factory=dict)
    """By the name of their row, processes that have not begun on it."""

    def begin_early(self, choices: Iterable[RuntimeChoice]) -> None:
        """Start the process of the model's own row: it imports the framework while the export process does too."""
        (source, *more), options = self.plan.sources, self.plan.options
        framework = framework_of(source)
        if framework is None or more:
            return
        named = options.arch or ("" if Path(source).exists() else source)
        for choice in choices:
            own = choice.is_reference and choice.runtime.name == OWN_RUNTIME[framework]
            if own and "fp32" in choice.precisions(options.precisions):
                name = f"{choice.written}/fp32"
                with suppress(WorkerFailed):  # the row says it, if it meets it too
                    worker = self._start(name, choice)
                    self.early[name] = worker
                    worker.begin("import_early", choice.runtime.name, named)

    def close(self) -> None:
        """End the early processes that no row has taken, at once: they may import still."""
        while self.early:
            _, worker = self.early.popitem()
            worker.kill()
            worker.close()

    def begin(self, row: PlannedRow) -> None:
        """Start the process, and have it import the row's runtime."""
        row.close()
        early = self._early(row.id)
        row.worker = early or self._start(row.id, row.choice)
        if early:
            early.finish()
        row.fresh = True
        if self._python(row.id) is None:  # an earlier rtbench has no such call
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

    def _early(self, row_id: str) -> Worker | None:
        worker = self.early.pop(row_id, None)
        if worker and psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE:  # killed while it waited
            worker.close()
            return None
        return worker

    def _start(self, row_id: str, choice: RuntimeChoice) -> Worker:
        place = self.plan.place
        slow = choice.device == "trt" or "compile" in choice.variants
        return Worker(
            "rtbench.measure.sessions:SessionHost",
            log=self.directory.log(row_id),
            timeout_s=place.timeout_s,
            busy_timeout_s=max(BUSY_TIMEOUT_S, place.timeout_s) if slow else None,
            threads=place.threads,
            python=self._python(row_id),
        )

    def _python(self, row_id: str) -> Path | None:
        return self.plan.options.against_python if row_id.startswith(self.earlier) else None

    def _artifact(self, row: PlannedRow) -> Artifact:
        assert row.record.artifact
        return as_held(row.record.artifact, self.directory.held)
