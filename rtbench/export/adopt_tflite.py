"""A user's own .tflite file, taken as an artifact as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rtbench import artifacts
from rtbench.errors import UsageError, not_importable
from rtbench.images.apart import bounded_time
from rtbench.images.graph_input import CHANNELS, channels_last
from rtbench.images.preprocessing import ASSUMED, RESNET, for_channels, overridden, pixels_alone, sized, tf_recipe
from rtbench.models import require_classes
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing, safe_name
from rtbench.terms import LARGEST_SIDE, Precision, Triple

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise not_importable("ai-edge-litert", "litert", error) from error

FLOATS = (np.float32, np.float16)
WHOLE = (np.uint8, np.int8)
RANGES: tuple[tuple[tuple[float, float], Triple, Triple, str], ...] = (
    ((0, 255), (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255), "0 to 255"),
    ((0, 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "0 to 1"),
    ((-1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "-1 to 1"),
    ((-2.118, 2.64), RESNET.mean, RESNET.std, "-2.12 to 2.64, as ImageNet's mean and deviation give"),
)
"""What a quantised input can stand for, from darkest to brightest, and the normalisation that gives it."""
MOST_S = 60
"""Of the CPU's time that a file may take to load."""
MOST_TENSOR = 1 << 30
NEAR = 0.05
"""Of a range's width, by which the ends that were seen in calibrating may be off."""


def adopt_tflite(path: Path, options: ModelOptions, recipe: Preprocessing | None) -> tuple[Model, Artifact]:
    """The record of a TFLite classifier and the file as an artifact, in its own place.

    `recipe` is the reference model's. Without one, size and layout are read off the file, and the range of a quantised
    input off its scale. Raises UsageError for a file that LiteRT does not load, or that is not a classifier of images.
    """
    artifacts.require_file(path)
    interpreter, sources, outputs = _opened(path)
    source, output = _only(path, "input", sources), _output(path, outputs, options.output)
    shape = [int(side) for side in source["shape"]]
    if len(shape) != 4 or source["dtype"] not in (*FLOATS, *WHOLE):
        raise UsageError(f"{path} does not take one image of numbers", "convert an image classifier")
    batch, *sides = shape
    height, width, channels = sides if channels_last(shape) else (*sides[1:], sides[0])
    if channels not in CHANNELS:
        raise UsageError(f"{path} takes inputs of {channels} channels, not of 1 or 3", "convert an image classifier")
    known, choices = (recipe, []) if recipe else _recipe(path, source, options)
    known = for_channels(overridden(sized(known, height, width) if recipe is None else known, options), channels)
    if (height, width) != known.height_width:
        own = known.model_copy(update={"input_size": (height, width)}).size_text
        raise UsageError(f"{path} takes {own} inputs, not {known.size_text}", f"give --input-size {own}")
    classes = [int(side) for side in output["shape"]]
    if len(classes) != 2:
        raise UsageError(f"{path} is not a classifier: its output has shape {classes}")
    require_classes(str(path), classes[1])
    sha256 = artifacts.file_sha256(path)
    model = Model(
        name=safe_name(path.stem),
        source=str(path),
        arch=None,
        framework="tensorflow",
        sha256=sha256,
        parameters=None,
        classes=classes[1],
        preprocessing=known,
        choices=choices,
    )
    artifact = Artifact(
        path=str(path),
        format="tflite",
        precision=_precision(interpreter),
        size_bytes=artifacts.size_on_disk(path),
        sha256=sha256,
        made_from={"file": str(path)},
        tools={},
        dynamic_batch=False,
        batch=batch,
        output=output["name"],
    )
    return model, artifact


def _opened(path: Path) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """The file in LiteRT, its inputs and its outputs."""
    try:
        with bounded_time(MOST_S):
            interpreter = Interpreter(str(path), num_threads=1)
            _require_bounded(interpreter)
            interpreter.allocate_tensors()
            return interpreter, interpreter.get_input_details(), interpreter.get_output_details()
    except (ValueError, RuntimeError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"LiteRT does not load {path}: {said}", "convert it again") from error


def _require_bounded(interpreter: Any) -> None:
    """ValueError where a tensor is larger than any of an image classifier, or its name is not text."""
    for each in interpreter.get_tensor_details():
        size = math.prod(map(int, each["shape"])) * np.dtype(each["dtype"]).itemsize
        if size > MOST_TENSOR:
            raise ValueError(f"it claims a tensor of {size / 2**20:,.0f} MiB")
    for each in interpreter.get_input_details():
        shape = [int(side) for side in each["shape"]]
        if max(shape, default=1) > LARGEST_SIDE:
            raise ValueError(f"it takes inputs of shape {shape}")


def _only(path: Path, what: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    if len(details) != 1:
        raise UsageError(f"{path} has {len(details)} {what}s", f"convert a classifier with one {what}")
    return details[0]


def _output(path: Path, details: list[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    outputs = {each["name"]: each for each in details}
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"{path} has no output {wanted}", f"--output is one of {', '.join(outputs)}")
    if wanted is None and len(outputs) != 1:
        said = f"{path} has {len(outputs)} outputs: {', '.join(outputs)}"
        raise UsageError(said, "say with --output which has the classes")
    return outputs[wanted or next(iter(outputs))]


def _recipe(path: Path, source: dict[str, Any], options: ModelOptions) -> tuple[Preprocessing, list[str]]:
    """How the input is normalised as far as the file says, and what was taken."""
    scale, zero = source["quantization"]
    base = tf_recipe()
    if source["dtype"] in WHOLE and scale:
        ends = np.iinfo(source["dtype"])
        low, high = scale * (ends.min - zero), scale * (ends.max - zero)
        for (bottom, top), mean, std, said in RANGES:
            if max(abs(low - bottom), abs(high - top)) <= NEAR * (top - bottom):
                own = {"mean": mean, "std": std, "source": f"by the scale of its input, {said}"}
                return base.model_copy(update=own), []
        said = f"its input stands for {low:.3g} to {high:.3g}, which no usual normalisation gives"
        return base, [f"{said}; --mean, --std choose"]
    if source["dtype"] == np.uint8:
        return pixels_alone(path, base, options), ["it takes pixels from 0 to 255 and normalises them itself"]
    if options.mean or options.std or options.preprocess:
        return base, []
    return base, [ASSUMED]


def _precision(interpreter: Any) -> Precision:
    """By the type of most of its weights."""
    sizes: dict[Any, int] = {}
    for tensor in interpreter.get_tensor_details():
        if len(tensor["shape"]) > 1:
            sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + int(np.prod(tensor["shape"]))
    weights = max(sizes, key=lambda kind: sizes[kind], default=np.float32)
    return "int8" if weights in WHOLE else "fp16" if weights == np.float16 else "fp32"
