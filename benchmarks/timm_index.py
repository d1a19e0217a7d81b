"""The index by which rtbench knows the state dicts of timm's networks: rtbench/data/timm_networks.txt.

    python benchmarks/timm_index.py > rtbench/data/timm_networks.txt

A line for each network: the digest of its keys and shapes, the layers that its number of classes changes, those that
its number of input channels changes, its name.
"""

from __future__ import annotations

import sys

import timm
import torch

from rtbench.models.timm_networks import digest


def main() -> None:
    print(f"# timm {timm.__version__}: digest of keys and shapes, classifier, first convolution, name")
    for number, name in enumerate(timm.list_models()):
        state = shapes_of(name)
        last = changed(state, shapes_of(name, num_classes=7))
        try:
            first = changed(state, shapes_of(name, in_chans=1))
        except (AssertionError, TypeError, ValueError, RuntimeError):  # it takes no other number of channels
            first = ()
        print(digest(state, last, first), ",".join(last) or "-", ",".join(first) or "-", name, flush=True)
        print(f"\r{number + 1}", end="", file=sys.stderr)


def shapes_of(name: str, **options: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        state: dict[str, torch.Tensor] = timm.create_model(name, **{"num_classes": 1000} | options).state_dict()
    return state


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """The layers of which a parameter has another shape."""
    return tuple(sorted({key.rpartition(".")[0] for key in one if one[key].shape != other[key].shape}))


if __name__ == "__main__":
    main()
