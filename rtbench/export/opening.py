"""What the user named, opened in the export process: a model in its own framework, or a file that is an artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import UsageError
from rtbench.export.adopt_engine import adopt_engine
from rtbench.models import fake_model
from rtbench.models.tensorflow import is_address, is_exported, is_tensorflow
from rtbench.models.tensorflow.hub import downloaded
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing
from rtbench.terms import Framework

if TYPE_CHECKING:
    from rtbench.models.loaded import LoadedModel
    from rtbench.models.tensorflow.load import LoadedTensorFlow

PACKAGES: dict[Framework, tuple[str, ...]] = {"torch": ("torch",), "tensorflow": ("tensorflow-cpu", "tensorflow")}
ARTIFACTS = (".fake", ".engine", ".plan", ".onnx", ".tflite")
Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Opened:
    """`artifact`: of a file that is one already (.onnx, .tflite, .engine); `model`: to export, of any other; `logits`:
    the model's own outputs, where it has some, or its reference's; `close`: when they are no longer needed."""

    record: Model
    artifact: Artifact | None = None
    model: LoadedModel | LoadedTensorFlow | None = None
    logits: Logits | None = None
    close: Callable[[], None] = lambda: None


def framework_of(source: str) -> Framework | None:
    """The one that `source` is loaded with; None of a file that is an artifact already."""
    if Path(source).suffix in ARTIFACTS:
        return None
    return "tensorflow" if is_tensorflow(source) else "torch"


def open_source(source: str, options: ModelOptions, reference: str | None, threads: int) -> Opened:
    path = Path(source)
    if path.suffix == ".fake":
        script = fake_model.read_script(path)
        return Opened(*fake_model.adopt(path, script, options), logits=script.logits)
    if framework_of(source):
        model = load(source, options, threads)
        return Opened(model.record, model=model, logits=model.logits, close=model.close)
    own = load(reference, options, threads) if reference else None
    if own and own.record.undecided:
        raise UsageError(own.record.undecided, "say which with --arch")
    recipe = own.record.preprocessing if own else None
    adopted = _adopted(path, options, recipe)
    return Opened(*adopted, logits=own.logits, close=own.close) if own else Opened(*adopted)


def _adopted(path: Path, options: ModelOptions, recipe: Preprocessing | None) -> tuple[Model, Artifact]:
    if path.suffix == ".onnx":
        from rtbench.export.adopt import adopt_onnx

        return adopt_onnx(path, options, recipe)
    if path.suffix == ".tflite":
        from rtbench.export.adopt_tflite import adopt_tflite

        return adopt_tflite(path, options, recipe)
    return adopt_engine(path)


def load(source: str, options: ModelOptions, threads: int) -> LoadedModel | LoadedTensorFlow:
    """A model in its own framework, which alone is imported."""
    if is_tensorflow(source):
        from rtbench.models.tensorflow.load import load_exported, load_tensorflow

        path = downloaded(source) if is_address(source) else Path(source)
        return load_exported(path, options) if is_exported(path) else load_tensorflow(path, options)
    import torch

    from rtbench.models.load import load_model

    torch.set_num_threads(threads)
    return load_model(source, options)
