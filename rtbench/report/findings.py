"""What `doctor` found, as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rtbench.compare.doctor import Finding
from rtbench.errors import counted
from rtbench.records.run import Environment
from rtbench.report.visible import visible


def render_findings(findings: Sequence[Finding], environment: Environment) -> Group:
    findings, environment = visible(findings), visible(environment)
    table = Table(box=None, pad_edge=False)
    for header in ("runtime", "state", "what was found", "how to fix it"):
        table.add_column(header, overflow="fold")
    for finding in findings:
        state = Text("OK", style="green") if finding.ok else Text("unavailable", style="yellow")
        table.add_row(Text(finding.runtime), state, Text(finding.detail), Text(finding.remedy))
    gpu = environment.gpu
    memory = f"{environment.memory_mib / 1024:.0f} GiB" if environment.memory_mib else "memory not known"
    machine = f"{environment.cpu}, {counted(environment.cores, 'core')}, {memory}"
    found = f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver}" if gpu else "no NVIDIA GPU"
    return Group(Text(f"{machine}; {found}; Python {environment.python}"), table)
