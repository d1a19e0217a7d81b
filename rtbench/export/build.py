"""One ONNX file to one serialised engine, by whichever TensorRT library this process uses.

Networks are strongly typed: precision is what the ONNX says, for all three libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rtbench.errors import ExportFailed
from rtbench.export import tensorrt_library
from rtbench.records.model import BatchProfile, Recipe

if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = tensorrt_library.chosen()

Report = Callable[[str, int, int], None]


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

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
        self._steps[phase_name] = num_steps
        self._report(phase_name, 0, num_steps)

    def phase_finish(self, phase_name: str) -> None:
        self._steps.pop(phase_name, None)

    def step_complete(self, phase_name: str, step: int) -> bool:
        if phase_name in self._steps:
            self._report(phase_name, step + 1, self._steps[phase_name])
        return True


def build_plan(source: Path, recipe: Recipe, timing_cache: Path | None, log: Log, report: Report) -> bytes:
    """The engine of an ONNX file, serialised; ExportFailed with the library's own reason where it cannot.

    Kernel timings are read from `timing_cache` and added to it.
    """
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed())
    _parse(source, network, log)
    config = builder.create_builder_config()
    config.builder_optimization_level = recipe.optimization_level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib << 20)
    config.progress_monitor = _Monitor(report)
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
        timing_cache.write_bytes(memoryview(cache.serialize()))
    return bytes(memoryview(plan))


def _strongly_typed() -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # 11 knows no other networks
    return 0 if flag is None else 1 << int(flag)


def _parse(source: Path, network: trt.INetworkDefinition, log: Log) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(source)):
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
