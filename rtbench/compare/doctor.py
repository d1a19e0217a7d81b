"""What this machine can run, found by running it."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rtbench import plugins
from rtbench.compare.prepared import Progress
from rtbench.errors import RuntimeUnavailable, WorkerFailed
from rtbench.measure.environment import available_cores
from rtbench.runtimes.known import FAKE, GROUP, Runtime, runtimes
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
    targets = [(name, device) for name, runtime in runtimes().items() if name != FAKE for device in runtime.devices]
    findings = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for done, finding in enumerate(pool.map(_examine, *zip(*targets, strict=True))):
            progress("look at runtimes", done + 1, len(targets))
            findings.append(finding)
    broken = plugins.installed(GROUP, Runtime)[1]
    return [*findings, *(Finding(name, False, why, "install its package again") for name, why in broken.items())]


def _examine(name: str, device: str) -> Finding:
    written = f"{name}:{device}" if len(runtimes()[name].devices) > 1 else name
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "probe.log"
        try:
            with Worker("rtbench.measure.sessions:ProbeHost", log=log, timeout_s=TIMEOUT_S, threads=1) as worker:
                return Finding(written, True, str(worker.call("probe", name, device)), "")
        except RuntimeUnavailable as error:
            return Finding(written, False, error.message, error.remedy)
        except WorkerFailed as error:
            return Finding(written, False, error.message, "run it alone to see why")
