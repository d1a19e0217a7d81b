"""Engine recipes: small TOML files, some of which ship with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtbench.errors import UsageError
from rtbench.records.model import Recipe, RecipeCalibration
from rtbench.records.run import Gpu
from rtbench.shipped import read_named
from rtbench.terms import Precision

BEST = "best"
"""Both engines that are run as a CUDA graph; the one that is faster on the device is named."""


def choose_recipes(names: Sequence[str], precisions: Sequence[Precision], gpu: Gpu | None) -> list[Recipe]:
    """The recipes that the user named, else the shipped T4 ones of `precisions` for the GPU that is there.

    UsageError for one that is unknown or wrong, or for two that make the same engine or calibrate differently.
    """
    if not names or names == (BEST,):
        variant = "-graph" if names else ""
        shipped = [load_recipe(f"t4-{each}{variant}") for each in ("fp16", "int8") if each in precisions]
        return [_for_gpu(recipe, gpu) if gpu else recipe for recipe in shipped]
    recipes = [load_recipe(name) for name in names]
    if len({(recipe.precision, recipe.variant) for recipe in recipes}) < len(recipes):
        raise UsageError(
            f"--recipe {','.join(names)} has two recipes of one precision and variant", "give one of them a variant"
        )
    if len({recipe.calibration or RecipeCalibration() for recipe in recipes if recipe.precision == "int8"}) > 1:
        raise UsageError(
            f"--recipe {','.join(names)} calibrates INT8 in two ways",
            "compare them in two runs, each with its own --out",
        )
    left_out = [recipe for recipe in recipes if recipe.precision not in precisions]
    if left_out:
        raise UsageError(
            f"recipe {left_out[0].name} makes {left_out[0].precision}, which --precisions leaves out",
            f"add {left_out[0].precision} to --precisions",
        )
    return recipes


def load_recipe(name: str) -> Recipe:
    """A shipped recipe by name, or a TOML file; UsageError where there is none or a field of it is wrong."""
    return read_named("recipe", name, Recipe, or_else=BEST, name=Path(name).stem)


def _for_gpu(recipe: Recipe, gpu: Gpu) -> Recipe:
    if recipe.compute_capability == gpu.compute_capability:
        return recipe
    name = recipe.name.replace("t4", f"sm{gpu.compute_capability.replace('.', '')}")
    return recipe.model_copy(update={"name": name, "compute_capability": gpu.compute_capability})
