"""A network as an ExecuTorch program whose layers XNNPACK computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from executorch.exir import to_edge_transform_and_lower
from numpy.typing import NDArray
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from rtbench.records.model import Model
from rtbench.terms import Precision


def export(
    source: torch.nn.Module, model: Model, precision: Precision, images: Iterator[NDArray[np.float32]], path: Path
) -> Mapping[str, Any]:
    example = (torch.zeros(1, *model.preprocessing.input_shape),)
    network = source.eval()
    if precision == "int8":
        network = quantised(network, example, images)
    program = torch.export.export(network, example)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    return {"dynamic_batch": False}


def quantised(
    network: torch.nn.Module, example: tuple[torch.Tensor, ...], images: Iterator[NDArray[np.float32]]
) -> torch.nn.Module:
    """Weights in INT8 by channel, activations in INT8 by the ranges of the calibration images."""
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(network, example).module(), quantizer)
    with torch.inference_mode():
        for image in images:
            prepared(torch.from_numpy(image))
    return convert_pt2e(prepared)
