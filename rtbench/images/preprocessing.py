"""The recipe of an input, and its last step: a crop of whole numbers to normalised float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def tf_recipe(recipe: Preprocessing) -> Preprocessing:
    """The baseline document's TensorFlow recipe, for the input size of `recipe`."""
    return RESNET.model_copy(
        update={
            "preprocess": "tf",
            "input_size": recipe.input_size,
            "resize": round(min(recipe.height_width) * RESNET.resize / min(RESNET.height_width)),
            "source": "the baseline's TensorFlow recipe, by --preprocess tf",
        }
    )


def for_channels(recipe: Preprocessing, channels: int) -> Preprocessing:
    """`recipe` for inputs of so many channels: grey where there is one, by the mean of what the three have."""
    if channels == recipe.input_shape[0]:
        return recipe
    mean, std = (round(sum(each) / 3, 6) for each in (recipe.mean, recipe.std))
    return recipe.model_copy(update={"colour_order": "grey", "mean": (mean,) * 3, "std": (std,) * 3})


def overridden(recipe: Preprocessing, options: ModelOptions) -> Preprocessing:
    """`recipe` with the user's own words in place; a new input size keeps the share that is cropped."""
    if options.preprocess == "tf" and recipe.preprocess != "tf":
        recipe = tf_recipe(recipe)
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
    """Pixels (N, H, W, C) to the model's input: float32, contiguous (N, C, H, W)."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    scaled /= np.float32(255 if pixels.dtype == np.uint8 else 255 * FINE)
    channels = scaled.shape[1]
    scaled -= np.asarray(recipe.mean[:channels], dtype=np.float32).reshape(channels, 1, 1)
    scaled /= np.asarray(recipe.std[:channels], dtype=np.float32).reshape(channels, 1, 1)
    return scaled
