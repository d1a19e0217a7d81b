"""TensorFlow's classifiers: SavedModels, and what Keras has saved. What imports TensorFlow here runs in workers."""

from __future__ import annotations

from pathlib import Path

GRAPH = "saved_model.pb"
EXPORTED = "tf-fp32"
"""A SavedModel in an artifact folder."""
KERAS = (".keras", ".h5", ".hdf5")
HUB = "https://tfhub.dev/"


def is_tensorflow(source: str | Path) -> bool:
    """Whether a model is a SavedModel's folder, a folder that it was exported to, an address on TensorFlow Hub, or a
    file by the name of Keras'."""
    path = Path(source)
    if not path.is_dir():
        return path.suffix in KERAS or is_address(source)
    return (path / GRAPH).is_file() or is_exported(path)


def is_address(source: str | Path) -> bool:
    return str(source).startswith(HUB)


def is_exported(folder: Path) -> bool:
    return (folder / EXPORTED / GRAPH).is_file()
