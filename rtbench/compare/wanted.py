"""Which artifacts are to be made of a model, and whether something else is in their way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rtbench import artifacts
from rtbench.export.known import exporters
from rtbench.export.tensorrt import SOURCES
from rtbench.options import ArtifactOptions
from rtbench.records.model import Recipe
from rtbench.terms import Format, Precision

OWN_FORMATS: tuple[tuple[Format, Precision], ...] = (
    ("state_dict", "fp32"),
    ("pt2", "fp32"),
    ("pt2", "int8"),
    ("saved_model", "fp32"),
)
"""In which a model itself is kept."""


def wanted(
    formats: Collection[Format], precisions: Sequence[Precision], recipes: Sequence[Recipe]
) -> list[tuple[Format, Precision]]:
    """Everything to export but engines, each once: what was asked for, and what engines are built from."""
    found = _onnx_wanted(formats, precisions, recipes)
    if "tflite" in formats:
        found += [("tflite", precision) for precision in precisions if precision != "bf16"]
    others = [exporter for name, exporter in exporters().items() if name in formats]
    return found + [
        (each.name, precision) for each in others for precision in precisions if precision in each.precisions
    ]


def _onnx_wanted(
    formats: Collection[Format], precisions: Sequence[Precision], recipes: Sequence[Recipe]
) -> list[tuple[Format, Precision]]:
    """Every ONNX to write: those asked for and those that engines are built from, each once."""
    found: list[tuple[Format, Precision]] = []
    if "onnx" in formats:
        made: list[Precision] = ["fp32" if each == "bf16" else each for each in precisions]
        found += [("onnx", precision) for precision in dict.fromkeys(made)]
    if "onnx_trt" in formats and "int8" in precisions:
        found.append(("onnx_trt", "int8"))
    found += [SOURCES[recipe.precision] for recipe in recipes]
    return list(dict.fromkeys(found))


def require_ours(
    folder: Path, formats: Collection[Format], options: ArtifactOptions, recipes: Sequence[Recipe]
) -> None:
    """UsageError where something that rtbench has not made is in the way of what it is to write."""
    artifacts.require_own_model(folder)
    kinds = [*OWN_FORMATS, *wanted(formats, options.precisions, recipes)]
    suffixes = {name: exporter.suffix for name, exporter in exporters().items()}
    paths = [artifacts.artifact_path(folder, kind, each, suffix=suffixes.get(kind, "")) for kind, each in kinds]
    for recipe in recipes:
        for number in range(1, options.build_repeats + 1):
            paths.append(artifacts.artifact_path(folder, "engine", recipe.precision, number))
    artifacts.require_ours(paths)
