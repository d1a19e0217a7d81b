"""What the user may say of a model and of calibration, typed, as it travels to the export process."""

from __future__ import annotations

from pathlib import Path

from rtbench.images.preprocessing import tf_recipe
from rtbench.records.run import Preprocessing, RecipeCalibration, Record, Triple
from rtbench.terms import CalibrationMethod, Interpolation, Preprocess


class ModelOptions(Record):
    arch: str | None = None
    weights: Path | None = None
    random_weights: bool = False
    trust_pickle: bool = False
    input_size: int | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    mean: Triple | None = None
    std: Triple | None = None
    preprocess: Preprocess | None = None

    def override(self, recipe: Preprocessing) -> Preprocessing:
        """`recipe` with the user's own words in place; a new input size keeps the share that is cropped."""
        if self.preprocess == "tf" and recipe.preprocess != "tf":
            recipe = tf_recipe(recipe)
        said = self.model_dump(include={"input_size", "resize", "interpolation", "mean", "std"}, exclude_none=True)
        if not said:
            return recipe
        names = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        if "input_size" in said and "resize" not in said:
            said["resize"] = round(said["input_size"] * recipe.resize / recipe.input_size)
        return recipe.model_copy(update=said | {"source": f"{recipe.source}; {names} given"})


class CalibrationOptions(Record):
    folder: Path | None = None
    images: int | None = None
    method: CalibrationMethod | None = None

    def completed(self, recipe: RecipeCalibration | None = None) -> RecipeCalibration:
        """What the user left open as `recipe` has it, which is by default 256 images, minmax."""
        said = self.model_dump(include={"images", "method"}, exclude_none=True)
        return (recipe or RecipeCalibration()).model_copy(update=said)


class EngineOptions(Record):
    """What is to be made for TensorRT: engines, or only the ONNX that it takes."""

    recipes: tuple[str, ...] = ()
    """Names or files; none: the shipped ones, for the GPU that is there."""
    repeats: int = 1
    """How often each engine is built."""
