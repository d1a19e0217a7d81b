"""Networks of the user's own classes: `FILE.py:FUNCTION` or `package.module:FUNCTION`, whose function gives one."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from rtbench.errors import UsageError
from rtbench.models.checkpoints import running_code_of

SUFFIX = ".py"


def is_own(name: str) -> bool:
    return ":" in name


def require_trust(name: str, trust_code: bool) -> str:
    """The name with the whole path of its file; UsageError where its code may not be run or is not there."""
    if not trust_code:
        raise UsageError(f"{name} is code of your own, and building the network runs it", "pass --trust-code")
    place, _, function = name.rpartition(":")
    if not place.endswith(SUFFIX):
        return name
    if not Path(place).is_file():
        raise UsageError(f"{place} does not exist", f"name a file and a function in it, as mynet{SUFFIX}:build")
    return f"{Path(place).absolute()}:{function}"


def build(name: str) -> torch.nn.Module:
    """In evaluation mode, with weights that mean nothing yet."""
    place, _, function = name.rpartition(":")
    with running_code_of(name, "fails in its own code", ""):
        made = getattr(_module(place), function)()
    if not isinstance(made, torch.nn.Module):
        raise UsageError(f"{name} gives a {type(made).__name__}, not a torch.nn.Module", "name what builds the network")
    return made.eval()


def code(name: str) -> bytes:
    """The source of the file that builds it, which its figures depend on."""
    place = name.rpartition(":")[0]
    file = place if place.endswith(SUFFIX) else getattr(_module(place), "__file__", None)
    return Path(file).read_bytes() if file else b""


def _module(place: str) -> ModuleType:
    if not place.endswith(SUFFIX):
        sys.path.append(str(Path.cwd()))
        return importlib.import_module(place)
    sys.path.append(str(Path(place).parent))  # where what it imports is
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
