"""The processes that make artifacts: they may be silent for long, as long as they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from rtbench.compare.prepared import Place, Progress
from rtbench.errors import WorkerFailed
from rtbench.options import PrepareOptions
from rtbench.records.model import Artifact, Model
from rtbench.worker import Worker

BUSY_TIMEOUT_S = 3600.0
"""An exporter or a builder may be silent for as long while it computes."""


def build_worker(host: str, log: Path, place: Place, *, timed: bool = True) -> Worker:
    longest = max(place.timeout_s, BUSY_TIMEOUT_S)
    return Worker(host, log=log, timeout_s=place.timeout_s, busy_timeout_s=longest, threads=place.threads, timed=timed)


class Exporting:
    """The export process, started again with the model loaded where a call has killed it."""

    def __init__(
        self, source: str, options: PrepareOptions, reference: str | None, place: Place, progress: Progress
    ) -> None:
        self._load_arguments = (source, options, reference, place.threads)
        self._place, self._progress = place, progress
        self._on_onnx: Worker | None = None
        self._worker = self._start()

    def load(self) -> tuple[Model, Artifact | None]:
        try:
            return cast("tuple[Model, Artifact | None]", self.call("load", *self._load_arguments))
        except WorkerFailed as error:
            raise WorkerFailed(
                f"the process that read {self._load_arguments[0]} {error.message}", error.remedy
            ) from None

    def take(self, options: PrepareOptions) -> tuple[Model, Artifact | None]:
        """Load the same source by other options."""
        source, _, reference, threads = self._load_arguments
        self._load_arguments = (source, options, reference, threads)
        return self.load()

    def call(self, method: str, *args: object) -> Any:
        try:
            return self._worker.call(method, *args, on_progress=self._progress)
        except WorkerFailed:
            self._worker.close()
            self._worker = self._start()
            if method != "load":
                self.load()
            raise

    def call_on_onnx(self, *args: object) -> Any:
        """A call of the process that makes TFLite of the ONNX of PyTorch's models, ended where a call has killed it."""
        if self._on_onnx is None:
            host, log = "rtbench.export.from_onnx:FromOnnx", self._place.logs / "export-tflite.log"
            self._on_onnx = build_worker(host, log, self._place, timed=False)
        try:
            return self._on_onnx.call("export", *args, on_progress=self._progress)
        except WorkerFailed:
            self._on_onnx.close()
            self._on_onnx = None
            raise

    def _start(self) -> Worker:
        host, log = "rtbench.export.exporter:Exporter", self._place.logs / "export.log"
        return build_worker(host, log, self._place, timed=False)

    def __enter__(self) -> Exporting:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._worker.close()
        if self._on_onnx:
            self._on_onnx.close()
