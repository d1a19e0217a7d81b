"""What an export made, as a terminal table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rtbench.records import Artifact, Model
from rtbench.terms import Format, Precision

HEADERS = ("artifact", "MiB", "status", "agree %", "error", "file")


def render_exported(
    model: Model,
    folder: Path,
    artifacts: Sequence[Artifact],
    failures: Mapping[tuple[Format, Precision], str],
) -> Group:
    """A line for each artifact with how it compares with the model; `error` is relative to the spread of
    the model's own outputs."""
    table = Table(title=f"{model.name} in {folder}", title_justify="left", box=None, pad_edge=False)
    for header in HEADERS:
        table.add_column(header, justify="right" if header in ("MiB", "agree %", "error") else "left", no_wrap=True)
    remarks = []
    for artifact in artifacts:
        name, check = f"{artifact.format}/{artifact.precision}", artifact.check
        fidelity = check.fidelity if check else None
        status = check.status if check else "the model itself"
        table.add_row(
            name,
            f"{artifact.size_bytes / 2**20:.2f}",
            status,
            f"{fidelity.top1_agreement:.1%}"[:-1] if fidelity else "-",
            f"{fidelity.relative_error:.2g}" if fidelity and fidelity.relative_error is not None else "-",
            Path(artifact.path).name,
            style="red" if status in ("invalid", "failed") else "",
        )
        if check and check.reason:
            remarks.append(f"{name} {check.status}: {check.reason}")
        if check and check.note:
            remarks.append(f"{name}: {check.note}")
        if fidelity and not fidelity.judged:
            remarks.append(f"{name}: fidelity {fidelity.verdict}")
    for (kind, precision), reason in failures.items():
        table.add_row(f"{kind}/{precision}", "-", "failed", "-", "-", "-", style="red")
        remarks.append(f"{kind}/{precision} failed: {reason}")
    return Group(table, *(Text(remark) for remark in remarks))
