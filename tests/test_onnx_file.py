"""External data of ONNX files, as the graph names it: read by our own reader, made by the onnx package."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.export.adopt import adopt_onnx
from rtbench.onnx_file import external_files, require_external_files
from rtbench.options import ModelOptions
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples

SIDE, CLASSES = 8, 10


def external(values: np.ndarray, name: str, folder: Path, location: str, offset: int | None = None) -> TensorProto:
    """A tensor that lies at `offset` of a file, which is written there too; without one, the whole file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
    tensor.data_location = TensorProto.EXTERNAL
    said = {"location": location}
    file = folder / location
    file.parent.mkdir(parents=True, exist_ok=True)
    content = bytearray(file.read_bytes() if file.exists() else b"")
    start = offset or 0
    content.extend(bytes(max(0, start - len(content))))
    content[start : start + values.nbytes] = values.tobytes()
    file.write_bytes(bytes(content))
    if offset is not None:
        said |= {"offset": str(offset), "length": str(values.nbytes)}
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def write_classifier(path: Path, initializers: list[TensorProto], nodes: list[onnx.NodeProto] | None = None) -> Path:
    """(batch, 3, 8, 8) to (batch, 10): flattened, times `weight`, plus `bias`."""
    graph = helper.make_graph(
        [
            *(nodes or []),
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        initializers,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )
    return path


def weight(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3 * SIDE * SIDE, CLASSES)).astype(np.float32)


BIAS = np.arange(CLASSES, dtype=np.float32)


def test_files_are_those_that_the_graph_names(tmp_path):
    initializers = [
        external(weight(), "weight", tmp_path, "parts/weights.bin", 64),
        external(BIAS, "bias", tmp_path, "bias"),
    ]
    path = write_classifier(tmp_path / "m.onnx", initializers)
    (tmp_path / "m.onnx.data").write_bytes(b"stray")
    assert external_files(path) == {tmp_path / "parts/weights.bin": 64 + weight().nbytes, tmp_path / "bias": 0}
    assert artifacts.parts(path) == [path, tmp_path / "parts/weights.bin", tmp_path / "bias"]
    assert artifacts.size_on_disk(path) == path.stat().st_size + 64 + weight().nbytes + BIAS.nbytes
    before = artifacts.file_sha256(path)
    (tmp_path / "m.onnx.data").write_bytes(b"another")
    assert artifacts.file_sha256(path) == before
    external(BIAS + 1, "bias", tmp_path, "bias")
    assert artifacts.file_sha256(path) != before


def test_every_place_of_a_tensor_is_looked_at(tmp_path):
    """Attributes, graphs within graphs, functions and sparse tensors, as the onnx package writes them."""

    def tensor(name: str) -> TensorProto:
        return external(np.ones(4, dtype=np.float32), name, tmp_path, f"{name}.bin", 0)

    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor("deepest"))],
        "inner",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])],
        [tensor("inner")],
    )
    branch = helper.make_node("If", ["yes"], ["x"], then_branch=inner, else_branch=inner)
    listed = helper.make_node("Custom", [], ["l"], domain="own", tensors=[tensor("listed")], graphs=[inner])
    function = helper.make_function(
        "own", "F", [], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor("function"))], []
    )
    path = write_classifier(tmp_path / "m.onnx", [tensor("weight")], [branch, listed])
    model = onnx.load(path, load_external_data=False)
    model.functions.append(function)
    model.graph.sparse_initializer.add(values=tensor("values"), indices=tensor("indices"))
    path.write_bytes(model.SerializeToString())
    names = {"weight", "deepest", "inner", "listed", "function", "values", "indices"}
    assert {file.stem for file in external_files(path)} == names


def test_one_file_of_two_names_counts_once(tmp_path):
    tensors = [external(weight(), "weight", tmp_path, "w.bin", 0), external(BIAS, "bias", tmp_path, "./w.bin", 8000)]
    path = write_classifier(tmp_path / "m.onnx", tensors)
    assert external_files(path) == {tmp_path / "w.bin": 8000 + BIAS.nbytes}


def test_two_graphs_may_share_a_file(tmp_path):
    for name in ("one", "two"):
        shared = external(weight(), "weight", tmp_path, "shared.bin", 0)
        write_classifier(tmp_path / f"{name}.onnx", [shared, numpy_helper.from_array(BIAS, "bias")])
    assert all(external_files(tmp_path / f"{name}.onnx") == {tmp_path / "shared.bin": 7680} for name in ("one", "two"))


def test_a_graph_that_holds_its_weights_has_no_files(tmp_path):
    tensors = [numpy_helper.from_array(weight(), "weight"), numpy_helper.from_array(BIAS, "location")]
    path = write_classifier(tmp_path / "m.onnx", tensors)
    (tmp_path / "m.onnx.data").write_bytes(b"stray")
    assert external_files(path) == {}


def test_the_mark_is_found_across_chunks(tmp_path, monkeypatch):
    path = write_classifier(tmp_path / "m.onnx", [external(weight(), "weight", tmp_path, "w.bin", 0)])
    for size in (1, 2, 7, 8, 9, 64):
        monkeypatch.setattr("rtbench.onnx_file.CHUNK", size)
        assert external_files(path)


def adopt(path: Path) -> artifacts.Artifact:
    return adopt_onnx(path, ModelOptions(), None)[1]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../w.bin", "outside its folder"),
        ("sub/../../w.bin", "outside its folder"),
        ("/etc/passwd", "outside its folder"),
        ("", "outside its folder"),
        ("a\0b", "outside its folder"),
        ("absent.bin", "which is not there"),
        ("pipe", "which is not there"),
        ("folder", "which is not there"),
        ("short.bin", "which is too short"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(tmp_path, location, words):
    folder = tmp_path / "model"
    tensors = [external(weight(), "weight", folder, "w.bin", 0), numpy_helper.from_array(BIAS, "bias")]
    path = write_classifier(folder / "m.onnx", tensors)
    (folder / "w.bin").rename(tmp_path / "w.bin")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "short.bin").write_bytes(bytes(7679))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=words) as caught:
        adopt(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["many", "1e3", "", "9" * 5000])
def test_a_place_that_is_not_a_number_is_told(tmp_path, key, value):
    path = write_classifier(tmp_path / "m.onnx", [external(weight(), "weight", tmp_path, "w.bin", 0)])
    model = onnx.load(path, load_external_data=False)
    next(each for each in model.graph.initializer[0].external_data if each.key == key).value = value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="damaged or not an ONNX model"):
        require_external_files(path)


def test_an_offset_past_the_end_is_told(tmp_path):
    path = write_classifier(tmp_path / "m.onnx", [external(weight(), "weight", tmp_path, "w.bin", 0)])
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    next(each for each in entries if each.key == "offset").value = "100"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match=r"'w\.bin', which is too short"):
        require_external_files(path)


def test_damaged_graphs_end_in_an_answer_or_a_sentence(tmp_path):
    path = write_classifier(tmp_path / "m.onnx", [external(weight(), "weight", tmp_path, "w.bin", 0)])
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(3000):
        damaged = bytearray(whole[: generator.integers(len(whole))] if generator.random() < 0.3 else whole)
        for _ in range(generator.integers(1, 6)):
            if damaged:
                damaged[generator.integers(len(damaged))] = generator.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            external_files(path)
        except UsageError as error:
            assert "\n" not in str(error)


def test_a_deep_graph_is_read_without_recursion(tmp_path):
    graph = b"\x0a\x00"
    for _ in range(2000):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x3a" + varint(len(graph)) + graph + b"\x12\x08location")
    assert external_files(path) == {}


def varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def test_external_data_is_part_of_an_adopted_file(rtbench, tmp_path):
    """Size, hash and the row itself."""
    folder = tmp_path / "mine"
    tensors = [external(weight(), "weight", folder, "w/weights.bin", 0), external(BIAS, "bias", folder, "b.bin", 0)]
    path = write_classifier(folder / "m.onnx", tensors)
    (folder / "m.onnx.data").write_bytes(b"stray")
    done = rtbench("compare", path, "--runs", "10", "--patience", "0", "--keep-artifacts", "--out", "run")
    assert done.returncode == 0, done.stderr + done.stdout
    (row,) = read_run(tmp_path / "run").rows
    assert row.artifact.size_bytes == path.stat().st_size + weight().nbytes + BIAS.nbytes
    assert row.artifact.sha256 == artifacts.file_sha256(path)
    kept = tmp_path / "run" / "artifacts" / row.artifact.sha256[:16]
    assert sorted(str(file.relative_to(kept)) for file in kept.rglob("*") if file.is_file()) == [
        "b.bin",
        "m.onnx",
        "w/weights.bin",
    ]
    done = rtbench("compare", path, "--runs", "10", "--patience", "0", "--against", "run", "--out", "again")
    assert done.returncode == 0, done.stderr + done.stdout
    assert set(read_samples(tmp_path / "again")) == {"ort/fp32", "against/ort/fp32"}
