"""Three TensorRT libraries with one API, and which of them this process uses.

`tensorrt` 10 and 11 build an engine on the GPU that will run it. `tensorrt_rtx` (TensorRT for RTX) builds
for any compute capability that it knows, on a machine with or without a GPU. Each loads only its own.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import get_args

from rtbench.artifacts import tool_versions
from rtbench.errors import RuntimeUnavailable
from rtbench.records.model import EngineBuild, Recipe
from rtbench.records.run import Gpu
from rtbench.terms import Library

LIBRARIES: tuple[Library, ...] = get_args(Library)
INSTALL: dict[Library, str] = {
    "tensorrt": "pip install 'rtbench[trt]'",
    "tensorrt_rtx": "pip install 'rtbench[rtx]'",
}

_chosen: ModuleType | None = None


def installed() -> dict[Library, str]:
    """The versions of the libraries that are installed, by name, without importing them."""
    found: dict[Library, str] = {}
    for name in LIBRARIES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:  # type stubs alone make a package without an origin
            distribution = name.replace("_", "-")
            found[name] = tool_versions(distribution).get(distribution, "unknown")
    return found


def built_for(name: str) -> str:
    """The CUDA that an installed library was built for, by the package that its bindings came in."""
    cuda = {number: f"{name.replace('_', '-')}-cu{number}-bindings" for number in (12, 13)}
    return next((str(number) for number, package in cuda.items() if tool_versions(package)), "13")


def use(name: Library) -> ModuleType:
    """Import a library and have `chosen` give it; RuntimeUnavailable where it cannot be imported."""
    global _chosen
    try:
        _chosen = import_module(name)
    except ImportError as error:
        raise RuntimeUnavailable(f"{name} cannot be imported: {error}", INSTALL[name]) from error
    return _chosen


def chosen() -> ModuleType:
    """The library of this process, for the modules that call it."""
    assert _chosen is not None, "use() comes first"
    return _chosen


def caution(build: EngineBuild) -> str | None:
    """What to know of an engine before its figures are used."""
    if (build.library, build.recipe.precision, build.compute_capability) != ("tensorrt_rtx", "int8", "7.5"):
        return None
    return "TensorRT for RTX has no native INT8 convolutions for 7.5: for a T4, build with tensorrt on the T4"


def choose_builder(recipe: Recipe, gpu: Gpu | None) -> Library:
    """The installed library that can build this recipe here; RuntimeUnavailable with the reason where none can."""
    here = installed()
    is_present = gpu is not None and gpu.compute_capability == recipe.compute_capability
    wanted = [recipe.library] if recipe.library else list(LIBRARIES)
    for name in wanted:
        if name in here and (is_present or name != "tensorrt"):
            return name
    if "tensorrt" in wanted and "tensorrt" in here:
        present = f"this machine has {gpu.name} of {gpu.compute_capability}" if gpu else "this machine has no GPU"
        raise RuntimeUnavailable(
            f"tensorrt builds only on the GPU that will run the engine: {recipe.name} is for compute capability"
            f" {recipe.compute_capability}, {present}",
            f"build there, or {INSTALL['tensorrt_rtx']}, which needs no GPU",
        )
    if recipe.library:
        raise RuntimeUnavailable(f"{recipe.library} is not installed", INSTALL[recipe.library])
    raise RuntimeUnavailable(
        "TensorRT is not installed", f"{INSTALL['tensorrt']}, or {INSTALL['tensorrt_rtx']} to build without a GPU"
    )
