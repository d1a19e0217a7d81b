"""A network that is loaded, and what running it shows of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rtbench.errors import UsageError
from rtbench.images.preprocessing import for_channels
from rtbench.models import require_classes
from rtbench.models.checkpoints import last_line
from rtbench.records.model import Model, Preprocessing
from rtbench.terms import Format


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run on the CPU and its record. `program` is what torch.export saved, if it was; `file` is
    what it was read from, but for a state dict."""

    record: Model
    kind: Format
    module: Callable[[torch.Tensor], Any]
    program: torch.export.ExportedProgram | None = None
    file: Path | None = None

    def close(self) -> None:
        """Nothing is kept outside of memory."""

    def save(self, target: Path) -> None:
        """As PyTorch saves it, or a copy of its file."""
        if self.kind == "state_dict":
            assert isinstance(self.module, torch.nn.Module)
            torch.save(self.module.state_dict(), target)
        elif self.file is None:
            assert self.program is not None
            torch.export.save(self.program, target)
        else:
            shutil.copyfile(self.file, target)

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's outputs, (N, classes), for one float32 NCHW batch."""
        with torch.inference_mode():
            return as_logits(self.module(torch.from_numpy(batch)))


def count_parameters(module: Any) -> int | None:
    """None where it has none of its own: a frozen graph has them as constants, folded into one another."""
    return sum(parameter.numel() for parameter in module.parameters()) or None


def as_logits(output: Any) -> NDArray[np.float32]:
    """A network's output as float32 on the host; UsageError where it is not one tensor of (N, classes)."""
    if isinstance(output, Mapping):
        output = output.get("logits", output)
    elif hasattr(output, "logits"):
        output = output.logits
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or not output.shape[1]:
        remedy = "its output must be (batch, classes)"
        if isinstance(output, (tuple, list, Mapping)):
            remedy = "wrap it in a module that returns the logits alone, and save that"
        raise UsageError(f"the model is not a classifier: its output is {_described(output)}", remedy)
    array: NDArray[np.float32] = output.detach().to("cpu", torch.float32).numpy()
    return array


def _described(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"of shape {list(output.shape)}"
    if isinstance(output, Mapping):
        return f"{len(output)} outputs: {', '.join(map(str, output))}"
    if isinstance(output, (tuple, list)):
        return f"{len(output)} outputs, {' and '.join(_described(each) for each in output[:3])}"
    return f"of type {type(output).__name__}"


def described(model: LoadedModel) -> LoadedModel:
    """Run the network twice: it must take its input size, and give the same (1, classes) each time."""
    model, choices = in_float32(model)
    model = _with_its_channels(model)
    recipe, source = model.record.preprocessing, model.record.source
    batch = np.random.default_rng(0).standard_normal((1, *recipe.input_shape), dtype=np.float32)
    try:
        logits, again = model.logits(batch), model.logits(batch)
    except UsageError:
        raise
    except Exception as error:  # it is the user's own code
        said = last_line(error)
        remedy = "give the right --input-size" if SIZES.search(said) else ""
        raise UsageError(f"{source} does not run on {_shown(recipe)}: {said}", remedy) from error
    require_classes(source, logits.shape[1])
    if not np.array_equal(logits, again, equal_nan=True) and not np.allclose(logits, again, rtol=1e-3, atol=1e-5):
        raise UsageError(
            f"{source} gives other outputs for the same input (dropout in training mode?)", "save it after eval()"
        )
    record = model.record.model_copy(
        update={
            "classes": logits.shape[1],
            "precision": "int8" if _is_quantised(model.module) else "fp32",
            "choices": [*model.record.choices, *choices],
        }
    )
    return replace(model, record=record)


def _with_its_channels(model: LoadedModel) -> LoadedModel:
    """The network's recipe for one channel where its first convolution has but one, and it takes no three."""
    record = model.record
    kernels = (weight for weight in getattr(model.module, "parameters", lambda: ())() if weight.ndim == 4)
    first = next(kernels, None)
    if first is None or first.shape[1] != 1 or record.preprocessing.colour_order != "RGB":
        return model
    grey = for_channels(record.preprocessing, 1)
    try:
        model.logits(np.zeros((1, *grey.input_shape), dtype=np.float32))
    except Exception:  # noqa: BLE001 - it is the user's own code, which is run again on three channels
        return model
    return replace(model, record=record.model_copy(update={"preprocessing": grey}))


def _shown(recipe: Preprocessing) -> str:
    height, width = recipe.height_width
    return f"a {height}x{width} input{' of one channel' if recipe.colour_order == 'grey' else ''}"


QUANTISED = ("quantized::", "quantized_decomposed.", "torch.ops.quantized.")
QUANTISED_MODULES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao.quantization")
SIZES = re.compile(r"\b(?:size|sizes|shape|shapes|dimension|channels|too small|too large)\b", re.IGNORECASE)
"""Of what errors speak that another input size may solve."""


def in_float32(model: LoadedModel) -> tuple[LoadedModel, list[str]]:
    """The network with the weights of half precision that a file may have made float32, as inputs are."""
    module = model.module
    if model.kind == "state_dict" or not isinstance(module, torch.nn.Module):
        return model, []
    stored = {str(each.dtype).removeprefix("torch.") for each in module.parameters() if each.is_floating_point()}
    stored -= {"float32"}
    if not stored:
        return model, []
    said = f"its weights are {' and '.join(sorted(stored))} in the file; rtbench computes in float32"
    return replace(model, module=module.float()), [said]


def _is_quantised(module: Any) -> bool:
    """Whether PyTorch has quantised the network itself, in eager mode, as TorchScript or by torch.export."""
    graph = getattr(module, "inlined_graph", None) or getattr(module, "graph", None)
    if graph is not None and any(mark in str(graph) for mark in QUANTISED):
        return True
    parts = module.modules() if isinstance(module, torch.nn.Module) else ()
    return any(type(part).__module__.startswith(QUANTISED_MODULES) for part in parts)
