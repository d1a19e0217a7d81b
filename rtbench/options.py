"""What the user can ask for, each option once: the command line, the Python API and every step read it here.

A field is an option of that name (`max_time_s` is `--max-time`): its type says how text is read, `option` the rest.
Steps ask for the smallest class that has what they need.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NewType

from rtbench.errors import UsageError
from rtbench.terms import CalibrationMethod, Format, Interpolation, Precision, Preprocess, Scenario, Triple

Share = NewType("Share", float)
"""A fraction, which the command line takes in percent too."""


def option(help: str, default: Any = None, *, metavar: str | None = None, least: int | None = None) -> Any:
    """A field with what `--help` says of it, and the least value that it may have."""
    return field(default=default, metadata={"help": help, "metavar": metavar, "least": least})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Raises UsageError where a value is not one that the option can have."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - for pydantic, which checks what the Python API is given

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), each.metadata["least"]
            if value is not None and least is not None and value < least:
                raise UsageError(f"{flag(each.name)} is {value}, expected at least {least}")


def flag(name: str) -> str:
    """The command line's name of an option: `max_time_s` is `--max-time`."""
    return "--" + name.removesuffix("_s").replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """How a model is built and its input made; travels to the export process."""

    arch: str | None = option("Architecture of a state dict, where it is not recognised.")
    weights: Path | None = option("State dict for a model given by name, instead of downloading.")
    random_weights: bool = option("Leave a model given by name untrained: for speed and size only.", False)
    trust_pickle: bool = option("Unpickle whole modules, which runs code out of the file.", False)
    input_size: int | None = option("Side of the square input, in pixels.", least=1)
    resize: int | None = option("Shorter side of the image before the centre crop.", least=1)
    interpolation: Interpolation | None = option("How images are resized.")
    mean: Triple | None = option("Mean of each channel, on [0, 1].", metavar="R,G,B")
    std: Triple | None = option("Standard deviation of each channel.", metavar="R,G,B")
    preprocess: Preprocess | None = option("Whose resize: torch's, or tf for the baseline's TensorFlow recipe.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std and min(self.std) <= 0:
            written = ",".join(f"{each:g}" for each in self.std)
            raise UsageError(f"--std {written} has a number that is not above 0", "write --std 0.5,0.5,0.5")


@dataclass(frozen=True, kw_only=True)
class ArtifactOptions(Options):
    """Which artifacts are made, and how."""

    precisions: tuple[Precision, ...] = option("Precisions of the artifacts.", ("fp32", "fp16", "int8"), metavar="LIST")
    calibration: Path | None = option("Folder of images to calibrate INT8 with.", metavar="DIR")
    calibration_images: int | None = option(
        "How many of them, evenly spread.  [default: the recipe's, else 256]", least=1
    )
    calibration_method: CalibrationMethod | None = option(
        "How INT8 ranges are found.  [default: the recipe's, else minmax]"
    )
    full_range: bool = option("INT8 weights of 8 bits instead of 7: outputs are wrong on x86 CPUs without VNNI.", False)
    recipe: tuple[str, ...] = option(
        "How engines are built: t4-fp16, t4-int8, or TOML files.  [default: these, for the GPU that is there]",
        (),
        metavar="LIST",
    )
    build_repeats: int = option("Build each engine K times, to see the spread.", 1, least=1)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Options):
    """How work is done."""

    threads: int | None = option("Threads for every runtime.  [default: physical cores]", least=1)
    timeout_s: float = option("Seconds of silence after which a worker process counts as hung.", 300.0)
    cache_dir: Path | None = option("Where decoded images are kept.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(ArtifactOptions, ModelOptions, WorkerOptions):
    """All that turns what the user named into checked artifacts."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(PrepareOptions):
    formats: tuple[Format, ...] = option("onnx, trt, or both.", ("onnx",), metavar="LIST")


@dataclass(frozen=True, kw_only=True)
class DataOptions(Options):
    """What rows are judged by."""

    data: Path | None = option("Labelled images, for accuracy: folders, tar, parquet.", metavar="DIR")
    limit: int | None = option("Use N of them, evenly spread over classes.", least=1)
    batch_size: int | None = option("Images a batch, for accuracy only.  [default: by runtime]", least=1)
    reference: str | None = option("Model to judge .onnx files by.", metavar="MODEL")


@dataclass(frozen=True, kw_only=True)
class Sampling(Options):
    """How many runs of each row are timed."""

    runs: int | None = option("Timed runs of each row.  [default: 1000; with --target-ci at least 250]", least=1)
    processes: int = option("Fresh processes that each row is timed in, one after the other.", 5, least=1)
    target_ci: Share | None = option("Time until each mean is known to within this, as 1%.", metavar="PERCENT")
    max_time_s: float = option("Seconds after which --target-ci gives up.", 600.0)
    warmup: int | None = option("Untimed runs of each row before them.  [default: until it has settled]", least=0)
    patience_s: float = option("Seconds to wait for a disturbed machine to calm down, in all.", 120.0)
    scenario: Scenario | None = option("Let MLPerf's load generator drive each row too.")

    @property
    def planned_runs(self) -> int:
        """All of a row's runs, or with `target_ci` the least."""
        return self.runs or (1000 if self.target_ci is None else 250)


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(Options):
    """What a row may lose and still be recommended."""

    max_loss: Share = option("Loss of top-1 that a row to ship may have at most.", Share(0.01), metavar="PP")
    max_disagreement: Share = option(
        "The same without labels: answers that may differ from the model's.", Share(0.01), metavar="PERCENT"
    )


@dataclass(frozen=True, kw_only=True)
class AgainstOptions(Options):
    """Which earlier run's artifacts are timed in the same rounds."""

    keep_artifacts: bool = option("Keep every artifact in the run directory, for a later --against.", False)
    against: Path | None = option("Time an earlier run's artifacts again, in the same rounds.", metavar="RUN")
    against_python: Path | None = option(
        "Interpreter of another environment to run those with, for another version of a runtime.", metavar="PYTHON"
    )


@dataclass(frozen=True, kw_only=True)
class CompareOptions(DataOptions, Sampling, AnswerOptions, AgainstOptions, PrepareOptions):
    runtimes: tuple[str, ...] | None = option(
        "torch, ort, ort:cpu, ort:cuda, ...  [default: all of this machine]", metavar="LIST"
    )
    baseline: str = option("A name, a TOML file, or: measured.", "resnet18-t4", metavar="NAME|FILE")
