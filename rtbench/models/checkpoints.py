"""What a model file holds: a state dict, TorchScript, torch.export, a pickled module, ONNX or a script
for the fake runtime. Nothing in a file is run unless the user trusts it."""

from __future__ import annotations

import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtbench.artifacts import require_file
from rtbench.errors import UsageError
from rtbench.terms import Format

NESTED = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
_BROKEN_PICKLE = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    struct.error,
)
"""What torch.load raises, by where a file is cut off or what bytes stand there instead."""


@dataclass(frozen=True)
class Checkpoint:
    """`kind` says which of the others is there: `state` for a state dict, else `module`."""

    kind: Format
    state: dict[str, torch.Tensor] | None = None
    module: Any = None


def read_checkpoint(path: Path, *, trust_pickle: bool = False) -> Checkpoint:
    """The contents of a `.pt`, `.pth` or `.pt2` file.

    Raises UsageError for a file that is missing, empty, cut off, not PyTorch's, or a pickle of code
    while `trust_pickle` is false.
    """
    require_file(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        members = _zip_members(path)
        if any("/code/" in name or name.endswith("constants.pkl") for name in members):
            return _read_torchscript(path)
        if any(name.endswith("archive_format") or "/models/" in name for name in members):
            return _read_exported(path)
    return _read_pickle(path, trust_pickle)


def _zip_members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        raise _cut_off(path) from None


def _cut_off(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged or cut off, not a whole PyTorch file", "copy or save it again")


def _read_torchscript(path: Path) -> Checkpoint:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and people have it
            return Checkpoint("torchscript", module=torch.jit.load(str(path), map_location="cpu").eval())  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{path} cannot be loaded as TorchScript: {_first_line(error)}", "save it again") from error


def _read_exported(path: Path) -> Checkpoint:
    try:
        return Checkpoint("pt2", module=torch.export.load(path))
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path} cannot be loaded with torch.export: {_first_line(error)}",
            f"export it again with torch {torch.__version__}",
        ) from error


def _read_pickle(path: Path, trust_pickle: bool) -> Checkpoint:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN_PICKLE as error:
        objects = re.search(
            r"(?:Unsupported global: GLOBAL|WeightsUnpickler error: Unsupported class) (\S+)", str(error)
        )
        if objects is None:
            raise _cut_off(path) from error
        if not trust_pickle:
            raise UsageError(
                f"{path} is a pickle with Python objects in it ({objects[1]}), and unpickling runs code",
                "pass --trust-pickle if you trust it, or save the state dict alone",
            ) from None
        content = _unpickle(path)
    return _find_model(path, content)


def _unpickle(path: Path) -> Any:
    sys.path.append(str(Path.cwd()))  # where the classes of a user's own pickle are
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{path} needs code that is not here: {_first_line(error)}",
            "run rtbench in the folder of that code, or save the model as TorchScript or with torch.export",
        ) from error


def _find_model(path: Path, content: Any) -> Checkpoint:
    if isinstance(content, torch.nn.Module):
        return Checkpoint("pickle", module=content.eval())
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), (Mapping, torch.nn.Module)):
                return _find_model(path, content[key])
        state = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
        if state:
            return Checkpoint("state_dict", state=_without_prefixes(state))
    raise UsageError(
        f"{path} holds no state dict and no module (it is a {type(content).__name__})",
        "save model.state_dict()",
    )


def _without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            return _without_prefixes({key.removeprefix(prefix): value for key, value in state.items()})
    return state


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
