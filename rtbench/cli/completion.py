"""What a shell completes of options whose values are names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from rtbench.terms import Precision


def _runtimes() -> Iterable[str]:
    from rtbench.runtimes.known import FAKE, runtimes

    for name, runtime in runtimes().items():
        if name != FAKE:
            yield name
            yield from (f"{name}:{device}" for device in runtime.devices)
            yield from (f"{name}+{variant}" for variant in runtime.variants)


def _formats() -> Iterable[str]:
    from rtbench.export.known import exporters

    return ["onnx", "trt", "tflite", *exporters()]


def _architectures() -> Iterable[str]:
    from rtbench.models.architectures import architecture_names

    return architecture_names()


def _several(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Of a list with commas, the last one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


COMPLETERS: dict[str, Callable[[str], list[str]]] = {
    "runtimes": _several(_runtimes),
    "precisions": _several(lambda: get_args(Precision)),
    "formats": _several(_formats),
    "arch": lambda incomplete: [name for name in _architectures() if name.startswith(incomplete)],
}
"""By the option's name."""
