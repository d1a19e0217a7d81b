"""The recipe of an input: photograph -> uint8 crop -> normalised float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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


def crop(image: Image.Image, recipe: Preprocessing) -> NDArray[np.uint8]:
    """The shorter side resized, the centre cut out: uint8, (input_size, input_size, 3), RGB.

    The arithmetic is that of torchvision's Resize and CenterCrop on PIL images, pixel for pixel.
    """
    image = image.convert("RGB")
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


def normalise(pixels: NDArray[np.uint8], recipe: Preprocessing) -> NDArray[np.float32]:
    """uint8 (N, H, W, 3) to the model's input: float32, contiguous (N, 3, H, W)."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    scaled /= np.float32(255)
    scaled -= np.asarray(recipe.mean, dtype=np.float32).reshape(3, 1, 1)
    scaled /= np.asarray(recipe.std, dtype=np.float32).reshape(3, 1, 1)
    return scaled
