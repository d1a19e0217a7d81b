"""From a photograph to a crop of whole numbers: the part of the recipe that decoding processes need.

They start in half the time without the records' validating library, so nothing here loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rtbench.images.image_set import as_grey, as_rgb, require_size

if TYPE_CHECKING:
    from rtbench.records.model import Preprocessing
    from rtbench.terms import Colours, Interpolation, Preprocess


class Geometry(NamedTuple):
    """What of a recipe the pixels of a crop depend on."""

    height: int
    width: int
    resize: int
    interpolation: Interpolation
    preprocess: Preprocess
    colour_order: Colours

    @classmethod
    def of(cls, recipe: Preprocessing) -> Geometry:
        colours: Colours = "grey" if recipe.colour_order == "grey" else "RGB"  # BGR is turned later
        return cls(*recipe.height_width, recipe.resize, recipe.interpolation, recipe.preprocess, colours)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a crop: height, width, channels."""
        return self.height, self.width, 3 if self.colour_order == "RGB" else 1


Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Grey levels: whole ones in uint8, or in units of 1/256 in uint16, since TensorFlow does not round."""
FINE = 256


def pixel_type(recipe: Preprocessing | Geometry) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype(np.uint16) if recipe.preprocess == "tf" else np.dtype(np.uint8)


def crop(image: Image.Image, recipe: Preprocessing | Geometry) -> Pixels:
    """The image resized and its centre cut out: (height, width, channels) of `pixel_type`. ValueError where it is so
    narrow that it would have too many pixels in between."""
    geometry = recipe if isinstance(recipe, Geometry) else Geometry.of(recipe)
    image = as_rgb(image) if geometry.colour_order == "RGB" else as_grey(image)
    if geometry.preprocess == "tf":
        return _tf_crop(image, geometry)
    return _torch_crop(image, geometry) if geometry.preprocess == "torch" else _squash_crop(image, geometry)


def _torch_crop(image: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    """The shorter side resized: the arithmetic of torchvision's Resize and CenterCrop on PIL images, pixel
    for pixel. For an input that is not square, it is resized until it covers the input's shape, as
    timm does it."""
    width, height = image.size
    filter = Image.Resampling[geometry.interpolation.upper()]
    if geometry.height != geometry.width:
        scale = max(side / length for side, length in zip(_resized(geometry), image.size, strict=True))
        return _resize_and_cut(image, (round(width * scale), round(height * scale)), geometry)
    short, long = min(width, height), max(width, height)
    scaled = int(geometry.resize * long / short)
    size = (geometry.resize, scaled) if width <= height else (scaled, geometry.resize)
    require_size(*size)
    side = geometry.height
    alone = width != height and height <= 2 * width  # Pillow resizes taller images down first, then across
    if alone and side <= geometry.resize and geometry.resize.bit_count() == 1:
        return _pixels(_crop_by_passes(image, size, side, filter))
    return _resize_and_cut(image, size, geometry)


def _squash_crop(image: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    """The whole image resized whatever its shape, as Hugging Face's processors and some of timm's recipes do."""
    return _resize_and_cut(image, _resized(geometry), geometry)


def _resized(geometry: Geometry) -> tuple[int, int]:
    """Width and height of the input's shape where its shorter side is `resize`."""
    shorter = min(geometry.height, geometry.width)
    return geometry.width * geometry.resize // shorter, geometry.height * geometry.resize // shorter


def _resize_and_cut(image: Image.Image, size: tuple[int, int], geometry: Geometry) -> NDArray[np.uint8]:
    require_size(*size)
    if size != image.size:
        image = image.resize(size, Image.Resampling[geometry.interpolation.upper()])
    wanted = geometry.width, geometry.height
    if any(length < side for length, side in zip(size, wanted, strict=True)):  # torchvision pads with black
        left, top = (max(0, (side - length) // 2) for length, side in zip(size, wanted, strict=True))
        padded = Image.new(image.mode, (max(size[0], wanted[0]), max(size[1], wanted[1])))
        padded.paste(image, (left, top))
        image = padded
    left, top = _margin(image.width, wanted[0]), _margin(image.height, wanted[1])
    return _pixels(image.crop((left, top, left + wanted[0], top + wanted[1])))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(height, width, channels)."""
    array: NDArray[np.uint8] = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def _crop_by_passes(image: Image.Image, size: tuple[int, int], side: int, filter: Image.Resampling) -> Image.Image:
    """The centre of an image resized to `size`, by Pillow's two passes one after the other, so that they leave out
    most of what is cut off. Where the shorter side of `size` is a power of two, the edges of a box along it are exact
    in float32, and every pixel is that of one resize and a crop."""
    (width, height), (left, top) = size, (_margin(length, side) for length in size)
    if width > height:
        across = image.resize((width, image.height), filter).crop((left, 0, left + side, image.height))
        above, below = (edge * image.height / height for edge in (top, top + side))
        return across.resize((side, side), filter, box=(0, above, side, below))
    before, behind = (edge * image.width / width for edge in (left, left + side))
    across = image.resize((side, image.height), filter, box=(before, 0, behind, image.height))
    return across.resize((side, height), filter).crop((0, top, side, top + side))


def _margin(length: int, side: int) -> int:
    return round((length - side) / 2.0)


def _tf_crop(image: Image.Image, geometry: Geometry) -> NDArray[np.uint16]:
    """The whole image squashed: tf.image.resize's bilinear, without antialiasing, then tf.image.central_crop. Float32
    throughout as there, then rounded to 1/256 of a grey level."""
    pixels = _pixels(image).astype(np.float32)
    width, height = _resized(geometry)
    upper, lower, down = _tf_taps(pixels.shape[0], height, (height - geometry.height) // 2, geometry.height)
    left, right, along = _tf_taps(pixels.shape[1], width, (width - geometry.width) // 2, geometry.width)
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
