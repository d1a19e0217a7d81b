"""Exporters that other packages bring: each makes artifacts of one format, as a runtime of theirs takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rtbench import plugins
from rtbench.errors import UsageError
from rtbench.records.model import Model
from rtbench.terms import Format, Precision

GROUP = "rtbench.exporters"
OWN: tuple[Format, ...] = ("onnx", "onnx_trt", "tflite", "engine")
"""The formats that rtbench itself exports to."""


@dataclass(frozen=True)
class Exporter:
    """`name` is the format's: of small letters, digits and `_`."""

    name: str
    module: str
    suffix: str
    """Of its files, with the dot."""
    precisions: tuple[Precision, ...]
    source: Literal["onnx", "torch"]
    """What it is given: the path of the ONNX in FP32, or the loaded network."""
    packages: tuple[str, ...] = ()
    """Those that its artifacts depend on: another version makes them anew."""


class ExporterModule(Protocol):
    """What the module of an exporter offers."""

    @staticmethod
    def export(
        source: Any, model: Model, precision: Precision, images: Iterator[NDArray[np.float32]], path: Path
    ) -> Mapping[str, Any]:
        """Write the artifact at `path`; ExportFailed where the model cannot be turned into one.

        `source` is a path or a network in evaluation mode, by `Exporter.source`; `images` are inputs to calibrate with,
        (1, C, H, W) each. Gives what else the manifest says, as `{"dynamic_batch": False}`.
        """


def exporters() -> Mapping[str, Exporter]:
    return plugins.installed(GROUP, Exporter)[0]


def require_format(name: Format) -> None:
    """UsageError for a format that nothing here exports to."""
    if name in OWN or name in exporters():
        return
    broken = plugins.installed(GROUP, Exporter)[1]
    if name in broken:
        raise UsageError(f"the exporter {name} is broken: {broken[name]}", "install its package again")
    raise UsageError(f"there is no format {name!r}", f"there are {', '.join(['onnx', 'trt', 'tflite', *exporters()])}")


def load_exporter(name: Format) -> ExporterModule:
    return cast(ExporterModule, import_module(exporters()[name].module))
