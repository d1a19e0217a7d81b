"""What Keras has saved, looked through before Keras reads it, and exported to a SavedModel.

A file names the classes of its layers. It is harmless where all of them are Keras' own and compute: a Lambda is code,
and layers of text and tables read files.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

from rtbench.errors import UsageError, not_importable
from rtbench.images.apart import bounded_memory, bounded_time
from rtbench.images.preprocessing import PIXELS, tf_recipe
from rtbench.models.trust import NotShown, needs_trust
from rtbench.records.model import Preprocessing

try:
    import h5py
    import keras
except ImportError as error:
    raise not_importable("tensorflow", "tf", error) from error

PLACES = re.compile(
    r"keras(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|ops"
    r"|src\.(models\.(functional|sequential|model)|ops\.\w+)))?"
)
"""Modules of Keras whose classes compute."""
OUTSIDE = frozenset(
    (
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup"),
        *("TextVectorization", "Hashing", "HashedCrossing", "FeatureSpace", "function", "__lambda__"),
    )
)
"""Classes that run other code, or read files."""
PARTS = ("Functional", "__keras_tensor__", "__tensor__", "__numpy__")
HOMES = (keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints)
"""Where classes without a module are looked for."""
MOST_CONFIG = 1 << 26
MOST_MEMORY = 1 << 29
MOST_S = 8
"""What looking through a file may take: HDF5 makes room for whatever size one claims, and can go round in circles."""
DAMAGE = (
    *(OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError),
    *(RuntimeError, SystemError, MemoryError),
)
"""What reading a damaged archive or HDF5 file raises; the last two come from h5py."""
ARRANGED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (r"(resnet\d+|vgg\d+)", "BGR, means subtracted", {
        "colour_order": "BGR", "mean": (103.939 / 255, 116.779 / 255, 123.68 / 255), "std": PIXELS,
    }),
    (r"(mobilenet(v2)?_\d.*|resnet\d+v2|inception_.*|xception|(?i:nasnet).*)", "-1 to 1", {
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5),
    }),
    (r"densenet\d+", "ImageNet's mean and deviation", {}),
)  # fmt: skip
"""How keras.applications normalises the inputs of its networks, by the name of the network: `preprocess_input` of each
module. The others do so inside."""


def to_saved_model(path: Path, folder: Path, *, trust_code: bool) -> Preprocessing | None:
    """Export a `.keras` or `.h5` file to a SavedModel in `folder`: what is known of how its input is normalised.

    Raises UsageError where it is damaged, or runs code of its own while `trust_code` is false.
    """
    if not trust_code:
        try:
            _check(path)
        except NotShown as reason:
            raise needs_trust(path, "a Keras model", reason) from None
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not trust_code)
        model.export(str(folder), format="tf_saved_model", verbose=False)
    except Exception as error:  # Keras raises many kinds
        said = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise UsageError(f"{path} cannot be loaded by Keras {keras.__version__}: {said}", "save it again") from error
    return _recipe(model)


def _check(path: Path) -> None:
    try:
        with bounded_memory(MOST_MEMORY), bounded_time(MOST_S):
            config = _config(path)
    except DAMAGE as error:
        raise UsageError(f"{path} is damaged or not a Keras model", "save it again with model.save()") from error
    for part in _parts(config):
        name, place = part.get("class_name"), part.get("module")
        if place is not None and not PLACES.fullmatch(str(place)):
            raise NotShown(f"it has a {name!s:.80} of {place!s:.80}")
        if not isinstance(name, str) or name in OUTSIDE:
            raise NotShown(f"it has a {name!s:.80}")
        if part.get("registered_name") not in (None, name):
            raise NotShown(f"it has a {part['registered_name']!s:.80}")
        if place is None and name not in PARTS and not any(hasattr(each, name) for each in HOMES):
            raise NotShown(f"it has a {name:.80}")


def _config(path: Path) -> Any:
    """What the file says of its layers; NotShown where its weights are in other files.

    Which kind it is goes by its name, as in Keras: a file can be an archive and HDF5 at once.
    """
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
            if sum(sizes) > path.stat().st_size + MOST_CONFIG or archive.getinfo("config.json").file_size > MOST_CONFIG:
                raise NotShown("it unpacks to more than its own size")
            with archive.open("model.weights.h5") as weights, h5py.File(weights) as file:
                _check_weights(file)
            return json.loads(archive.read("config.json"))
    with h5py.File(path) as file:
        _check_weights(file)
        return json.loads(file.attrs["model_config"])


def _check_weights(file: Any) -> None:
    """HDF5 files can take what they hold from other files."""
    outside: list[str] = []

    def look(name: str) -> None:
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            outside.append(name)

    def visit(name: str, item: Any) -> None:
        dict(item.attrs)  # which Keras reads too, whatever size they claim
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            outside.append(name)

    file.visit_links(look)
    file.visititems(visit)
    dict(file.attrs)
    if outside:
        raise NotShown("some of its weights are in another file")


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Everything in a configuration that becomes an object."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _recipe(model: Any) -> Preprocessing | None:
    """How its input is normalised, where its layers or its name say so."""
    base = tf_recipe()
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            own = {"mean": (0.0, 0.0, 0.0), "std": PIXELS, "source": "the model's own layers normalise pixels"}
            return base.model_copy(update=own)
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            break
    names = [each.name for each in (model, *model._flatten_layers(include_self=False, recursive=True))]
    for pattern, said, how in ARRANGED:
        if name := next((each for each in names if re.fullmatch(pattern, each)), None):
            return base.model_copy(update=how | {"source": f"keras.applications normalises so for {name}: {said}"})
    return None
