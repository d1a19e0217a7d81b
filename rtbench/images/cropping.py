"""From a photograph to a crop of whole numbers: the part of the recipe that decoding processes need.

They start in half the time without the records' validating library, so nothing here loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtbench.images.image_set import as_rgb

if TYPE_CHECKING:
    from rtbench.records.model import Preprocessing
    from rtbench.terms import Interpolation, Preprocess


class Geometry(NamedTuple):
    """What of a recipe the pixels of a crop depend on."""

    input_size: int
    resize: int
    interpolation: Interpolation
    preprocess: Preprocess

    @classmethod
    def of(cls, recipe: Preprocessing) -> Geometry:
        return cls(recipe.input_size, recipe.resize, recipe.interpolation, recipe.preprocess)


Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey levels: whole ones in uint8, or in units of 1/256 in uint16, since TensorFlow does not round."""
FINE = 256


def pixel_type(recipe: Preprocessing | Geometry) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype(np.uint16) if recipe.preprocess == "tf" else np.dtype(np.uint8)


def crop(image: Image.Image, recipe: Preprocessing | Geometry) -> Pixels:
    """The image resized and its centre cut out: (input_size, input_size, 3), RGB, of `pixel_type`."""
    image = as_rgb(image)
    return _tf_crop(image, recipe) if recipe.preprocess == "tf" else _torch_crop(image, recipe)


def _torch_crop(image: Image.Image, recipe: Preprocessing | Geometry) -> NDArray[np.uint8]:
    """The shorter side resized: the arithmetic of torchvision's Resize and CenterCrop on PIL images, pixel
    for pixel."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    scaled = int(recipe.resize * long / short)
    size = (recipe.resize, scaled) if width <= height else (scaled, recipe.resize)
    side, filter = recipe.input_size, Image.Resampling[recipe.interpolation.upper()]
    alone = width != height and height <= 2 * width  # Pillow resizes taller images down first, then across
    if alone and side <= recipe.resize and recipe.resize.bit_count() == 1:
        return _crop_by_passes(image, size, side, filter)
    if size != image.size:
        image = image.resize(size, filter)
    if min(size) < side:  # torchvision pads with black where the crop is larger than the image
        left, top = (max(0, (side - length) // 2) for length in size)
        padded = Image.new("RGB", (max(side, image.width), max(side, image.height)))
        padded.paste(image, (left, top))
        image = padded
    left, top = _margin(image.width, side), _margin(image.height, side)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _crop_by_passes(
    image: Image.Image, size: tuple[int, int], side: int, filter: Image.Resampling
) -> NDArray[np.uint8]:
    """The centre of an image resized to `size`, by Pillow's two passes one after the other, so that they leave out
    most of what is cut off. Where the shorter side of `size` is a power of two, the edges of a box along it are exact
    in float32, and every pixel is that of one resize and a crop."""
    (width, height), (left, top) = size, (_margin(length, side) for length in size)
    if width > height:
        across = image.resize((width, image.height), filter).crop((left, 0, left + side, image.height))
        above, below = (edge * image.height / height for edge in (top, top + side))
        return np.asarray(across.resize((side, side), filter, box=(0, above, side, below)))
    before, behind = (edge * image.width / width for edge in (left, left + side))
    across = image.resize((side, image.height), filter, box=(before, 0, behind, image.height))
    return np.asarray(across.resize((side, height), filter).crop((0, top, side, top + side)))


def _margin(length: int, side: int) -> int:
    return round((length - side) / 2.0)


def _tf_crop(image: Image.Image, recipe: Preprocessing | Geometry) -> NDArray[np.uint16]:
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
    fine: NDArray[np.uint16] = np.rint((top + (bottom - top) * down) * FINE).astype(np.uint16, order="C")
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
