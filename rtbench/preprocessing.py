"""The recipe of an input: photograph -> crop of whole numbers -> normalised float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtbench.images import as_rgb
from rtbench.records import Preprocessing

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
            "resize": round(recipe.input_size * RESNET.resize / RESNET.input_size),
            "source": "the baseline's TensorFlow recipe, by --preprocess tf",
        }
    )


Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey levels: whole ones in uint8, or in units of 1/256 in uint16, since TensorFlow does not round."""
FINE = 256


def pixel_type(recipe: Preprocessing) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype(np.uint16) if recipe.preprocess == "tf" else np.dtype(np.uint8)


def crop(image: Image.Image, recipe: Preprocessing) -> Pixels:
    """The image resized and its centre cut out: (input_size, input_size, 3), RGB, of `pixel_type`."""
    image = as_rgb(image)
    return _tf_crop(image, recipe) if recipe.preprocess == "tf" else _torch_crop(image, recipe)


def _torch_crop(image: Image.Image, recipe: Preprocessing) -> NDArray[np.uint8]:
    """The shorter side resized: the arithmetic of torchvision's Resize and CenterCrop on PIL images, pixel
    for pixel."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    scaled = int(recipe.resize * long / short)
    size = (recipe.resize, scaled) if width <= height else (scaled, recipe.resize)
    if size != image.size:
        image = image.resize(size, Image.Resampling[recipe.interpolation.upper()])
    side = recipe.input_size
    if min(image.size) < side:  # torchvision pads with black where the crop is larger than the image
        left, top = (max(0, (side - length) // 2) for length in image.size)
        padded = Image.new("RGB", (max(side, image.width), max(side, image.height)))
        padded.paste(image, (left, top))
        image = padded
    left = round((image.width - side) / 2.0)
    top = round((image.height - side) / 2.0)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _tf_crop(image: Image.Image, recipe: Preprocessing) -> NDArray[np.uint16]:
    """The whole image squashed to a square: tf.image.resize's bilinear, without antialiasing, then
    tf.image.central_crop. Float32 throughout as there, then rounded to 1/256 of a grey level."""
    pixels = np.asarray(image, dtype=np.float32)
    first = (recipe.resize - recipe.input_size) // 2
    upper, lower, down = _tf_taps(pixels.shape[0], recipe.resize, first, recipe.input_size)
    left, right, along = _tf_taps(pixels.shape[1], recipe.resize, first, recipe.input_size)
    down, along = down[:, None, None], along[None, :, None]

    def across(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        near: NDArray[np.float32] = rows[:, left]
        return near + (rows[:, right] - near) * along

    top, bottom = across(pixels[upper]), across(pixels[lower])
    fine: NDArray[np.uint16] = np.rint((top + (bottom - top) * down) * FINE).astype(np.uint16)
    return fine


def _tf_taps(
    length: int, resized: int, first: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For `count` of `resized` output positions from `first` on: the two inputs and the weight of the second."""
    scale = np.float32(length) / np.float32(resized)
    positions = np.arange(first, first + count, dtype=np.float32)
    at = (positions + np.float32(0.5)) * scale - np.float32(0.5)
    below = np.floor(at)
    low = np.maximum(below, 0).astype(np.intp)
    high = np.minimum(np.ceil(at), length - 1).astype(np.intp)
    return low, high, at - below


def normalise(pixels: Pixels, recipe: Preprocessing) -> NDArray[np.float32]:
    """Pixels (N, H, W, 3) to the model's input: float32, contiguous (N, 3, H, W)."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    scaled /= np.float32(255 if pixels.dtype == np.uint8 else 255 * FINE)
    scaled -= np.asarray(recipe.mean, dtype=np.float32).reshape(3, 1, 1)
    scaled /= np.asarray(recipe.std, dtype=np.float32).reshape(3, 1, 1)
    return scaled
