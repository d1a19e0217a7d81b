"""ONNX files and modules as other tools write them: run as they are, or refused for what they are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import write_images
from onnx import TensorProto, helper, numpy_helper

from rtbench.errors import UsageError
from rtbench.export.adopt import adopt_onnx
from rtbench.models.load import load_model
from rtbench.options import ModelOptions
from rtbench.runtimes.ort import OrtSession

SIDE, CLASSES = 8, 5
WEIGHTS = np.random.default_rng(1).standard_normal((3, CLASSES)).astype(np.float32)
BATCH = np.random.default_rng(2).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)


def graph(
    path: Path,
    *,
    shape: Sequence[object] = ("n", 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    before: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[tuple[str, Sequence[object]]] = (("logits", ("n", CLASSES)),),
    weights: np.ndarray = WEIGHTS,
    opset: int = 17,
) -> Path:
    """The means of three channels, called `nchw`, through a matrix."""
    first = [] if before else [helper.make_node("Identity", ["image"], ["nchw"])]
    nodes = [
        *(before or first),
        helper.make_node("ReduceMean", ["nchw"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def run(path: Path, batch: np.ndarray, options: ModelOptions | None = None) -> np.ndarray:
    _, artifact = adopt_onnx(path, options or ModelOptions(), None)
    session = OrtSession(artifact, "cpu", 1)
    session.bind(batch)
    session.run()
    return session.fetch()


def test_channels_last_are_given_last(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "nhwc.onnx",
        shape=("n", SIDE, SIDE, 3),
        before=[helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2])],
    )
    assert adopt_onnx(path, ModelOptions(), None)[0].preprocessing.input_size == SIDE
    np.testing.assert_allclose(run(path, BATCH), BATCH.mean((2, 3)) @ WEIGHTS, rtol=1e-4)


def test_pixels_are_whole_numbers_and_not_normalised_before(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "pixels.onnx",
        kind=TensorProto.UINT8,
        before=[helper.make_node("Cast", ["image"], ["nchw"], to=TensorProto.FLOAT)],
    )
    model, _ = adopt_onnx(path, ModelOptions(), None)
    assert model.preprocessing.mean == (0, 0, 0)
    pixels = np.random.default_rng(4).integers(0, 256, BATCH.shape)
    normalised = (pixels / 255 - np.reshape(model.preprocessing.mean, (3, 1, 1))) / np.reshape(
        model.preprocessing.std, (3, 1, 1)
    )
    np.testing.assert_allclose(run(path, normalised.astype(np.float32)), pixels.mean((2, 3)) @ WEIGHTS, rtol=1e-4)
    assert "it takes pixels from 0 to 255" in model.choices[-1]
    with pytest.raises(UsageError, match="normalises them itself; leave out --mean and --std"):
        adopt_onnx(path, ModelOptions(mean=(0.5, 0.5, 0.5)), None)


def test_of_several_outputs_the_logits_are_taken_or_the_user_says_which(tmp_path: Path) -> None:
    both = [("means", ("n", 3)), ("logits", ("n", CLASSES))]
    path = graph(tmp_path / "both.onnx", outputs=both)
    model, artifact = adopt_onnx(path, ModelOptions(), None)
    assert (model.classes, artifact.output) == (CLASSES, "logits")
    assert model.choices == ["its output logits was taken; --output chooses means"]
    np.testing.assert_allclose(run(path, BATCH), BATCH.mean((2, 3)) @ WEIGHTS, rtol=1e-4)
    np.testing.assert_allclose(run(path, BATCH, ModelOptions(output="means")), BATCH.mean((2, 3)), rtol=1e-4)
    with pytest.raises(UsageError, match="has no output classes; --output is one of means, logits"):
        adopt_onnx(path, ModelOptions(output="classes"), None)
    renamed = onnx.load(path)
    for each in (*renamed.graph.node, *renamed.graph.output):
        if isinstance(each, onnx.NodeProto):
            each.output[:] = ["scores" if name == "logits" else name for name in each.output]
        elif each.name == "logits":
            each.name = "scores"
    onnx.save(renamed, tmp_path / "unclear.onnx")
    with pytest.raises(UsageError, match=r"has 2 outputs: means \['n', 3\], scores .*; say with --output which"):
        adopt_onnx(tmp_path / "unclear.onnx", ModelOptions(), None)


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "old.onnx", opset=9))
    model.ir_version = 3
    image = model.graph.input.pop()
    model.graph.input.extend([helper.make_tensor_value_info("weights", TensorProto.FLOAT, WEIGHTS.shape), image])
    onnx.save(model, tmp_path / "old.onnx")
    _, artifact = adopt_onnx(tmp_path / "old.onnx", ModelOptions(), None)
    assert artifact.dynamic_batch
    np.testing.assert_allclose(run(tmp_path / "old.onnx", BATCH), BATCH.mean((2, 3)) @ WEIGHTS, rtol=1e-4)


def test_nodes_out_of_order_are_for_onnx_runtime_to_judge(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "mixed.onnx"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "mixed.onnx")
    np.testing.assert_allclose(run(tmp_path / "mixed.onnx", BATCH), BATCH.mean((2, 3)) @ WEIGHTS, rtol=1e-4)


@pytest.mark.parametrize("what", ["ir", "opset"])
def test_a_graph_of_a_later_version_is_told_with_the_versions(what: str, tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "new.onnx"))
    if what == "ir":
        model.ir_version = 99
    else:
        model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "new.onnx")
    with pytest.raises(UsageError, match=rf"ONNX Runtime {onnxruntime.__version__} does not load .*99") as caught:
        adopt_onnx(tmp_path / "new.onnx", ModelOptions(), None)
    assert "onnxruntime_src" not in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_what_cannot_be_parsed_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(graph(tmp_path / "whole.onnx").read_bytes()[:-40])
    with pytest.raises(UsageError, match="damaged or not an ONNX model"):
        adopt_onnx(tmp_path / "cut.onnx", ModelOptions(), None)


def test_text_that_is_not_utf8_matters_only_where_it_is_a_name(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    model = onnx.load(graph(tmp_path / "whole.onnx", shape=("count", 3, SIDE, SIDE)))
    model.producer_name = "producer"
    whole = model.SerializeToString()
    (tmp_path / "latin.onnx").write_bytes(whole.replace(b"producer", b"Fran\xe7ois"))
    _, artifact = adopt_onnx(tmp_path / "latin.onnx", ModelOptions(), None)
    assert list(artifact.tools) == ["Fran\ufffdois"]
    for name in (b"logits", b"image", b"MatMul", b"count"):
        (tmp_path / "latin.onnx").write_bytes(whole.replace(name, b"\xe7" * len(name)))
        with pytest.raises(UsageError, match="has a name that is not UTF-8; export it again"):
            adopt_onnx(tmp_path / "latin.onnx", ModelOptions(), None)
    assert capfd.readouterr().out == ""


def test_a_weight_of_negative_size_is_damage(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "odd.onnx"))
    model.graph.initializer.add(name="unused", data_type=TensorProto.FLOAT).dims.append(-3)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(UsageError, match="a weight has a negative dimension"):
        adopt_onnx(tmp_path / "odd.onnx", ModelOptions(), None)


@pytest.mark.parametrize("operator", ["DynamicQuantizeLinear", "QuantizeLinear"])
def test_every_quantised_operator_makes_an_int8_row(operator: str, tmp_path: Path) -> None:
    more = {
        "DynamicQuantizeLinear": (["image"], ["q", "scale", "zero"]),
        "QuantizeLinear": (["image", "one", "none"], ["q"]),
    }
    inputs, outputs = more[operator]
    back = ["q", "scale", "zero"] if len(outputs) == 3 else ["q", "one", "none"]
    path = graph(
        tmp_path / "quantised.onnx",
        before=[
            helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(0.1))),
            helper.make_node("Constant", [], ["none"], value=numpy_helper.from_array(np.uint8(128))),
            helper.make_node(operator, inputs, outputs),
            helper.make_node("DequantizeLinear", back, ["nchw"]),
        ],
    )
    assert adopt_onnx(path, ModelOptions(), None)[1].precision == "int8"


def test_one_output_has_no_largest(tmp_path: Path) -> None:
    path = graph(tmp_path / "one.onnx", outputs=[("logits", ("n", 1))], weights=WEIGHTS[:, :1].copy())
    with pytest.raises(UsageError, match="has one output, and the largest of several is the answer"):
        adopt_onnx(path, ModelOptions(), None)


class Network(torch.nn.Module):
    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, classes)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(self.dropout(batch.mean((2, 3))))


class Both(Network):
    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        means = batch.mean((2, 3))
        return means, self.linear(means)


class Square(Network):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch.flatten(1))


def script(module: torch.nn.Module, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return str(path)


def test_modules_that_are_no_classifiers_say_what_they_give(tmp_path: Path) -> None:
    path = script(Both().eval(), tmp_path / "both.pt")
    with pytest.raises(UsageError, match=r"2 outputs, of shape \[1, 3\] and of shape \[1, 5\]; wrap it in a module"):
        load_model(path, ModelOptions())
    with pytest.raises(UsageError, match="has one output"):
        load_model(script(Network(1).eval(), tmp_path / "one.pt"), ModelOptions())


def test_torchscript_says_why_in_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not run on a 224x224 input: .*mat1 and mat2 shapes.*--input-size"):
        load_model(script(Square().eval(), tmp_path / "square.pt"), ModelOptions())


def test_weights_of_half_precision_are_computed_with_in_float32(tmp_path: Path) -> None:
    network = Network().eval().half()
    model = load_model(script(network, tmp_path / "half.pt"), ModelOptions())
    assert model.record.choices == ["its weights are float16 in the file; rtbench computes in float32"]
    expected = network.float()(torch.from_numpy(BATCH)).detach().numpy()
    np.testing.assert_allclose(model.logits(BATCH), expected, rtol=1e-4)


def test_a_network_in_training_mode_differs_from_itself(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Network().train(), torch.zeros(1, 3, SIDE, SIDE), check_trace=False)
        traced.save(str(tmp_path / "training.pt"))
    with pytest.raises(UsageError, match=r"other outputs for the same input \(dropout in training mode\?\)"):
        load_model(str(tmp_path / "training.pt"), ModelOptions())


def test_wrappers_are_taken_off_a_pickled_network(tmp_path: Path) -> None:
    inner = torch.nn.DataParallel(Network().eval())
    for wrapped in (inner, {"epoch": 1, "model": inner}):
        torch.save(wrapped, tmp_path / "wrapped.pt")
        model = load_model(str(tmp_path / "wrapped.pt"), ModelOptions(trust_code=True))
        assert type(model.module).__name__ == "Network"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_graph_of_a_fixed_batch_has_an_accuracy_and_no_latency(quickly, tmp_path: Path) -> None:
    """Nine images in batches of four: the last is filled up, and answers nothing for what it is filled with."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    )
    network(torch.zeros(1, 3, 16, 16))
    batched = torch.zeros(4, 3, 16, 16)
    torch.onnx.export(network.eval(), (batched,), str(tmp_path / "four.onnx"), dynamo=False, output_names=["logits"])
    axes = {"input": {0: "n"}, "logits": {0: "n"}}
    names = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    torch.onnx.export(network.eval(), (batched,), str(tmp_path / "free.onnx"), dynamo=False, **names)
    for name in "012":
        write_images(tmp_path / "data" / name, 3)
    rows = {}
    for name in ("four", "free"):
        (rows[name],) = quickly(f"{name}.onnx", "--data", tmp_path / "data", out=name)["rows"]
        rows[name]["predicted"] = [
            line.split(",")[:3] for line in (tmp_path / name / "predictions" / "ort-fp32.csv").read_text().splitlines()
        ]
    assert (rows["four"]["latency"], rows["free"]["latency"] is None) == (None, False)
    assert rows["four"]["accuracy"]["batch_size"] == 4
    assert rows["four"]["predicted"] == rows["free"]["predicted"]
    assert "takes batches of 4 alone, so the latency of one image was not measured" in rows["four"]["warnings"]
