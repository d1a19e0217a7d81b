"""ONNX Runtime's memory binding and what is said of its placement, on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from rtbench.errors import DeviceFailed
from rtbench.export.torch import write_fp32
from rtbench.runtimes import ort, ort_gpu


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("ort") / "small.onnx"
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 7)]
    write_fp32(torch.nn.Sequential(*layers).eval(), None, (3, 8, 8), path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_bound_memory_gives_the_outputs_of_its_last_input(session):
    bound = ort.BoundMemory(session, "cpu", session.get_outputs()[0].name)
    for count in (1, 1, 5, 2, 1):
        batch = np.random.default_rng(count).standard_normal((count, 3, 8, 8), dtype=np.float32)
        bound.bind(batch)
        bound.run()
        np.testing.assert_array_equal(bound.fetch(), session.run(None, {"input": batch})[0])


def test_int8_on_cuda_and_work_left_to_another_provider_are_warned_of():
    placement = {"TensorrtExecutionProvider": {"Conv": 3}, "CUDAExecutionProvider": {"Conv": 1, "Add": 2, "Gemm": 1}}
    assert ort._stranded(placement, "trt") == (
        "1 Conv, 1 Gemm ran in CUDAExecutionProvider: TensorrtExecutionProvider has no kernels for them",
    )
    assert ort._stranded({"CUDAExecutionProvider": {"Conv": 4}, "CPUExecutionProvider": {"Shape": 1}}, "cuda") == ()
    assert [bool(ort_gpu.without_kernels(*each)) for each in (("cuda", "int8"), ("cuda", "fp16"), ("trt", "int8"))] == [
        True,
        False,
        False,
    ]


def test_what_onnx_runtime_says_of_a_full_gpu_becomes_a_sentence():
    said = ort_gpu.state.RuntimeException(
        "[ONNXRuntimeError] : 6 : BFCArena: Failed to allocate memory for 8 bytes\nstack"
    )
    with pytest.raises(DeviceFailed, match="out of memory"), ort_gpu.translated():
        raise said
    with pytest.raises(DeviceFailed, match="the GPU stopped: CUDA failure 719"), ort_gpu.translated():
        raise ort_gpu.state.Fail("CUDA failure 719: unspecified launch failure\nstack")
