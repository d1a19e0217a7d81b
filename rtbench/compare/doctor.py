"""What this machine can run, found by running it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rtbench.compare.prepared import Progress
from rtbench.errors import RuntimeUnavailable, WorkerFailed
from rtbench.runtimes.known import RUNTIMES
from rtbench.worker import Worker

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Finding:
    runtime: str
    ok: bool
    detail: str
    remedy: str


def examine(progress: Progress) -> list[Finding]:
    """A finding for every runtime and device, each looked at in a process of its own."""
    targets = [(name, device) for name, runtime in RUNTIMES.items() for device in runtime.devices]
    findings = []
    for done, (name, device) in enumerate(targets):
        progress(f"{name}:{device}", done, len(targets))
        findings.append(_examine(name, device))
    return findings


def _examine(name: str, device: str) -> Finding:
    written = f"{name}:{device}" if len(RUNTIMES[name].devices) > 1 else name
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "probe.log"
        try:
            with Worker("rtbench.measure.sessions:ProbeHost", log=log, timeout_s=TIMEOUT_S, threads=1) as worker:
                return Finding(written, True, str(worker.call("probe", name, device)), "")
        except RuntimeUnavailable as error:
            return Finding(written, False, error.message, error.remedy)
        except WorkerFailed as error:
            return Finding(written, False, error.message, "run it alone to see why")
