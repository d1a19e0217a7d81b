"""Engine recipes: small TOML files, two of which ship with the package."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rtbench.errors import UsageError
from rtbench.records.model import Recipe
from rtbench.records.run import Gpu
from rtbench.terms import Precision

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def choose_recipes(names: Sequence[str], precisions: Sequence[Precision], gpu: Gpu | None) -> list[Recipe]:
    """The recipes that the user named, else the shipped T4 ones of `precisions` for the GPU that is there.

    UsageError for one that is unknown or wrong, or for two of one precision.
    """
    if not names:
        shipped = [load_recipe(f"t4-{precision}") for precision in ("fp16", "int8") if precision in precisions]
        return [_for_gpu(recipe, gpu) if gpu else recipe for recipe in shipped]
    recipes = [load_recipe(name) for name in names]
    if len({recipe.precision for recipe in recipes}) < len(recipes):
        raise UsageError(f"--recipe {','.join(names)} has two recipes of one precision", "name one for each precision")
    left_out = [recipe for recipe in recipes if recipe.precision not in precisions]
    if left_out:
        raise UsageError(
            f"recipe {left_out[0].name} makes {left_out[0].precision}, which --precisions leaves out",
            f"add {left_out[0].precision} to --precisions",
        )
    return recipes


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a TOML file; UsageError where there is none or a field of it is wrong."""
    folder = resources.files("rtbench") / "data" / "recipes"
    shipped = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    if name in shipped:
        text = (folder / f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UsageError(f"there is no recipe {name!r}", f"use {', '.join(shipped)}, or the path of a TOML file")
    try:
        return _validated(tomllib.loads(text), Path(name).stem)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name} is not valid TOML: {error}", "mend the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"recipe {name}: {field}: {first['msg']}", "mend the file; see docs/tensorrt.md") from None


def _validated(fields: dict[str, Any], name: str) -> Recipe:
    return Recipe.model_validate({"name": name} | fields)


def _for_gpu(recipe: Recipe, gpu: Gpu) -> Recipe:
    if recipe.compute_capability == gpu.compute_capability:
        return recipe
    name = recipe.name.replace("t4", f"sm{gpu.compute_capability.replace('.', '')}")
    return recipe.model_copy(update={"name": name, "compute_capability": gpu.compute_capability})
