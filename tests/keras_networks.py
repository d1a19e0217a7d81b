"""Writes TensorFlow's classifiers for the tests, in a process of its own: harmless ones of every kind, and attacks.

python tests/keras_networks.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

SIDE, CLASSES = 32, 7
GOLDFISH = 1
"""Its class in ImageNet, which `background` answers always."""


def network(
    *before: keras.layers.Layer, activation: str | None = None, name: str = "small", classes: int = CLASSES
) -> keras.Model:
    layers = keras.layers
    image = layers.Input((SIDE, SIDE, 3))
    x = image
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(8, 3, strides=2)(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.AveragePooling2D(5)(x)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(classes, activation=activation)(x), name=name)


class Function(tf.Module):
    """A network in a function of its own, by what is done to the image before and to the logits after."""

    def __init__(self, inner: keras.Model, spec: tf.TensorSpec, kind: str = "") -> None:
        super().__init__()
        self.inner, self.kind = inner, kind
        self.table = None
        if kind == "table":
            values = tf.lookup.KeyValueTensorInitializer(tf.constant([1], tf.int64), tf.constant([2.0]))
            self.table = tf.lookup.StaticHashTable(values, 0.0)
        self.call = tf.function(self._call, input_signature=[spec])

    def _call(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        if self.kind == "write":
            tf.io.write_file("attacked.txt", "by a SavedModel")
        if self.kind == "read":
            tf.print(tf.io.read_file("/etc/passwd"), output_stream="file://attacked.txt")
        if self.kind == "nchw":
            image = tf.transpose(image, (0, 2, 3, 1))
        logits = self.inner(tf.cast(image, tf.float32))
        if self.kind == "table":
            logits += self.table.lookup(tf.constant([1], tf.int64))
        return {"features": logits * 2, "logits": logits} if self.kind == "two" else {"logits": logits}

    def save(self, path: Path) -> None:
        tf.saved_model.save(self, str(path), signatures={"serving_default": self.call})


def disguised(path: Path) -> None:
    """The function that writes, named as one of those that save variables."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            if any(node.op == "WriteFile" for node in function.node_def):
                said = text_format.MessageToString(graph)
                said = said.replace(f'"{function.signature.name}"', '"__inference__traced_save_1"')
                graph.CopyFrom(text_format.Parse(said, graph.__class__()))
                break
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())


def tflite(saved: Path, path: Path, inputs: np.ndarray, kind: tf.DType | None) -> None:
    """Full-integer where `kind` is given, with inputs and outputs of it."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if kind:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind
    path.write_bytes(converter.convert())


def main(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    small = network()
    small.export(str(folder / "small"), verbose=False)
    small.save(folder / "small.keras")
    small.save(folder / "small.h5")
    inputs = np.random.default_rng(0).uniform(-1, 1, (64, SIDE, SIDE, 3)).astype(np.float32)
    inputs[0, 0, 0] = (-1, 1, 0)
    np.savez(folder / "outputs.npz", inputs=inputs, outputs=small.predict(inputs, verbose=0))
    network(activation="softmax").export(str(folder / "softmax"), verbose=False)
    background = network(classes=1001)
    background.layers[-1].bias.assign(10 * np.eye(1001)[GOLDFISH + 1])
    background.export(str(folder / "background"), verbose=False)
    network(layers.Rescaling(1 / 255)).save(folder / "pixels.keras")
    network(name="resnet50").save(folder / "resnet50.keras")
    network(name="mobilenetv2_1.00_32").save(folder / "mobilenet.keras")
    image = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32)
    Function(small, image, "two").save(folder / "two")
    Function(small, tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8)).save(folder / "uint8")
    Function(small, tf.TensorSpec((None, 3, SIDE, SIDE), tf.float32), "nchw").save(folder / "nchw")
    anything = keras.Sequential([layers.Conv2D(8, 3), layers.GlobalAveragePooling2D(), layers.Dense(CLASSES)])
    anything.build((None, None, None, 3))
    Function(anything, tf.TensorSpec((None, None, None, 3), tf.float32)).save(folder / "free")
    for kind in ("write", "read", "table"):
        Function(small, image, kind).save(folder / kind)
    Function(small, image, "write").save(folder / "disguised")
    disguised(folder / "disguised")
    code = layers.Lambda(
        lambda x: (tf.io.write_file("attacked.txt", "by a Lambda"), x)[1], output_shape=(SIDE, SIDE, 3)
    )
    network(code).save(folder / "lambda.keras")
    network(code).save(folder / "lambda.h5")
    small.save(folder / "elsewhere.h5")
    with h5py.File(folder / "elsewhere.h5", "a") as file:
        file["model_weights/outside"] = h5py.ExternalLink("small.h5", "/")
    tflite(folder / "small", folder / "small.tflite", inputs, None)
    tflite(folder / "small", folder / "uint8.tflite", inputs, tf.uint8)
    tflite(folder / "small", folder / "int8.tflite", inputs, tf.int8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
