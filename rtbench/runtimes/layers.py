"""What an engine is made of, by TensorRT's engine inspector: how many layers of which kind run in which precision."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from rtbench.terms import Precision

WORDS = {"INT8": "int8", "BF16": "bf16|bfloat16", "FP16": "fp16|half", "FP32": "fp32|float"}
"""A tensor's precision by what the inspector says of its format: "Half", "Row major linear FP32", ..."""
PRODUCT = re.compile("conv|gemm|matrix", re.IGNORECASE)
"""Layers that multiply matrices, by their types; these take the time."""


def layers_of(information: str) -> list[dict[str, Any]]:
    """The layers in the inspector's JSON; none where the engine was built without their details."""
    try:
        layers = json.loads(information).get("Layers", [])
    except (ValueError, AttributeError):
        return []
    return [layer for layer in layers if isinstance(layer, dict) and layer.get("Inputs")]


def precision_of(layer: dict[str, Any]) -> str:
    """That of a layer's first input, which is what it computes with: what it gives out may have another."""
    said = str(layer["Inputs"][0].get("Format/Datatype", ""))
    return next((name for name, words in WORDS.items() if re.search(words, said, re.IGNORECASE)), said or "unknown")


def is_product(layer: dict[str, Any]) -> bool:
    return bool(PRODUCT.search(f"{layer.get('LayerType')} {layer.get('ParameterType')}"))


def count_layers(information: str) -> dict[str, dict[str, int]]:
    """For each precision, how many convolutions and matrix products and how many other layers run in it."""
    counts: dict[str, Counter[str]] = {}
    for layer in layers_of(information):
        kind = "products" if is_product(layer) else "others"
        counts.setdefault(precision_of(layer), Counter())[kind] += 1
    return {name: dict(counted) for name, counted in sorted(counts.items())}


def out_of_precision(information: str, precision: Precision) -> list[str]:
    """The convolutions and matrix products that do not run in the precision of the row."""
    products = [layer for layer in layers_of(information) if is_product(layer)]
    return [str(layer.get("Name")) for layer in products if precision_of(layer) != precision.upper()]
