"""What the user can ask for, each option once: the command line, the Python API and every step read it here.

A field is an option of that name (`max_time_s` is `--max-time`): its type says how text is read, `option` the rest.
Steps ask for the smallest class that has what they need.
"""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NewType

from rtbench.errors import UsageError
from rtbench.terms import (
    LARGEST_SIDE,
    CalibrationMethod,
    ClassOrder,
    FormatName,
    Interpolation,
    Precision,
    Preprocess,
    Scenario,
    Size,
    Triple,
)

Share = NewType("Share", float)
"""A fraction, which the command line takes in percent too."""


OTHER_NAMES = {"trust_pickle": "trust_code", "iterations": "runs"}
"""Names by which options are known too, former ones among them."""
MOST_S = 1e6
"""Eleven days; systems count milliseconds to wait in 32 bits."""


def option(
    help: str,
    default: Any = None,
    *,
    metavar: str | None = None,
    least: float = -math.inf,
    most: float = math.inf,
) -> Any:
    """A field with what `--help` says of it, and the least and the most that its numbers may be."""
    return field(default=default, metadata={"help": help, "metavar": metavar, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Raises UsageError where a value is not one that the option can have, or a path not one that a file can have."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - for pydantic, which checks what the Python API is given

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Path):
                    require_path(part, flag(each.name))
                elif isinstance(part, (int, float)):
                    _require_within(part, flag(each.name), each.metadata["least"], each.metadata["most"])


def _require_within(number: float, named: str, least: float, most: float) -> None:
    if not least <= number <= most:  # and so is NaN
        said = f"{number:.12g}" if isinstance(number, float) or abs(number) < 10**300 else "too large"
        raise UsageError(f"{named} is {said}, expected {least:.9g} to {most:.9g}")


def require_path(path: Path, named: str = "") -> None:
    """Raise UsageError where no file can have this name, or the system does not let us look.

    That nothing is there is for its reader to say, who knows what was expected.
    """
    told = f"{named} {path}".strip()
    try:
        str(path).encode()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UsageError(f"{told} cannot be read: {error.strerror}") from None
    except UnicodeEncodeError:
        raise UsageError(f"{told} is not UTF-8", "rename it") from None
    except ValueError as error:  # a NUL in it
        raise UsageError(f"{told}: {error}") from None


def flag(name: str, value: bool = True) -> str:
    """The command line's name of an option: `max_time_s` is `--max-time`; `value`: of one that is yes or no."""
    return ("--" if value else "--no-") + name.removesuffix("_s").replace("_", "-")


def default_cache() -> Path:
    """Where decoded images are kept, if `--cache-dir` does not say."""
    return cache_folder() / "images"


def cache_folder() -> Path:
    """The user's own, for what can be made again."""
    import platformdirs

    with suppress(RuntimeError):  # a ~ that stands for nothing, of which older versions say nothing
        place = platformdirs.user_cache_path("rtbench")
        if place.is_absolute():
            return place
    raise UsageError("you have no home folder to keep decoded images in", "name a --cache-dir")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """How a model is built and its input made; travels to the export process."""

    arch: str | None = option(
        "Architecture of a state dict, where it is not recognised; FILE.py:FUNCTION for one of your own.",
        metavar="NAME",
    )
    weights: Path | None = option("State dict for a model given by name, instead of downloading.")
    checkpoint_key: str | None = option(
        "Which state dict of a checkpoint that has several.  [default: averaged weights before others]", metavar="KEY"
    )
    transform_input: bool | None = option(
        "Whether googlenet and inception_v3 normalise their input again inside.  [default: as published, they do]"
    )
    random_weights: bool = option("Leave a model given by name untrained: for speed and size only.", False)
    trust_code: bool = option(
        "Run the code in model files: TorchScript, torch.export, pickles, SavedModels, Keras, --arch FILE.py.", False
    )
    output: str | None = option("Which output has the classes, where there are several.", metavar="NAME")
    input_size: Size | None = option(
        "Side of the input, or height and width, in pixels.", metavar="N|HxW", least=1, most=LARGEST_SIDE
    )
    resize: int | None = option("Shorter side of the image before the centre crop.", least=1, most=LARGEST_SIDE)
    interpolation: Interpolation | None = option("How images are resized.")
    mean: Triple | None = option("Mean of each channel, on [0, 1].", metavar="R,G,B", least=0, most=1)
    std: Triple | None = option("Standard deviation of each channel.", metavar="R,G,B", least=0.001, most=1000)
    preprocess: Preprocess | None = option(
        "How images are resized: as torch, as tf (the baseline's TensorFlow recipe), or squash (to the input's shape)."
    )


@dataclass(frozen=True, kw_only=True)
class ArtifactOptions(Options):
    """Which artifacts are made, and how."""

    precisions: tuple[Precision, ...] = option("Precisions of the artifacts.", ("fp32", "fp16", "int8"), metavar="LIST")
    calibration: Path | None = option("Folder of images to calibrate INT8 with.", metavar="DIR")
    calibration_images: int | None = option(
        "How many of them, evenly spread.  [default: the recipe's, else 256]", least=1, most=1_000_000
    )
    calibration_method: CalibrationMethod | None = option(
        "How INT8 ranges are found.  [default: the recipe's, else minmax]"
    )
    full_range: bool = option("INT8 weights of 8 bits instead of 7: outputs are wrong on x86 CPUs without VNNI.", False)
    recipe: tuple[str, ...] = option(
        "How engines are built: best, t4-fp16-graph, ..., or TOML files.  [default: t4-fp16 and t4-int8, for this GPU]",
        (),
        metavar="LIST",
    )
    builder_optimization_level: int | None = option(
        "How long TensorRT searches for kernels, 0 to 5.  [default: the recipe's, 3]", least=0, most=5
    )
    build_repeats: int = option("Build each engine this many times, to see the spread.", 1, least=1, most=1000)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Options):
    """How work is done."""

    device: str | None = option(
        "The GPU that is used: cuda:1, or cpu for none.  [default: the first]", metavar="DEVICE"
    )
    threads: int | None = option("Threads for every runtime.  [default: physical cores]", least=1, most=1024)
    timeout_s: float = option(
        "Seconds of silence after which a worker process counts as hung.", 300.0, least=1, most=MOST_S
    )
    cache_dir: Path | None = option("Where decoded images are kept.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(ArtifactOptions, ModelOptions, WorkerOptions):
    """All that turns what the user named into checked artifacts."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(PrepareOptions):
    formats: tuple[FormatName, ...] = option(
        "onnx, trt, tflite, or those of installed exporters.", (FormatName("onnx"),), metavar="LIST"
    )


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """What rows are judged by."""

    data: Path | None = option("Labelled images, for accuracy: folders, tar, parquet.", metavar="DIR")
    class_order: ClassOrder | None = option(
        "Order of class folders: text, as ImageFolder has it, or number.  [default: number, for class indices]"
    )
    class_offset: int | None = option(
        "Number added to every label, such as 1 for a background class.", least=-1000, most=1000
    )
    labels: Path | None = option("Table of images and labels: CSV, JSON, ImageNet-ReaL's.", metavar="FILE")
    class_map: Path | None = option("The class of each folder or label: JSON or text.", metavar="FILE")
    all_classes: bool = option("Choose among all classes also on ImageNet-A and -R, which have 200.", False)
    limit: int | None = option("Use this many images, evenly spread over classes.", least=1, most=10**9)
    batch_size: int | None = option("Images a batch, for accuracy only.  [default: by runtime]", least=1, most=65_536)
    reference: str | None = option("Model to judge .onnx files by.", metavar="MODEL")


@dataclass(frozen=True, kw_only=True)
class Sampling(Options):
    """How many runs of each row are timed."""

    runs: int | None = option(
        "Timed runs of each row.  [default: 1000; with --target-ci at least 250]", least=1, most=10**8
    )
    processes: int | None = option(
        "Fresh processes that each row is timed in, one after the other.  [default: 5; with --against 8]",
        least=1,
        most=1_000_000,
    )
    target_ci: Share | None = option(
        "Time until each mean is known to within this, as 1%.", metavar="PERCENT", least=1e-9, most=1
    )
    max_time_s: float = option("Seconds after which --target-ci gives up.", 600.0, least=0.1, most=MOST_S)
    warmup: int | None = option(
        "Untimed runs at the start of each process.  [default: until latency has settled]", least=0, most=1_000_000
    )
    patience_s: float = option(
        "Seconds to wait, in total, for other work on the machine to end.", 120.0, least=0, most=MOST_S
    )
    scenario: Scenario | None = option("Let MLPerf's load generator drive each row too.")

    @property
    def planned_runs(self) -> int:
        """All of a row's runs, or with `target_ci` the least."""
        return self.runs or (1000 if self.target_ci is None else 250)

    @property
    def planned_processes(self) -> int:
        return self.processes or 5


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(Options):
    """What a row may lose and still be recommended."""

    max_loss: Share = option(
        "Loss of top-1 that a row to ship may have at most.", Share(0.01), metavar="PP", least=1e-9, most=1
    )
    max_disagreement: Share = option(
        "The same without labels: answers that may differ from the model's.",
        Share(0.01),
        metavar="PERCENT",
        least=1e-9,
        most=1,
    )


@dataclass(frozen=True, kw_only=True)
class AgainstOptions(Options):
    """Which earlier run's artifacts are timed in the same rounds."""

    keep_artifacts: bool = option("Keep every artifact in the run directory, for a later --against.", False)
    against: Path | None = option("Time an earlier run's artifacts again, in the same rounds.", metavar="RUN")
    against_python: Path | None = option(
        "Interpreter of another environment to run those with, for another version of a runtime.", metavar="PYTHON"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against_python and shutil.which(self.against_python) is None:
            raise UsageError(f"--against-python {self.against_python} is not a program", "name a Python interpreter")


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(DataOptions, Sampling, ModelOptions, WorkerOptions):
    baseline: str = option("A name or a TOML file.", "resnet18-t4", metavar="NAME|FILE")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(DataOptions, Sampling, AnswerOptions, AgainstOptions, PrepareOptions):
    runtimes: tuple[str, ...] | None = option(
        "torch, ort, ort:cpu, ort:cuda, ...  [default: torch and ort; trt too with a GPU]", metavar="LIST"
    )
    baseline: str = option("A name, a TOML file, or: measured.", "resnet18-t4", metavar="NAME|FILE")

    @property
    def planned_processes(self) -> int:
        """More with `against`: a gate acts on an interval, which is a third narrower over eight than over five."""
        return self.processes or (8 if self.against else 5)
