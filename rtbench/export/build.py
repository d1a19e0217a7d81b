"""One ONNX file to one serialised engine, by the TensorRT library that this process uses.

Networks are strongly typed: precision is what the ONNX says, for all three libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, SupportsInt, TypeVar, cast

from rtbench import nvidia
from rtbench.errors import ExportFailed, RuntimeUnavailable
from rtbench.export import tensorrt_library
from rtbench.export.half_input import half_input
from rtbench.records.model import BatchProfile, Recipe

if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = tensorrt_library.chosen()

Report = Callable[[str, int, int], None]
Started = TypeVar("Started")


class Log(trt.ILogger):
    """Writes the library's messages to a file as they come, and keeps the errors."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        self._file.write(f"{severity.name}: {message}\n")
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(message.strip())

    def reason(self) -> str:
        """The first error, which is the cause of those after it."""
        return self.errors[0] if self.errors else "it gave no reason"


class _Monitor(trt.IProgressMonitor):
    """Reports the innermost phase that the builder is in."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._steps: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:  # noqa: ARG002
        self._steps[phase_name] = int(num_steps)
        self._report(phase_name, 0, int(num_steps))

    def phase_finish(self, phase_name: str) -> None:
        self._steps.pop(phase_name, None)

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        if phase_name in self._steps:
            self._report(phase_name, int(step) + 1, self._steps[phase_name])
        return True


def start(factory: Callable[[Log], Started], log: Log) -> Started:
    """A builder or a runtime; RuntimeUnavailable where the library gives none, as beside a driver that is too old."""
    try:
        return factory(log)
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        library = f"{trt.__name__} {trt.__version__}"
        nvidia.require_cuda(tensorrt_library.built_for(trt.__name__), library)
        raise RuntimeUnavailable(f"{library} does not start: {log.reason()}", "see what nvidia-smi says") from error


def build_plan(source: Path, recipe: Recipe, timing_cache: Path | None, log: Log, report: Report) -> bytes:
    """The engine of an ONNX file, serialised; ExportFailed with the library's own reason where it cannot.

    Kernel timings are read from `timing_cache` and added to it.
    """
    builder = start(trt.Builder, log)
    network = builder.create_network(_strongly_typed())
    _parse(source, network, log, recipe)
    config = builder.create_builder_config()
    config.builder_optimization_level = recipe.optimization_level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib << 20)
    config.progress_monitor = _Monitor(report)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the engine can say what it is made of
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, network, recipe.batch))
    if trt.__name__ == "tensorrt_rtx":
        _target(config, recipe.compute_capability)
    cache = _open_timings(config, timing_cache) if timing_cache else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportFailed(
            f"{trt.__name__} {trt.__version__} cannot build it for {recipe.compute_capability}: {log.reason()}"
        )
    if timing_cache and cache:
        timing_cache.write_bytes(_bytes_of(cache.serialize()))
    return _bytes_of(plan)


def _bytes_of(memory: trt.IHostMemory) -> bytes:
    return bytes(memoryview(cast(Any, memory)))  # a buffer, which the bindings' signatures do not say


def _strongly_typed() -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # 11 knows no other networks
    return 0 if flag is None else 1 << int(flag)


def _parse(source: Path, network: trt.INetworkDefinition, log: Log, recipe: Recipe) -> None:
    parser = trt.OnnxParser(network, log)
    taken = parser.parse(half_input(source)) if recipe.input == "fp16" else parser.parse_from_file(str(source))
    if taken:
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [f"node {error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors]
    raise ExportFailed(f"{trt.__name__} {trt.__version__} does not take {source.name}: {'; '.join(lines)}")


def _profile(builder: trt.Builder, network: trt.INetworkDefinition, batch: BatchProfile) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    tensor = network.get_input(0)
    free, *image = (tensor.shape[axis] for axis in range(len(tensor.shape)))
    smallest, usual, largest = (trt.Dims([size, *image]) for size in (batch.min, batch.opt, batch.max))
    if free == -1:
        profile.set_shape(tensor.name, smallest, usual, largest)
    return profile


def _target(config: trt.IBuilderConfig, compute_capability: str) -> None:
    rtx, rtx_config = cast(Any, trt), cast(Any, config)  # what `tensorrt`, whose stubs we have, lacks
    capability = getattr(rtx.ComputeCapability, f"SM{compute_capability.replace('.', '')}", None)
    if capability is None:
        raise ExportFailed(f"{trt.__name__} {trt.__version__} cannot build for compute capability {compute_capability}")
    rtx_config.num_compute_capabilities = 1
    rtx_config.set_compute_capability(capability, 0)


def _open_timings(config: trt.IBuilderConfig, path: Path) -> trt.ITimingCache:
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache
