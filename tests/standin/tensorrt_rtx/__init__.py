"""The real TensorRT for RTX, all but the running of engines, which needs a GPU.

An engine is run by ONNX Runtime, from the ONNX that its manifest names, on the very addresses it was given,
when the stand-in driver's stream comes to it. TENSORRT_STANDIN_ENGINES is the folder to look for manifests in.
Nothing here has a name that the real class lacks; test_trt_standin.py sees to it.
"""

import ctypes
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import tensorrt_rtx_bindings as real
from tensorrt_rtx_bindings import *  # noqa: F403
from tensorrt_rtx_bindings import Dims, ILogger, TensorIOMode, float32
from tensorrt_rtx_bindings import __version__ as __version__

_driver = ctypes.CDLL("libcuda.so.1")
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Counted:
    """The driver is told of every object, so that it sees one that outlives the context."""

    def __init__(self) -> None:
        _driver.standin_count_objects(1)

    def __del__(self) -> None:
        _driver.standin_count_objects(-1)


class Runtime(_Counted):
    def __init__(self, logger: ILogger) -> None:
        super().__init__()
        self.logger = logger
        self.engine_host_code_allowed = True

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        if self.engine_host_code_allowed:
            _driver.standin_violation(b"host code of an engine was allowed")
        if os.environ.get("TENSORRT_STANDIN_FAULT") == "deserialize_cuda_engine":
            self.logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: the plan is not of this version")
            return None
        return ICudaEngine(self, _find_manifest(serialized_engine))


def _find_manifest(plan: bytes) -> Path:
    digest = hashlib.sha256(plan).hexdigest()
    for path in Path(os.environ["TENSORRT_STANDIN_ENGINES"]).rglob("trt-*.json"):
        if ".layers" not in path.name and json.loads(path.read_text())["sha256"] == digest:
            return path
    raise FileNotFoundError(f"no manifest of the engine {digest}")


class ICudaEngine(_Counted):
    def __init__(self, runtime: Runtime, manifest: Path) -> None:
        super().__init__()
        import onnxruntime

        self._runtime = runtime
        build = json.loads(manifest.read_text())["build"]
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(manifest.parent / build["source"]), options, providers=["CPUExecutionProvider"]
        )
        self._tensors = [*self._session.get_inputs(), *self._session.get_outputs()]
        self._batch = build["recipe"]["batch"]
        self._precision = {"fp16": "Half", "int8": "Int8"}[build["recipe"]["precision"]]
        self.num_io_tensors = len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self._tensors[0].name else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> "real.DataType":
        return float32

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        return [Dims([self._batch[which], *self._tensors[0].shape[1:]]) for which in ("min", "opt", "max")]

    def create_engine_inspector(self) -> "EngineInspector":
        return EngineInspector(self)

    def create_execution_context(self) -> "IExecutionContext | None":
        if os.environ.get("TENSORRT_STANDIN_FAULT") == "create_execution_context":
            self._runtime.logger.log(ILogger.ERROR, "Error Code 1: Cuda Runtime (out of memory)")
            return None
        return IExecutionContext(self)


class EngineInspector(_Counted):
    """Says of TENSORRT_STANDIN_ODD, a layer, that it does not run in the precision of the engine."""

    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__()
        self._engine = engine
        self.execution_context = None

    def get_engine_information(self, format: "real.LayerInformationFormat") -> str:
        odd = os.environ.get("TENSORRT_STANDIN_ODD")
        layers = [
            {
                "Name": name,
                "LayerType": kind,
                "Inputs": [{"Format/Datatype": "Float" if name == odd else self._engine._precision}],
            }
            for name, kind in (("first", "CaskConvolution"), ("second", "CaskConvolution"), ("pool", "CaskPooling"))
        ]
        return json.dumps({"Layers": layers})


class IExecutionContext(_Counted):
    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__()
        self.engine = engine
        self._source, self._result = engine._tensors
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._enqueued: list[object] = []

    def set_input_shape(self, name: str, shape: Dims) -> bool:
        given = tuple(shape)
        if not self.engine._batch["min"] <= given[0] <= self.engine._batch["max"]:
            self.engine._runtime.logger.log(ILogger.ERROR, f"{given} is outside of the profile")
            return False
        self._shape = given
        self._enqueued.clear()
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        assert self._shape is not None
        return Dims(self._shape if name == self._source.name else [self._shape[0], *self._result.shape[1:]])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        self._enqueued.clear()
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if os.environ.get("TENSORRT_STANDIN_FAULT") == "execute_async_v3":
            self.engine._runtime.logger.log(ILogger.ERROR, "IExecutionContext::enqueueV3: a tensor has no address")
            return False
        if not self._enqueued:
            assert self._shape is not None
            source, result = (self._addresses[tensor.name] for tensor in (self._source, self._result))
            shape = self._shape, (self._shape[0], *self._result.shape[1:])
            self._enqueued.append(_work(self.engine._session, self._source.name, (source, result), shape))
        _driver.standin_enqueue(ctypes.c_void_p(stream_handle), self._enqueued[0], None)
        return True


def _work(session: object, name: str, addresses: tuple[int, int], shapes: tuple[tuple[int, ...], ...]) -> object:
    """What the stream calls when its turn comes; it holds none of the objects that are counted."""

    def compute(_: object) -> None:
        batch, output = (_on_device(*each) for each in zip(addresses, shapes, strict=True))
        output[:] = session.run(None, {name: batch})[0]

    return _WORK(compute)


def _on_device(address: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    if not _driver.standin_on_device(ctypes.c_size_t(address), ctypes.c_size_t(4 * size)):
        _driver.standin_violation(b"an engine was given an address that is not the device's")
    values = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
    return values.reshape(shape)
