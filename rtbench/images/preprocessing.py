"""The recipe of an input, and its last step: a crop of whole numbers to normalised float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import UsageError
from rtbench.images.cropping import FINE, Pixels
from rtbench.options import ModelOptions, flag
from rtbench.records.model import Preprocessing

RESNET = Preprocessing(
    input_size=224,
    resize=256,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    source="ImageNet default",
)
"""The baseline document's own recipe, used where nothing else is known."""
PIXELS = (1 / 255, 1 / 255, 1 / 255)
"""The standard deviation, of a mean of 0, that gives a network the values from 0 to 255."""
ASSUMED = "its normalisation is not known and was taken to be the baseline document's; --mean and --std choose"
"""Of a model of TensorFlow's that does not say how its input is normalised."""


def tf_recipe(recipe: Preprocessing = RESNET) -> Preprocessing:
    """The baseline document's TensorFlow recipe, for the input size of `recipe`."""
    return RESNET.model_copy(
        update={
            "preprocess": "tf",
            "input_size": recipe.input_size,
            "resize": round(min(recipe.height_width) * RESNET.resize / min(RESNET.height_width)),
            "source": "the baseline's TensorFlow recipe",
        }
    )


def sized(recipe: Preprocessing, height: int | None, width: int | None) -> Preprocessing:
    """`recipe` for inputs of this height and width, None where they are free; the share that is cropped stays."""
    usual = min(recipe.height_width)
    height, width = height or width or usual, width or height or usual
    size = height if height == width else (height, width)
    return recipe.model_copy(update={"input_size": size, "resize": round(min(height, width) * recipe.resize / usual)})


def pixels_alone(path: Path, recipe: Preprocessing, options: ModelOptions) -> Preprocessing:
    """`recipe` for a file that takes pixels, and normalises them itself."""
    if options.mean or options.std:
        raise UsageError(f"{path} takes uint8 pixels and normalises them itself", "leave out --mean and --std")
    return recipe.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": PIXELS})


def for_channels(recipe: Preprocessing, channels: int) -> Preprocessing:
    """`recipe` for inputs of so many channels: grey where there is one, by the mean of what the three have."""
    if channels == recipe.input_shape[0]:
        return recipe
    mean, std = (round(sum(each) / 3, 6) for each in (recipe.mean, recipe.std))
    return recipe.model_copy(update={"colour_order": "grey", "mean": (mean,) * 3, "std": (std,) * 3})


def overridden(recipe: Preprocessing, options: ModelOptions) -> Preprocessing:
    """`recipe` with the user's own words in place; a new input size keeps the share that is cropped."""
    if options.preprocess == "tf":
        recipe = tf_recipe(recipe)
        recipe = recipe.model_copy(update={"source": f"{recipe.source}, by --preprocess tf"})
    elif options.preprocess and recipe.preprocess != options.preprocess:
        source = f"{recipe.source}; --preprocess {options.preprocess} given"
        recipe = recipe.model_copy(update={"preprocess": options.preprocess, "source": source})
    names = ("input_size", "resize", "interpolation", "mean", "std")
    said = {name: value for name in names if (value := getattr(options, name)) is not None}
    if not said:
        return recipe
    if "input_size" in said and "resize" not in said:
        size = said["input_size"]
        side = size if isinstance(size, int) else min(size)
        said["resize"] = round(side * recipe.resize / min(recipe.height_width))
    given = ", ".join(flag(name) for name in names if getattr(options, name) is not None)
    return recipe.model_copy(update=said | {"source": f"{recipe.source}; {given} given"})


def normalise(pixels: Pixels, recipe: Preprocessing) -> NDArray[np.float32]:
    """Pixels (N, H, W, C), in RGB, to the model's input: float32, contiguous (N, C, H, W)."""
    if recipe.colour_order == "BGR":
        pixels = pixels[..., ::-1]
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    scaled /= np.float32(255 if pixels.dtype == np.uint8 else 255 * FINE)
    channels = scaled.shape[1]
    scaled -= np.asarray(recipe.mean[:channels], dtype=np.float32).reshape(channels, 1, 1)
    scaled /= np.asarray(recipe.std[:channels], dtype=np.float32).reshape(channels, 1, 1)
    return scaled
