"""How a user names a runtime, and which rows it makes."""

from __future__ import annotations

import pytest

from rtbench.errors import UsageError
from rtbench.runtimes.known import RUNTIMES, choose


@pytest.mark.parametrize(
    ("written", "gpu", "device", "variants", "precision", "row"),
    [
        ("torch", False, "cpu", (), None, "torch/fp32"),
        ("torch", True, "cuda", (), None, "torch/fp32"),
        ("torch:cpu", True, "cpu", (), None, "torch:cpu/fp32"),
        ("torch+channels_last", False, "cpu", ("channels_last",), None, "torch+channels_last/fp32"),
        ("torch+compile+channels_last", False, "cpu", ("channels_last", "compile"), None, None),
        ("torch+benchmark", False, "cuda", ("benchmark",), None, "torch+benchmark/fp32"),
        ("torch+bf16", False, "cpu", (), "bf16", "torch/bf16"),
        ("torch:cpu+channels_last+bf16", True, "cpu", ("channels_last",), "bf16", "torch:cpu+channels_last/bf16"),
        ("torch+fp16", False, "cuda", (), "fp16", "torch/fp16"),
        ("openvino", True, "cpu", (), None, "openvino/fp32"),
        ("openvino:gpu+int8", False, "gpu", (), "int8", "openvino:gpu/int8"),
        ("ort+int8", False, "cpu", (), "int8", "ort/int8"),
    ],
)
def test_a_runtime_is_read_with_its_device_variants_and_precision(written, gpu, device, variants, precision, row):
    choice = choose(written, gpu=gpu)
    assert (choice.device, choice.variants, choice.precision) == (device, variants, precision)
    if row:
        assert f"{choice.written}/{precision or 'fp32'}" == row
    else:
        assert choice.written == "torch+channels_last+compile"  # always in one order


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("torhc", "there is no runtime 'torhc'; did you mean torch?"),
        ("torch+compiled", "runtime torch has no variant 'compiled'; did you mean compile?"),
        ("torch:gpu", "runtime torch has no device 'gpu'; there are cpu, cuda"),
        ("openvino:auto", "runtime openvino has no device 'auto'; there are cpu, gpu, npu"),
        ("torch:cpu+benchmark", "there is no torch:cpu+benchmark; benchmark is for torch:cuda"),
        ("torch:cpu+fp16", "there is no torch:cpu+fp16; fp16 is for torch:cuda"),
        ("torch+bf16+fp16", "torch+bf16+fp16 names 2 precisions; name one runtime for each"),
        ("ort+compile", "runtime ort has no variant 'compile'; there are fp32, fp16, int8"),
        ("openvino+", "runtime openvino has no variant ''; there are fp32, fp16, bf16, int8"),
    ],
)
def test_what_cannot_be_named_is_refused_with_what_can(written, said):
    with pytest.raises(UsageError) as raised:
        choose(written, gpu=False)
    assert str(raised.value) == said


def test_only_a_framework_as_it_is_is_the_reference():
    assert [name for name in RUNTIMES if choose(name, gpu=False).is_reference] == ["torch", "tf"]
    assert not choose("torch+channels_last", gpu=False).is_reference
    assert choose("torch+bf16", gpu=False).source("bf16") == "fp32"
    assert choose("torch+channels_last+bf16", gpu=False).words("bf16") == ("channels_last", "bf16")
    assert choose("openvino", gpu=False).words("fp16") == ()


def test_variants_leave_out_the_formats_that_they_cannot_be_made_of():
    compiled, plain = choose("torch+compile", gpu=False), choose("torch", gpu=False)
    assert plain.takes("torchscript", "fp32")
    assert not compiled.takes("torchscript", "fp32")
    assert compiled.takes("state_dict", "fp32")
    assert not choose("torch+fp16", gpu=True).takes("pt2", "fp16")
    assert choose("torch+bf16", gpu=True).takes("pt2", "bf16")
