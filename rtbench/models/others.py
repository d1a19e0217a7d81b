"""Files of other frameworks, told by their content, and what to do with them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

KERAS = "if it is Keras', give it a name that ends in .h5"


class Other(NamedTuple):
    what: str
    remedy: str


STARTS = (
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        Other("a Keras or another HDF5 file, not a PyTorch one", KERAS),
    ),
    (4, b"TFL3", Other("a TensorFlow Lite model", "give it a name that ends in .tflite")),
    (0, b"GGUF", Other("a GGUF file, which holds language models", "name the classifier's own file")),
    (0, b"\x93NUMPY", Other("an array of NumPy's", "load it into the network, and save model.state_dict()")),
    (0, b"<?xml", Other("an XML file, as OpenVINO's are", "name the model that it was converted from")),
)
"""Where in a file, what is there, and what it then is."""
MEMBERS = (
    ("config.json", Other("a Keras model", "give it a name that ends in .keras")),
    ("Manifest.json", Other("a Core ML package", "name the model that it was converted from")),
    ("Data/com.apple.CoreML", Other("a Core ML package", "name the model that it was converted from")),
)
"""Of zip archives."""


def other_format(path: Path) -> Other | None:
    """What a file of another framework is; None for one of PyTorch's, or that is of no kind that is known."""
    with path.open("rb") as file:
        start = file.read(64)
    for offset, magic, other in STARTS:
        if start[offset:].startswith(magic):
            return other
    if not start.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return Other("arrays of NumPy's", "load them into the network, and save model.state_dict()")
    return next((other for member, other in MEMBERS if member in names), None)
