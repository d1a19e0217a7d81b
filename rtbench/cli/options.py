"""The options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rtbench.errors import UsageError
from rtbench.terms import CalibrationMethod, Format, Interpolation, Precision, Preprocess

if TYPE_CHECKING:
    from rtbench.options import EngineOptions, ModelOptions
    from rtbench.records.run import Triple

PRECISIONS = ("fp32", "fp16", "int8")
FORMATS: dict[str, Format] = {"onnx": "onnx", "trt": "engine"}


def option(*names: str, help: str, metavar: str | None = None, min: int | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, min=min, show_default=True)


Arch = Annotated[str | None, option("--arch", help="Architecture of a state dict, where it is not recognised.")]
Weights = Annotated[
    Path | None, option("--weights", help="State dict for a model given by name, instead of downloading.")
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Leave a model given by name untrained: for speed and size only.")
]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Unpickle whole modules, which runs code out of the file.")
]
InputSize = Annotated[int | None, option("--input-size", help="Side of the square input, in pixels.", min=1)]
Resize = Annotated[int | None, option("--resize", help="Shorter side of the image before the centre crop.", min=1)]
Interp = Annotated[Interpolation | None, option("--interpolation", help="How images are resized.")]
Mean = Annotated[str | None, option("--mean", help="Mean of each channel, on [0, 1].", metavar="R,G,B")]
Std = Annotated[str | None, option("--std", help="Standard deviation of each channel.", metavar="R,G,B")]
Precisions = Annotated[str, option("--precisions", help="Precisions of the artifacts.", metavar="LIST")]
Calibration = Annotated[
    Path | None, option("--calibration", help="Folder of images to calibrate INT8 with.", metavar="DIR")
]
CalibrationImages = Annotated[
    int | None,
    option("--calibration-images", help="How many of them, evenly spread.  [default: the recipe's, else 256]", min=1),
]
Method = Annotated[
    CalibrationMethod | None,
    option("--calibration-method", help="How INT8 ranges are found.  [default: the recipe's, else minmax]"),
]
Recipes = Annotated[
    str | None,
    option(
        "--recipe",
        help="How engines are built: t4-fp16, t4-int8, or TOML files.  [default: these, for the GPU that is there]",
        metavar="LIST",
    ),
]
Repeats = Annotated[int, option("--build-repeats", help="Build each engine K times, to see the spread.", min=1)]
Threads = Annotated[
    int | None, option("--threads", help="Threads for every runtime.  [default: physical cores]", min=1)
]
Timeout = Annotated[float, option("--timeout", help="Seconds of silence after which a worker process counts as hung.")]
Preprocessed = Annotated[
    Preprocess | None, option("--preprocess", help="Whose resize: torch's, or tf for the baseline's TensorFlow recipe.")
]
CacheDir = Annotated[Path | None, option("--cache-dir", help="Where decoded images are kept.", metavar="DIR")]
Output = Annotated[Path | None, option("--output", help="Write there instead of to stdout.", metavar="FILE")]


def parse_names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def parse_precisions(text: str) -> tuple[Precision, ...]:
    return cast("tuple[Precision, ...]", _known("precision", text, PRECISIONS))


def parse_formats(text: str) -> tuple[Format, ...]:
    return tuple(FORMATS[name] for name in _known("format", text, tuple(FORMATS)))


def _known(word: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a list, each one of `known`; UsageError with the nearest for one that is not."""
    import difflib

    names = parse_names(text)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"there is no {word} {name!r}", hint)
    if not names:
        raise UsageError(f"--{word}s is empty", f"there are {', '.join(known)}")
    return names


def engine_options(recipe: str | None, repeats: int) -> EngineOptions:
    from rtbench.options import EngineOptions

    return EngineOptions(recipes=parse_names(recipe or ""), repeats=repeats)


def _triple(option: str, text: str | None) -> Triple | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text} is not three numbers", f"write {option} 0.5,0.5,0.5") from None
    return red, green, blue


def model_options(
    arch: str | None,
    weights: Path | None,
    random_weights: bool,
    trust_pickle: bool,
    input_size: int | None,
    resize: int | None,
    interpolation: Interpolation | None,
    mean: str | None,
    std: str | None,
    preprocess: Preprocess | None,
) -> ModelOptions:
    from rtbench.options import ModelOptions

    deviation = _triple("--std", std)
    if deviation and min(deviation) <= 0:
        raise UsageError(f"--std {std} has a number that is not above 0", "write --std 0.5,0.5,0.5")
    return ModelOptions(
        arch=arch,
        weights=weights,
        random_weights=random_weights,
        trust_pickle=trust_pickle,
        input_size=input_size,
        resize=resize,
        interpolation=interpolation,
        mean=_triple("--mean", mean),
        std=deviation,
        preprocess=preprocess,
    )


def parse_percent(name: str, text: str) -> float:
    """`1%` or `0.01`, as a fraction."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageError(f"{name} {text} is no share between 0 and 1", f"write {name} 1%")
    return value


def default_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("rtbench") / "images"
