"""The CUDA driver through pycuda: one GPU's primary context, a stream, events, buffers, graphs.

What goes wrong down there becomes RuntimeUnavailable (no driver, no GPU) or DeviceFailed (it broke off).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rtbench import nvidia
from rtbench.errors import DeviceFailed, RtbenchError, RuntimeUnavailable

try:
    import pycuda.driver as cuda
except ModuleNotFoundError as error:
    raise RuntimeUnavailable("pycuda is not installed", "pip install pycuda, which needs a CUDA toolkit") from error
except ImportError as error:
    if "libcuda.so" in str(error):
        message, remedy = "there is no NVIDIA driver", "install it, or run in the container with --gpus all"
    elif "undefined symbol: cu" in str(error):
        message = "the NVIDIA driver is older than the CUDA toolkit that pycuda was built with"
        remedy = "install a newer driver, or pip install pycuda again with a toolkit that is not newer"
    else:
        message, remedy = "pycuda cannot be loaded", "install what it lacks, or pip install pycuda again"
    raise RuntimeUnavailable(f"{message} ({error})", remedy) from error

Error = cuda.Error

_ABSENT = ("no CUDA-capable device", "no device", "insufficient", "unsupported", "not initialized", "initialization")
_LOST = (
    "launch failed",
    "launch failure",
    "launch timeout",
    "illegal address",
    "illegal memory access",
    "ECC",
    "unknown",
    "unavailable",
    "lost",
)


def explain(error: Exception) -> RtbenchError:
    """pycuda's error as ours, by what the driver says."""
    said = str(error)
    if isinstance(error, cuda.MemoryError):
        return DeviceFailed(
            f"the GPU is out of memory ({said})", "end what else uses it, or lower batch.max of the recipe"
        )
    if said.startswith("cuInit") or any(word in said for word in _ABSENT):
        return RuntimeUnavailable(f"the NVIDIA driver offers no GPU ({said})", "see what nvidia-smi says")
    if any(word in said for word in _LOST):
        return DeviceFailed(f"the GPU was lost during the run ({said})", "see its Xid error in dmesg, and reset it")
    return DeviceFailed(f"the CUDA driver refused a call ({said})")


class Device:
    """The first GPU, with its primary context current in this thread until `close`.

    Its stream, two events, and the buffers made here live until then, and go in the reverse order.
    pycuda destroys a stream or an event with the last reference to it: take them from here each time.
    """

    def __init__(self) -> None:
        self._owned = ExitStack()
        if cuda.get_driver_version() < 1000 * cuda.get_version()[0]:
            nvidia.require_cuda(str(cuda.get_version()[0]), "pycuda")
        try:
            cuda.init()
            device = cuda.Device(0)
            self.name: str = device.name()
            self.compute_capability = "{}.{}".format(*device.compute_capability())
            context = device.retain_primary_context()
            self._owned.callback(context.detach)
            context.push()
            self._owned.callback(context.pop)
            for name, make in (("stream", cuda.Stream), ("begin", cuda.Event), ("end", cuda.Event)):
                setattr(self, name, make())
                self._owned.callback(delattr, self, name)
        except Error as error:
            self._owned.close()
            raise explain(error) from error

    stream: Any
    begin: Any
    end: Any

    def own(self, release: Callable[[], object]) -> None:
        """Have `close` call this."""
        self._owned.callback(release)

    def buffer(self, shape: tuple[int, ...], dtype: DTypeLike) -> Buffer:
        buffer = Buffer(shape, dtype)
        self.own(buffer.free)
        return buffer

    def device_ms(self) -> float:
        """Milliseconds between `begin` and `end`, which the stream has passed."""
        try:
            return float(self.end.time_since(self.begin))
        except Error as error:
            raise explain(error) from error

    def close(self) -> None:
        """Release everything, once what is under way has ended or failed."""
        with suppress(Error):
            self.stream.synchronize()
        self._owned.close()


class Buffer:
    """One tensor: pinned memory on the host and memory on the GPU, enough for its largest shape."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._whole = cuda.pagelocked_empty(prod(shape), dtype)
        try:
            self._device = cuda.mem_alloc(self._whole.nbytes)
        except Error:
            self._whole.base.free()
            raise
        self.address = int(self._device)
        self.reshape(shape)

    def reshape(self, shape: tuple[int, ...]) -> None:
        """Use the first part of the memory as this shape."""
        self.host: NDArray[np.generic] = self._whole[: prod(shape)].reshape(shape)

    def to_device(self, stream: Any) -> None:
        cuda.memcpy_htod_async(self.address, self.host, stream)

    def to_host(self, stream: Any) -> None:
        cuda.memcpy_dtoh_async(self.host, self.address, stream)

    def free(self) -> None:
        self._device.free()
        self._whole.base.free()


class Graph:
    """Work that is captured from a stream once and launched as a whole; pycuda has no calls for it."""

    _CAPTURE_THREAD_LOCAL = 1

    def __init__(self, stream: Any, enqueue: Callable[[], None]) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream = ctypes.c_void_p(stream.handle)
        graph, self._launchable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, self._CAPTURE_THREAD_LOCAL)
        try:
            enqueue()
        finally:
            self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._launchable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self) -> None:
        self._call("cuGraphLaunch", self._launchable, self._stream)

    def free(self) -> None:
        self._call("cuGraphExecDestroy", self._launchable)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            raise cuda.LogicError(f"{name} failed: {(text.value or b'error').decode()}")
