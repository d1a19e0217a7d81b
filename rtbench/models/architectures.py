"""Networks known by name, and the name of a network from its state dict.

Torchvision is imported where one of its networks is meant: it takes a second that the others need not wait.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rtbench.errors import UsageError
from rtbench.images import sample
from rtbench.records.model import Preprocessing

StateDict = Mapping[str, torch.Tensor]
Options = dict[str, int | bool]

_AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}


def architecture_names() -> list[str]:
    """Torchvision's classifiers and, where its package is installed, the built-in sample's network."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return [*names, sample.ARCH] if sample.is_installed() else names


def require_architecture(name: str) -> None:
    """Raise UsageError, with the nearest name, for one that is not known."""
    if name == sample.ARCH and sample.is_installed():
        return
    names = architecture_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "see torchvision.models.list_models() for the names"
        raise UsageError(f"there is no architecture {name!r}", hint)


def build(name: str, options: Options) -> torch.nn.Module:
    """The network, in evaluation mode, with weights that mean nothing yet."""
    if name == sample.ARCH:
        return sample.build_network(options["num_classes"]).eval()
    from torchvision.models import get_model

    module: torch.nn.Module = get_model(name, weights=None, **options)
    return module.eval()


def options_for(name: str, state: StateDict) -> Options:
    """The keyword arguments of `build` under which the network has this state dict's optional parts.

    googlenet and inception_v3 take inputs as torchvision's published weights want them; a vision
    transformer's input size is read off its position embedding.
    """
    options: Options = {"num_classes": _num_classes(state)}
    if name in _AUXILIARY:
        aux = any(key.startswith(_AUXILIARY[name]) for key in state)
        options |= {"aux_logits": aux, "transform_input": True, "init_weights": False}
    positions = state.get("encoder.pos_embedding")
    if name.startswith("vit_") and positions is not None and positions.ndim == 3:
        patch_side = int(name.rpartition("_")[2])
        options["image_size"] = patch_side * math.isqrt(positions.shape[1] - 1)
    return options


def recognise(state: StateDict) -> tuple[str, Options]:
    """The architecture whose keys and shapes are exactly those of `state`.

    Raises UsageError naming the nearest architecture and the first key that differs.
    """
    own = shapes(state)
    candidates: list[tuple[int, str, dict[str, tuple[int, ...]]]] = []
    for name in architecture_names():
        options = options_for(name, state)
        theirs = shapes(outline(name, options))
        if theirs == own:
            return name, options
        shared = sum(own.get(key) == shape for key, shape in theirs.items())
        candidates.append((2 * shared - len(theirs), name, theirs))
    _, nearest, theirs = max(candidates)
    raise UsageError(
        f"the state dict fits no known architecture; the nearest is {nearest}: {mismatch(own, theirs)}",
        "name the right one with --arch, or save the model as TorchScript or with torch.export",
    )


def shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def mismatch(own: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> str:
    """The first differences between a state dict and an architecture, in words; empty where equal."""
    missing = [key for key in theirs if key not in own]
    unknown = [key for key in own if key not in theirs]
    reshaped = [key for key in own if key in theirs and own[key] != theirs[key]]
    parts = []
    if missing:
        parts.append(f"it lacks {_first(missing)}")
    if unknown:
        parts.append(f"it has {_first(unknown)}, unknown there")
    if reshaped:
        key = reshaped[0]
        parts.append(f"{key} is {list(own[key])} where {list(theirs[key])} is due")
    return ", ".join(parts)


def outline(name: str, options: Options) -> dict[str, torch.Tensor]:
    """The state dict of a network without the memory or the time of its weights (on the meta device)."""
    return _outline(name, tuple(options.items()))


@cache
def _outline(name: str, options: tuple[tuple[str, int | bool], ...]) -> dict[str, torch.Tensor]:
    with _NoStorage(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torchvision announces another initialisation
        return build(name, dict(options)).state_dict()


class _NoStorage(TorchFunctionMode):
    """Parameters go to the meta device; small tensors that constructors compute with stay real."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _num_classes(state: StateDict) -> int:
    """The length of the last bias or weight, which in every known network is the classifier's."""
    last = next((value for value in reversed(list(state.values())) if value.ndim), None)
    return int(last.shape[0]) if last is not None else 0


def _first(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"


def published_weights(name: str) -> Any:
    """Torchvision's recommended weights of an architecture (a `torchvision.models.WeightsEnum`)."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def published_preprocessing(name: str, options: Options, *, assumed: bool) -> Preprocessing:
    """How inputs are made for torchvision's weights of an architecture.

    `assumed`: the weights are the user's own and only the architecture is known, so the recipe is that
    of the architecture's first published weights for this input size; else that of `published_weights`.
    """
    if name == sample.ARCH:
        return sample.PREPROCESSING
    from torchvision.models import get_model_weights

    known = list(get_model_weights(name)) if assumed else [published_weights(name)]
    fitting = [each for each in known if options.get("image_size", _crop(each)) == _crop(each)]
    weights = (fitting or known)[0]
    recipe = weights.transforms()
    says = f"torchvision's for {weights}"
    return Preprocessing(
        input_size=recipe.crop_size[0],
        resize=recipe.resize_size[0],
        interpolation=recipe.interpolation.value,
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        source=f"{says}, assumed from the architecture" if assumed else says,
    )


def published_top1(name: str) -> float | None:
    """Top-1 on ImageNet that is published for an architecture's recommended weights, as a fraction."""
    if name == sample.ARCH:
        return sample.PUBLISHED_TOP1
    percent = published_weights(name).meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return percent / 100 if percent else None


def _crop(weights: Any) -> int:
    return int(weights.transforms().crop_size[0])
