"""A TensorRT engine, loaded and run: pinned host memory, one stream, events around the compute."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtbench.artifacts import write_text
from rtbench.errors import DeviceFailed, InvalidOutput, RuntimeUnavailable
from rtbench.export import tensorrt_library
from rtbench.export.build import Log, start
from rtbench.records.model import EngineBuild
from rtbench.runtimes import Clock, SessionInfo
from rtbench.runtimes.cuda import Device, Error, Graph, explain
from rtbench.runtimes.layers import count_layers, out_of_precision
from rtbench.terms import Precision

if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = tensorrt_library.chosen()


class EngineSession:
    """Owns the GPU that it is given, from the moment that its constructor has succeeded."""

    scripted_clock: Clock | None = None

    def __init__(self, path: str, build: EngineBuild, gpu: Device) -> None:
        self._gpu = gpu
        self._log = Log(io.StringIO())
        self._wants_graph = build.recipe.cuda_graph
        self._graph: Graph | None = None
        self._load(path)
        try:
            self._make_buffers()
        except Error as error:
            raise explain(error) from error
        self.info = SessionInfo(
            provider=f"{trt.__name__} {trt.__version__} (built by {build.library} {build.library_version})",
            device="cuda",
            settings={
                "gpu": f"{gpu.name}, {gpu.compute_capability}",
                "recipe": build.recipe.name,
                "cuda_graph": "on" if self._wants_graph else "off",
            },
            **self._inspect(Path(path), build.recipe.precision),
        )

    def _inspect(self, path: Path, precision: Precision) -> dict[str, Any]:
        """What the engine is made of, counted, and kept next to it where that can be written to."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context  # which has the shapes
        information = str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        with suppress(OSError):
            write_text(path.with_suffix(".layers.json"), information)
        others = out_of_precision(information, precision)
        warning = f"{len(others)} convolutions or matrix products do not run in {precision}: {', '.join(others)}"
        return {"layers": count_layers(information), "warnings": (warning,) if others else ()}

    def _load(self, path: str) -> None:
        """Everything of TensorRT's is an attribute from the start: a local would live on in a traceback."""
        self._gpu.own(self._forget)
        self._runtime = start(trt.Runtime, self._log)
        self._runtime.engine_host_code_allowed = False
        self._engine = self._runtime.deserialize_cuda_engine(Path(path).read_bytes())
        if self._engine is None:
            raise RuntimeUnavailable(
                f"{trt.__name__} {trt.__version__} does not load it on {self._gpu.name}: {self._log.reason()}",
                "export it again here",
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceFailed(f"{trt.__name__} has no room to run it: {self._log.reason()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._source, self._result = (
            self._only([name for name in names if self._engine.get_tensor_mode(name) == mode])
            for mode in (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        )

    @staticmethod
    def _only(names: list[str]) -> str:
        if len(names) != 1:
            raise InvalidOutput(f"it has tensors {', '.join(names)}, expected one input and one output")
        return names[0]

    def _make_buffers(self) -> None:
        """Buffers for the largest batch, and the batch size set to 1."""
        shape = self._engine.get_tensor_profile_shape(self._source, 0)[2]
        largest = tuple(shape[axis] for axis in range(len(shape)))
        self._set_shape(largest)
        self._input, self._output = (
            self._gpu.buffer(shape, trt.nptype(self._engine.get_tensor_dtype(name)))
            for name, shape in ((self._source, largest), (self._result, self._output_shape()))
        )
        for name, buffer in ((self._source, self._input), (self._result, self._output)):
            self._context.set_tensor_address(name, buffer.address)
        self._reshape((1, *largest[1:]))

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(self._source, trt.Dims(list(shape))):
            raise DeviceFailed(
                f"the engine does not take inputs of shape {list(shape)}: {self._log.reason()}",
                "build it with a recipe whose batch covers it",
            )

    def _output_shape(self) -> tuple[int, ...]:
        shape = self._context.get_tensor_shape(self._result)
        return tuple(shape[axis] for axis in range(len(shape)))

    def _reshape(self, shape: tuple[int, ...]) -> None:
        self._set_shape(shape)
        self._input.reshape(shape)
        self._output.reshape(self._output_shape())
        self._drop_graph()

    def bind(self, batch: NDArray[np.float32]) -> None:
        try:
            if batch.shape != self._input.host.shape:
                self._reshape(batch.shape)
            np.copyto(self._input.host, batch, casting="same_kind")
            self._input.to_device(self._gpu.stream)
        except Error as error:
            raise explain(error) from error

    def run(self) -> None:
        try:
            if self._wants_graph and not self._graph:
                self._enqueue()  # the first run after a change of shape sets up what a capture may not contain
                self._gpu.stream.synchronize()
                self._graph = Graph(self._gpu.stream, self._enqueue)
            self._gpu.begin.record(self._gpu.stream)
            if self._graph:
                self._graph.launch()
            else:
                self._enqueue()
            self._gpu.end.record(self._gpu.stream)
            self._output.to_host(self._gpu.stream)
            self._gpu.stream.synchronize()
        except Error as error:
            raise explain(error) from error

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._gpu.stream.handle):
            raise DeviceFailed(f"{trt.__name__} could not run the engine: {self._log.reason()}")

    def fetch(self) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._output.host.astype(np.float32)
        return output

    def device_ms(self) -> float | None:
        return self._gpu.device_ms()

    def close(self) -> None:
        self._gpu.close()

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.free()
            self._graph = None

    def _forget(self) -> None:
        """Let go of TensorRT's objects, the last made first, while the context is alive."""
        self._drop_graph()
        for name in ("_context", "_engine", "_runtime"):
            self.__dict__.pop(name, None)
