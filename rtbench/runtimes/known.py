"""The table of runtimes, and how a user names one: `ort`, `ort:cuda`, `torch+channels_last+compile`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from rtbench import plugins
from rtbench.errors import UsageError
from rtbench.runtimes import RuntimeModule
from rtbench.terms import Format, Framework, Precision


@dataclass(frozen=True)
class Runtime:
    """`devices` are what may follow its name after a colon, the default first; `variants` what may follow after a plus,
    each with the devices that have it."""

    name: str
    module: str
    formats: frozenset[Format]
    precisions: tuple[Precision, ...]
    devices: tuple[str, ...]
    variants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    computes: frozenset[Precision] = frozenset()
    """Precisions that it computes in itself, from an FP32 artifact."""


FAKE = "fake"
"""The runtime that follows a script, for tests: it is never proposed."""
GROUP = "rtbench.runtimes"
"""The entry points of other packages' runtimes."""
ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")
TORCH: frozenset[Format] = frozenset({"state_dict", "torchscript", "pickle", "pt2"})
UNCHANGED: Mapping[str, frozenset[Format]] = {"compile": frozenset({"torchscript"}), "fp16": frozenset({"pt2"})}
"""Formats that a variant cannot be made of."""
QUANTISED: frozenset[Format] = frozenset({"torchscript", "pickle", "pt2"})
"""Formats in which a network can be that PyTorch has quantised itself."""
EVERYWHERE = ("cpu", "cuda")
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "torch",
            "rtbench.runtimes.torch",
            TORCH,
            ("fp32", "bf16"),
            EVERYWHERE,
            variants={
                "channels_last": EVERYWHERE,
                "compile": EVERYWHERE,
                "benchmark": ("cuda",),
                "bf16": EVERYWHERE,
                "fp16": ("cuda",),
            },
            computes=frozenset({"bf16", "fp16"}),
        ),
        Runtime("ort", "rtbench.runtimes.ort", frozenset({"onnx"}), ALL, ("cpu", "cuda", "trt")),
        Runtime(
            "openvino",
            "rtbench.runtimes.openvino",
            frozenset({"onnx"}),
            ("fp32", "fp16", "bf16", "int8"),
            ("cpu", "gpu", "npu"),
            computes=frozenset({"bf16"}),
        ),
        Runtime("tf", "rtbench.runtimes.tf", frozenset({"saved_model"}), ("fp32",), ("cpu",)),
        Runtime("litert", "rtbench.runtimes.litert", frozenset({"tflite"}), ALL, ("cpu",)),
        Runtime("trt", "rtbench.runtimes.trt", frozenset({"engine"}), ("fp16", "int8"), ("cuda",)),
        Runtime(FAKE, "rtbench.runtimes.fake", frozenset({"fake"}), ALL, ("cpu",)),
    )
}


OWN_RUNTIME: Mapping[Framework, str] = {"torch": "torch", "tensorflow": "tf"}
"""The runtime that is a model's own framework."""


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime as the user wrote it, less its precision: `torch:cuda+channels_last`; and the device that it means
    here."""

    written: str
    runtime: Runtime
    device: str
    variants: tuple[str, ...] = ()
    precision: Precision | None = None
    """The only one that was asked for, by name."""

    @property
    def is_reference(self) -> bool:
        """Whether it runs models as their own framework does by default, so that its FP32 row is what others are held
        against."""
        return self.runtime.name in OWN_RUNTIME.values() and not self.variants

    def precisions(self, asked: Sequence[Precision]) -> Sequence[Precision]:
        return (self.precision,) if self.precision else asked

    def runs(self, precision: Precision) -> bool:
        return precision in (*self.runtime.precisions, self.precision)

    def source(self, precision: Precision) -> Precision:
        """The precision of the artifact that a row in this one is made of."""
        return "fp32" if precision in self.runtime.computes else precision

    def words(self, precision: Precision) -> tuple[str, ...]:
        """Its variants as a session is told them."""
        return (*self.variants, precision) if precision in self.runtime.computes else self.variants

    def takes(self, kind: Format, precision: Precision) -> bool:
        """Whether it runs artifacts of this kind; what TensorRT runs in INT8 is quantised in its own way."""
        if self.runtime.name == "ort" and precision == "int8":
            return kind == ("onnx_trt" if self.device == "trt" else "onnx")
        if any(kind in UNCHANGED.get(word, ()) for word in self.words(precision)):
            return False
        quantised = self.runtime.name == "torch" and precision == "int8" and kind in QUANTISED
        return kind in self.runtime.formats and (self.runs(precision) or quantised)


def choose(written: str, *, gpu: bool) -> RuntimeChoice:
    """Read `name`, `name:device`, and variants or a precision after them, each with a plus. A bare name means the GPU
    where there is one (`gpu`), else the CPU.

    Raises UsageError with the nearest name for one that is not known.
    """
    target, *words = written.split("+")
    name, _, device = target.partition(":")
    runtime = RUNTIMES.get(name) or runtimes().get(name)
    if runtime is None:
        broken = plugins.installed(GROUP, Runtime)[1]
        if name in broken:
            raise UsageError(f"the runtime {name} is broken: {broken[name]}", "install its package again")
        raise UsageError(f"there is no runtime {name!r}", _hint(name, [each for each in runtimes() if each != FAKE]))
    if device and device not in runtime.devices:
        raise UsageError(f"runtime {name} has no device {device!r}", f"there are {', '.join(runtime.devices)}")
    known: dict[str, tuple[str, ...]] = {**dict.fromkeys(runtime.precisions, runtime.devices), **runtime.variants}
    for word in words:
        if word not in known:
            raise UsageError(f"runtime {name} has no variant {word!r}", _hint(word, list(known)))
    fits = [each for each in runtime.devices if all(each in known[word] for word in words)]
    if not fits or device not in ("", *fits):
        raise UsageError(f"there is no {written}", f"{'+'.join(words)} is for {name}:{', '.join(fits) or 'no device'}")
    if not device:
        device = "cuda" if gpu and "cuda" in fits else fits[0]
    variants = tuple(word for word in runtime.variants if word in words and word not in (*runtime.computes,))
    precisions = cast("list[Precision]", [word for word in words if word not in variants])
    if len(precisions) > 1:
        raise UsageError(f"{written} names {len(precisions)} precisions", "name one runtime for each")
    return RuntimeChoice("+".join((target, *variants)), runtime, device, variants, next(iter(precisions), None))


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def load_runtime(name: str) -> RuntimeModule:
    """Import a runtime's module and with it the packages that it needs."""
    return cast(RuntimeModule, import_module(runtimes()[name].module))


def runtimes() -> Mapping[str, Runtime]:
    """Those of rtbench, and those of other packages under other names."""
    return {**plugins.installed(GROUP, Runtime)[0], **RUNTIMES}
