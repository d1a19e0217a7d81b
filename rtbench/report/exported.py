"""What an export made, as a terminal table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rtbench.export.tensorrt_library import caution
from rtbench.records.model import Artifact, EngineBuild, Model
from rtbench.report.visible import visible
from rtbench.terms import Precision

HEADERS = ("artifact", "MiB", "status", "agree %", "error", "file")


def render_exported(
    model: Model,
    folder: Path,
    artifacts: Sequence[Artifact],
    failures: Mapping[tuple[str, Precision], str],
    unavailable: Mapping[tuple[str, Precision], str],
) -> Group:
    """A line for each artifact with how it compares with the model; `error` is relative to the spread of
    the model's own outputs."""
    model, folder, artifacts = visible(model), visible(folder), visible(artifacts)
    failures, unavailable = visible(failures), visible(unavailable)
    table = Table(title=f"{model.name} in {folder}", title_justify="left", box=None, pad_edge=False)
    for header in HEADERS:
        table.add_column(header, justify="right" if header in ("MiB", "agree %", "error") else "left", no_wrap=True)
    remarks = []
    for artifact in artifacts:
        label = artifact.build.recipe.label if artifact.build else artifact.format
        name, check = f"{label}/{artifact.precision}", artifact.check
        fidelity = check.fidelity if check else None
        status = check.status if check else "built, not run" if artifact.build else "the model itself"
        table.add_row(
            name,
            f"{artifact.size_bytes / 2**20:.2f}",
            status,
            f"{100 * fidelity.top1_agreement:.1f}" if fidelity else "-",
            f"{fidelity.relative_error:.2g}" if fidelity and fidelity.relative_error is not None else "-",
            Path(artifact.path).name,
            style="red" if status in ("invalid", "failed") else "",
        )
        if artifact.build:
            remarks.append(f"{name}: {_built(artifact.build)}")
            remarks += [f"{name}: {said}" for said in [caution(artifact.build)] if said]
        if artifact.kept_fp32:
            remarks.append(
                f"{name}: kept in FP32, since values pass the range of FP16: {', '.join(artifact.kept_fp32)}"
            )
        if check and check.reason:
            remarks.append(f"{name} {check.status}: {check.reason}")
        if check and check.note:
            remarks.append(f"{name}: {check.note}")
        if fidelity and not fidelity.judged:
            remarks.append(f"{name}: fidelity {fidelity.verdict}")
    for status, style, missing in (("failed", "red", failures), ("unavailable", "yellow", unavailable)):
        for (kind, precision), reason in missing.items():
            table.add_row(f"{kind}/{precision}", "-", status, "-", "-", "-", style=style)
            remarks.append(f"{kind}/{precision} {status}: {reason}")
    return Group(table, *(Text(remark) for remark in [*remarks, *_spreads(artifacts)]))


def _built(build: EngineBuild) -> str:
    beside = f" on {build.gpu}, driver {build.driver}" if build.gpu else " without a GPU"
    return (
        f"built by {build.library} {build.library_version} for compute capability {build.compute_capability}{beside}"
        f" from {build.source}, recipe {build.recipe.name}, {build.seconds:.1f} s"
    )


def _spreads(artifacts: Sequence[Artifact]) -> list[str]:
    """How far repeated builds from one recipe differ in size."""
    lines = []
    groups: dict[str, list[int]] = {}
    for each in artifacts:
        if each.build:
            groups.setdefault(f"{each.build.recipe.label}/{each.precision}", []).append(each.size_bytes)
    for name, sizes in groups.items():
        if len(sizes) > 1:
            spread = (max(sizes) - min(sizes)) / min(sizes)
            lines.append(
                f"{name}: {len(sizes)} builds of {min(sizes) / 2**20:.2f} to {max(sizes) / 2**20:.2f} MiB"
                f" (spread {100 * spread:.2f} %)"
            )
    return lines
