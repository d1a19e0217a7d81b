"""Writes what TensorFlow itself makes of pictures by the baseline document's `preprocess_image`.

    python -m venv /tmp/tf && /tmp/tf/bin/pip install tensorflow-cpu==2.21.0 scikit-image
    /tmp/tf/bin/python tests/golden_tensorflow.py        # -> tests/data/golden_tensorflow.npz

Every STEP-th row and column of each output is kept, float32 as TensorFlow gives it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "data" / "golden_tensorflow.npz"
STEP = 9
SIZES = [(375, 500), (500, 375), (256, 256), (224, 300), (100, 61), (1, 1), (3, 1000), (513, 511)]


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Made pictures of (height, width) SIZES, uint8 RGB, and photographs of scikit-image."""
    from skimage import data

    made = {}
    for height, width in SIZES:
        generator = np.random.Generator(np.random.PCG64(1000 * height + width))
        slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 55, height)[:, None, None]
        noise = generator.integers(-60, 60, (height, width, 3))
        made[f"{height}x{width}"] = np.clip(slope * [1, 0.6, 0.3] + noise, 0, 255).astype(np.uint8)
    return made | {"chelsea": data.chelsea(), "rocket": data.rocket()}


def main() -> None:
    import tensorflow as tf

    def preprocess_image(image):
        image = tf.image.resize(image, (256, 256))
        image = tf.image.central_crop(image, 224 / 256)
        image = tf.cast(image, tf.float32)
        image = image / 255.0
        return (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    outputs = {name: preprocess_image(picture).numpy()[::STEP, ::STEP] for name, picture in pictures().items()}
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, tensorflow=tf.__version__, **outputs)


if __name__ == "__main__":
    main()
