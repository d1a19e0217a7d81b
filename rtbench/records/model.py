"""Records of the model and of what was made of it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from rtbench.records import Count, Record
from rtbench.records.measurement import Fidelity
from rtbench.terms import (
    LARGEST_SIDE,
    CalibrationMethod,
    Colours,
    Format,
    Framework,
    Interpolation,
    Library,
    Precision,
    Preprocess,
    Size,
    Status,
    Triple,
)

Name = Annotated[str, Field(pattern=r"^[^./\\\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]*$", max_length=255)]
"""What folders and files are named after: never a path, wherever it was read."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]*$")]


def safe_name(text: str) -> str:
    """A name made of a file's: letters, digits and `_.+-`, a hyphen for anything else, short enough for a folder."""
    kept = re.sub(r"[^\w.+-]+", "-", text).strip(".+-").encode()[:100].decode(errors="ignore")
    return kept or "model"


def _path_of_a_file(path: str) -> str:
    if "\0" in path or PurePath(path).name in ("", ".."):
        raise ValueError("must be the path of a file")
    return path


Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class Preprocessing(Record):
    """How an image becomes an input: resize the shorter side, centre crop, scale to [0, 1], normalise."""

    input_size: Side | tuple[Side, Side]
    """The side of a square, or height and width."""
    resize: Side
    interpolation: Interpolation
    mean: Triple
    std: Triple
    colour_order: Colours = "RGB"
    """Of the channels as the network takes them, and of `mean` and `std`."""
    preprocess: Preprocess = "torch"
    """Whose resize it is: torchvision's, TensorFlow's, which squashes the image to the input's shape, or Pillow's that
    does so too."""
    source: str
    """Who says so, in words for the report."""

    @field_validator("input_size")
    @classmethod
    def _one_side_for_a_square(cls, size: Size) -> Size:
        return size if isinstance(size, int) or size[0] != size[1] else size[0]

    @property
    def height_width(self) -> tuple[int, int]:
        size = self.input_size
        return (size, size) if isinstance(size, int) else size

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (1 if self.colour_order == "grey" else 3, *self.height_width)

    @property
    def size_text(self) -> str:
        """As `--input-size` takes it."""
        height, width = self.height_width
        return str(height) if height == width else f"{height}x{width}"


class OtherReading(Record):
    """What else a model file can be taken for: an option of that name, and its value."""

    option: Literal["arch", "checkpoint_key", "transform_input"]
    value: str | bool


class Model(Record):
    name: Name
    source: str
    arch: str | None
    framework: Framework = "torch"
    checkpoint_key: str | None = None
    """Which of several state dicts in its file it is."""
    arch_options: dict[str, int | bool] = {}
    """Keyword arguments that build the architecture this state dict fits."""
    sha256: Sha256
    parameters: int | None
    classes: Count
    preprocessing: Preprocessing
    precision: Precision = "fp32"
    """That it computes in itself: INT8 where PyTorch has quantised it."""
    random_weights: bool = False
    published_top1: float | None = None
    """What the source of its recipe publishes for weights of this architecture, as a fraction of ImageNet's images."""
    class_names: list[str] = []
    """Of all classes in their order, where the model brings them."""
    choices: list[str] = []
    """What was taken where it can be read in several ways, and how to choose otherwise, in sentences."""
    readings: list[OtherReading] = Field(default=[], exclude=True)
    """The other ways, as long as nothing has decided."""
    undecided: str | None = Field(default=None, exclude=True)
    """Why none of them is likelier, so that it is refused without evidence."""


class Calibration(Record):
    source: str
    method: CalibrationMethod
    images: int
    fingerprint: str
    evaluation_images: bool = False
    """True where the images are drawn from those that accuracy is measured on."""
    files: list[str] = []


class BatchProfile(Record):
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    min: int = Field(default=1, ge=1, le=65_536)
    opt: int = Field(default=1, ge=1, le=65_536)
    max: int = Field(default=1, ge=1, le=65_536)

    @model_validator(mode="after")
    def _in_order(self) -> BatchProfile:
        if not self.min <= self.opt <= self.max:
            raise ValueError("must be min <= opt <= max")
        return self


class RecipeCalibration(Record):
    images: int = Field(default=256, ge=1, le=1_000_000)
    method: CalibrationMethod = "minmax"


class Recipe(Record):
    """How an engine is built, as a recipe file says it."""

    name: str
    variant: str = Field(default="", pattern=r"^([a-z][a-z0-9-]*)?$")
    """Tells engines of one precision apart: its row is `trt+VARIANT/PRECISION`."""
    precision: Literal["fp16", "int8"]
    compute_capability: str = Field(pattern=r"^[0-9]{1,2}\.[0-9]$")
    library: Library | None = None
    """None: `tensorrt` where it is installed and this machine has the GPU, else `tensorrt_rtx`."""
    workspace_mib: int = Field(default=1024, ge=1, le=2**20)
    optimization_level: int = Field(default=3, ge=0, le=5)
    batch: BatchProfile = BatchProfile()
    cuda_graph: bool = False
    """Whether the run is captured once as a CUDA graph and launched as a whole."""
    input: Literal["fp32", "fp16"] = "fp32"
    """What the engine is given: half of the copy in FP16, which the host converts to within the timed region."""
    calibration: RecipeCalibration | None = None

    @property
    def label(self) -> str:
        """`engine`, or `engine+VARIANT`."""
        return f"engine+{self.variant}" if self.variant else "engine"


class EngineBuild(Record):
    """Who built an engine, for what, from what: what must fit the machine that loads it."""

    library: Library
    library_version: str
    compute_capability: str
    gpu: str | None
    """The GPU that it was built beside, None where there was none."""
    driver: str | None
    recipe: Recipe
    number: int = 1
    """Which of several builds from one recipe."""
    source: str
    """File name of the ONNX it was built from."""
    source_sha256: str
    seconds: float
    timing_cache: bool
    """Whether kernel timings of earlier builds were used."""


class Check(Record):
    """The outcome of running an artifact against the model right after it was made."""

    status: Status
    reason: str | None
    fidelity: Fidelity | None
    note: str | None = None


class Artifact(Record):
    path: Annotated[str, AfterValidator(_path_of_a_file)]
    format: Annotated[Format, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    precision: Precision
    size_bytes: Count
    """On disk, external data included; of a PyTorch model that the user gave as a file, the size of that file."""
    serialised_bytes: int | None = None
    """Size of the state dict as rtbench saves it, where `size_bytes` is that of the user's own file."""
    sha256: Sha256
    made_from: dict[str, str]
    """Everything it depends on, as text: equal means that it need not be made again."""
    tools: dict[str, str]
    calibration: Calibration | None = None
    dynamic_batch: bool = True
    batch: Count = 1
    """The only batch size that it takes, where `dynamic_batch` is false."""
    output: str | None = None
    """The output that has the classes, of a graph that was given; None for the only one."""
    check: Check | None = None
    without: list[str] = []
    """Optimisers of ONNX Runtime that crash on this graph on the CPU, and are left out there."""
    full_range: bool = False
    """True where INT8 weights use all 8 bits: on an x86 CPU without VNNI 16-bit sums of them saturate, and outputs are
    wrong."""
    kept_fp32: list[str] = []
    """Nodes of an FP16 or INT8 graph that stay in FP32, since their values pass the range of FP16."""
    build: EngineBuild | None = None
