"""From a SavedModel, or what Keras has saved, to a loaded network and the record of what it is."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images.graph_input import CHANNELS, GraphInput
from rtbench.images.preprocessing import ASSUMED, for_channels, overridden, pixels_alone, sized, tf_recipe
from rtbench.models import require_classes
from rtbench.models.tensorflow.saved_models import Network, open_saved_model
from rtbench.options import ModelOptions
from rtbench.records.model import Model, Preprocessing, safe_name
from rtbench.terms import Format

KINDS = frozenset({"float32", "float16", "uint8"})


@dataclass(frozen=True)
class LoadedTensorFlow:
    """A network ready to run on the CPU, its record, and the SavedModel that it is."""

    record: Model
    network: Network
    output: str
    folder: Path
    scratch: tempfile.TemporaryDirectory[str] | None = None
    """What `folder` is in, where it was made here."""
    kind: Format = "saved_model"

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's outputs, (N, classes), for one float32 NCHW batch."""
        return run(self.network, self.output, batch)

    def close(self) -> None:
        if self.scratch:
            self.scratch.cleanup()

    def save(self, folder: Path) -> None:
        for part in artifacts.parts(self.folder):
            copy = folder / part.relative_to(self.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, copy)


def run(network: Network, output: str, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    taken = GraphInput(network.kind, channels_last=network.channels_last).of(batch)
    array: NDArray[np.float32] = np.asarray(network(taken)[output], dtype=np.float32)
    return array


def load_tensorflow(path: Path, options: ModelOptions) -> LoadedTensorFlow:
    """Load a SavedModel's folder, a `.keras` or an `.h5` file.

    Raises UsageError for everything about it that the user can fix.
    """
    if path.is_dir():
        return _loaded(path, path, None, options)
    from rtbench.models.tensorflow.keras_files import to_saved_model

    artifacts.require_file(path)
    scratch = tempfile.TemporaryDirectory(prefix="rtbench-")
    try:
        folder = Path(scratch.name) / "model"
        known = to_saved_model(path, folder, trust_code=options.trust_code)
        return replace(_loaded(path, folder, known, options), scratch=scratch)
    except BaseException:
        scratch.cleanup()
        raise


def _loaded(path: Path, folder: Path, known: Preprocessing | None, options: ModelOptions) -> LoadedTensorFlow:
    """The model at `path`, whose SavedModel is `folder`."""
    network = open_saved_model(folder, trust_code=options.trust_code or folder != path)
    recipe, choices = _recipe(path, network, known, options)
    output = _output(path, network, options.output)
    batch = np.zeros((1, *recipe.input_shape), dtype=np.float32)
    try:
        logits = run(network, output, batch)
    except Exception as error:  # TensorFlow raises many kinds
        said = str(error).strip().splitlines()[0]
        raise UsageError(f"{path} does not run on {recipe.size_text} inputs: {said}", "give --input-size") from error
    if logits.ndim != 2:
        raise UsageError(f"{path} is not a classifier: its output has shape {list(logits.shape)}")
    require_classes(str(path), logits.shape[1])
    record = Model(
        name=safe_name(path.absolute().stem),
        source=str(path),
        arch=None,
        framework="tensorflow",
        sha256=artifacts.file_sha256(path),
        parameters=network.parameters,
        classes=logits.shape[1],
        preprocessing=recipe,
        choices=choices,
    )
    return LoadedTensorFlow(record, network, output, folder)


def load_exported(folder: Path, options: ModelOptions) -> LoadedTensorFlow:
    """The model that an artifact folder was exported from, out of the folder itself."""
    record = artifacts.load_model_record(folder)
    path = artifacts.artifact_path(folder, "saved_model", record.precision)
    manifest = artifacts.load_manifest(path) if path.exists() else None
    if manifest is None:
        raise UsageError(f"{folder} lacks the model itself ({path.name})", "export it again")
    if not artifacts.is_unchanged(path, manifest.sha256):
        raise UsageError(f"{path} is not what its manifest describes", "export the model again")
    network = open_saved_model(path, trust_code=options.trust_code)
    return LoadedTensorFlow(record, network, manifest.output or network.outputs[0], path)


def _recipe(
    path: Path, network: Network, known: Preprocessing | None, options: ModelOptions
) -> tuple[Preprocessing, list[str]]:
    if network.kind.name not in KINDS:
        known_kinds = " or ".join(sorted(KINDS))
        raise UsageError(f"{path} takes an input of {network.kind.name}", f"export it with {known_kinds}")
    _, *sides = network.shape
    height, width, channels = sides if network.channels_last else (*sides[1:], sides[0])
    if channels not in (*CHANNELS, None):
        raise UsageError(f"{path} takes inputs of {channels} channels, not of 1 or 3", "export an image classifier")
    recipe = sized(known or tf_recipe(), height, width)
    recipe, choices = for_channels(overridden(recipe, options), channels or 3), []
    if network.kind == np.uint8:
        recipe = pixels_alone(path, recipe, options)
        choices = ["it takes pixels from 0 to 255 and normalises them itself"]
    elif known is None and not (options.mean or options.std or options.preprocess):
        choices = [ASSUMED]
    own = height or recipe.height_width[0], width or recipe.height_width[1]
    if own != recipe.height_width:
        taken = recipe.model_copy(update={"input_size": own}).size_text
        raise UsageError(f"{path} takes {taken} inputs, not {recipe.size_text}", f"give --input-size {taken}")
    return recipe, choices


def _output(path: Path, network: Network, wanted: str | None) -> str:
    outputs = ", ".join(network.outputs)
    if wanted is not None and wanted not in network.outputs:
        raise UsageError(f"{path} has no output {wanted}", f"--output is one of {outputs}")
    if wanted is None and len(network.outputs) > 1:
        raise UsageError(
            f"{path} has {len(network.outputs)} outputs: {outputs}", "say with --output which has the classes"
        )
    return wanted or network.outputs[0]
