"""What the engine inspector's words are counted as."""

from __future__ import annotations

import json

import pytest

from rtbench.runtimes.layers import count_layers, out_of_precision


def layer(name: str, kind: str, given: str, *others: str, **fields: str) -> dict[str, object]:
    tensors = [{"Name": f"{name}-{at}", "Format/Datatype": each} for at, each in enumerate((given, *others))]
    return {"Name": name, "LayerType": kind, "Inputs": tensors, "Outputs": [], **fields}


ENGINE = {
    "Layers": [
        layer("to int8", "Reformat", "Row major linear FP32"),
        layer("first", "CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format"),
        layer("second", "CaskConvolution", "Int8", "Half"),
        layer(
            "third", "CaskConvolution", "Channel major FP16 format where channel % 8 == 0", ParameterType="Convolution"
        ),
        layer("last", "CaskGemmMatrixMultiply", "Float"),
        layer("pool", "CaskPooling", "Half"),
        layer("odd", "Something", "FP8"),
        {"Name": "signal", "LayerType": "Signal", "Inputs": []},
        "a name alone",
    ]
}


def test_layers_are_counted_by_the_precision_of_what_they_are_given():
    assert count_layers(json.dumps(ENGINE)) == {
        "FP16": {"products": 1, "others": 1},
        "FP32": {"others": 1, "products": 1},
        "FP8": {"others": 1},
        "INT8": {"products": 2},
    }


@pytest.mark.parametrize(("precision", "names"), [("int8", ["third", "last"]), ("fp16", ["first", "second", "last"])])
def test_products_in_another_precision_are_named(precision, names):
    assert out_of_precision(json.dumps(ENGINE), precision) == names


@pytest.mark.parametrize("said", ["", "not JSON", "[]", '{"Layers": ["first", "second"]}'])
def test_an_engine_without_details_says_nothing(said):
    assert count_layers(said) == {}
    assert out_of_precision(said, "int8") == []
