"""Do outputs follow the model's own? Judged against how much the model's outputs move between inputs."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput
from rtbench.records.measurement import Fidelity
from rtbench.terms import Precision

ROUNDING: dict[Precision, float] = {"fp32": 1e-5, "bf16": 4e-2, "fp16": 5e-3, "int8": 0.1}
"""The relative error (RMS over RMS of the outputs) that the precision alone may cause in a deep network;
measured: at most 1e-6, 1e-3 and 0.1 on torchvision's classifiers with random weights, and for BF16, emulated, 9e-3 on
those and 0.027 on EfficientNet-Lite0 with its own."""
LIMIT: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.3, "fp16": 0.1, "int8": 0.7}
"""The relative error (RMS over the RMS spread of the outputs) past which outputs are not the model's. At
0.7 half of what moves in the outputs is error; a constant has 1, a right INT8 network 0.1 to 0.4."""

Array = NDArray[np.float32]


def require_outputs(outputs: Array, images: int, classes: int) -> None:
    """Raise InvalidOutput unless `outputs` are finite numbers of shape (images, classes)."""
    if outputs.shape != (images, classes):
        raise InvalidOutput(f"output has shape {list(outputs.shape)}, expected {[images, classes]}")
    wrong = int((~np.isfinite(outputs)).any(axis=1).sum())
    if wrong:
        raise InvalidOutput(f"output has NaN or infinity for {wrong} of {images} images")


def require_varied(outputs: Array) -> None:
    """Raise InvalidOutput where several images gave the very same output."""
    if len(outputs) > 1 and (outputs == outputs[0]).all():
        raise InvalidOutput(f"output is the same for all of {len(outputs)} images")


def judge(reference: Array, outputs: Array, precision: Precision) -> tuple[Literal["ok", "invalid"], Fidelity]:
    """Compare outputs with the model's own, both (N, classes) and finite, over the same images.

    Where only one of the two are probabilities, the other is put through softmax first. An untrained
    network's outputs hardly depend on its input: where rounding alone may pass the limit, fidelity cannot
    be judged, and only an error far beyond rounding makes the outputs invalid.
    """
    if _are_probabilities(outputs) and not _are_probabilities(reference):
        reference = _softmax(reference)
    elif _are_probabilities(reference) and not _are_probabilities(outputs):
        outputs = _softmax(outputs)
    own, theirs = reference.astype(np.float64), outputs.astype(np.float64)
    error = _rms(theirs - own)
    size = _rms(own)
    spread = _rms(own - own.mean(axis=0))
    rounding = ROUNDING[precision] * size
    judged = len(own) > 1 and LIMIT[precision] * spread > rounding
    relative = error / spread if spread > 0 else None
    agreement = float((own.argmax(axis=1) == theirs.argmax(axis=1)).mean())

    if judged and relative is not None and relative > LIMIT[precision]:
        status: Literal["ok", "invalid"] = "invalid"
        verdict = (
            f"outputs do not match the model's: error is {relative:.2g} of their spread over images"
            f" (limit {LIMIT[precision]:g}), top-1 agrees on {100 * agreement:.0f} % of {len(own)}"
        )
    elif not judged and error > 5 * rounding:
        status = "invalid"
        verdict = (
            f"outputs do not match the model's: error is {_share(error, size)} of their size,"
            f" far beyond {precision} rounding"
        )
    elif not size:
        status = "ok"
        verdict = "cannot be judged: the model's outputs are all zero (an untrained network?)"
    elif not judged:
        status = "ok"
        verdict = (
            f"cannot be judged: the model's outputs move by only {_share(spread, size)} of their size between"
            f" images, within {precision} rounding (an untrained network?)"
        )
    else:
        status = "ok"
        verdict = "follows the model"
    return status, Fidelity(
        images=len(own),
        top1_agreement=agreement,
        cosine_mean=_cosine_mean(own, theirs),
        max_abs_error=float(np.abs(theirs - own).max()),
        relative_error=relative,
        judged=judged,
        verdict=verdict,
    )


def within_rounding(outputs: Array, others: Array, precision: Precision) -> bool:
    """Whether two outputs of one shape differ by no more than this precision's rounding may cause."""
    first, second = outputs.astype(np.float64), others.astype(np.float64)
    return bool(_rms(first - second) <= ROUNDING[precision] * _rms(second))


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.2g}" if whole else "none"


def _cosine_mean(own: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(theirs, axis=1)
    both_zero = (np.linalg.norm(own, axis=1) == 0) & (np.linalg.norm(theirs, axis=1) == 0)
    dots = (own * theirs).sum(axis=1)
    return float(np.where(both_zero, 1.0, dots / np.where(norms == 0, 1.0, norms)).mean())


def _are_probabilities(values: Array) -> bool:
    return bool(values.min() >= 0 and np.allclose(values.sum(axis=1), 1, atol=1e-3))


def _softmax(values: Array) -> Array:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    softened: Array = raised / raised.sum(axis=1, keepdims=True)
    return softened
