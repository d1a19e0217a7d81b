"""State dicts in the safetensors format: one file, or the index of several."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

from rtbench.errors import UsageError

MOST_HEADER = 100_000_000
"""The most that the format allows."""
INDEX = b'"weight_map"'


def is_safetensors(path: Path) -> bool:
    """By its content: the length of a header in JSON, and that header; or an index, which is JSON too."""
    with path.open("rb") as file:
        start = file.read(9)
        if start[:1] in (b"{", b" ", b"\n"):
            return path.suffix == ".json" and INDEX in start + file.read(MOST_HEADER)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= MOST_HEADER


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """UsageError where it, or a file that its index names, is damaged or missing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, torch.Tensor] = {}
    for file in _files(path):
        try:
            state |= load_file(file)
        except FileNotFoundError:
            raise UsageError(f"{file}, which {path.name} names, does not exist", "put it next to the index") from None
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{file} is damaged or cut off: {error}", "copy or save it again") from None
    return state


def _files(path: Path) -> list[Path]:
    if path.suffix != ".json":
        return [path]
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
        files = [path.parent / Path(name).name for name in names]  # names, never paths
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise UsageError(f"{path} is not an index of safetensors files", "name one that was saved with them") from None
    return files
