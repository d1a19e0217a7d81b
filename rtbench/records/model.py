"""Records of the model and of what was made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rtbench.records import Record
from rtbench.records.measurement import Fidelity
from rtbench.terms import CalibrationMethod, Format, Interpolation, Library, Precision, Preprocess, Status, Triple


class Preprocessing(Record):
    """How an image becomes an input: resize the shorter side, centre crop, scale to [0, 1], normalise."""

    input_size: int
    resize: int
    interpolation: Interpolation
    mean: Triple
    std: Triple
    colour_order: Literal["RGB"] = "RGB"
    preprocess: Preprocess = "torch"
    """Whose resize it is: torchvision's, or TensorFlow's, which squashes the image to a square."""
    source: str
    """Who says so, in words for the report."""


class Model(Record):
    name: str
    source: str
    arch: str | None
    arch_options: dict[str, int | bool] = {}
    """Keyword arguments that build the architecture this state dict fits."""
    sha256: str
    parameters: int | None
    classes: int
    preprocessing: Preprocessing
    random_weights: bool = False
    published_top1: float | None = None
    """What the source of its recipe publishes for weights of this architecture, as a fraction of ImageNet's images."""


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

    min: int = Field(default=1, ge=1)
    opt: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> BatchProfile:
        if not self.min <= self.opt <= self.max:
            raise ValueError("must be min <= opt <= max")
        return self


class RecipeCalibration(Record):
    images: int = Field(default=256, ge=1)
    method: CalibrationMethod = "minmax"


class Recipe(Record):
    """How an engine is built, as a recipe file says it."""

    name: str
    precision: Literal["fp16", "int8"]
    compute_capability: str = Field(pattern=r"^\d+\.\d$")
    library: Library | None = None
    """None: `tensorrt` where it is installed and this machine has the GPU, else `tensorrt_rtx`."""
    workspace_mib: int = Field(default=1024, ge=1)
    optimization_level: int = Field(default=3, ge=0, le=5)
    batch: BatchProfile = BatchProfile()
    cuda_graph: bool = False
    """Whether the run is captured once as a CUDA graph and launched as a whole."""
    calibration: RecipeCalibration | None = None


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
    path: str
    format: Format
    precision: Precision
    size_bytes: int
    """On disk, external data included; of a PyTorch model that the user gave as a file, the size of that file."""
    serialised_bytes: int | None = None
    """Size of the state dict as rtbench saves it, where `size_bytes` is that of the user's own file."""
    sha256: str
    made_from: dict[str, str]
    """Everything it depends on, as text: equal means that it need not be made again."""
    tools: dict[str, str]
    calibration: Calibration | None = None
    dynamic_batch: bool = True
    check: Check | None = None
    without: list[str] = []
    """Optimisers of ONNX Runtime that crash on this graph on the CPU, and are left out there."""
    full_range: bool = False
    """True where INT8 weights use all 8 bits: on an x86 CPU without VNNI 16-bit sums of them saturate, and outputs are
    wrong."""
    kept_fp32: list[str] = []
    """Nodes of an FP16 or INT8 graph that stay in FP32, since their values pass the range of FP16."""
    build: EngineBuild | None = None
