"""Networks known by name, and the name of a network from its state dict.

Torchvision is imported where one of its networks is meant: it takes a second that the others need not wait. Those of
timm are in `timm_networks`.
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
from rtbench.images.preprocessing import RESNET
from rtbench.models import own_code, timm_networks
from rtbench.records.model import Preprocessing

StateDict = Mapping[str, torch.Tensor]
Options = dict[str, int | bool]
Shapes = dict[str, tuple[int, ...]]
USUAL_CLASSES = 1000
"""No other dimension of a network that is known is as long."""

CHANNELS = "in_chans"
"""The option, named as timm has it, of a network whose inputs are not of three channels."""
TRANSFORM_INPUT = "transform_input"
"""The option, named as torchvision has it, of networks that normalise their input once more."""
_AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}


def architecture_names() -> list[str]:
    """Torchvision's classifiers and, where its package is installed, the built-in sample's network."""
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return [*names, sample.ARCH] if sample.is_installed() else names


def require_architecture(name: str) -> None:
    """Raise UsageError, with the nearest name, for one that is not known."""
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.require_network(name)
    if own_code.is_own(name) or (name == sample.ARCH and sample.is_installed()):
        return None
    names = architecture_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "see torchvision.models.list_models() for the names"
        raise UsageError(f"there is no architecture {name!r}", hint)
    return None


def build(name: str, options: Options) -> torch.nn.Module:
    """The network, in evaluation mode, with weights that mean nothing yet."""
    if own_code.is_own(name):
        return own_code.build(name)
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.build(name, options)
    if name == sample.ARCH:
        return sample.build_network(options["num_classes"]).eval()
    from torchvision.models import get_model

    own = {key: value for key, value in options.items() if key != CHANNELS}
    module: torch.nn.Module = get_model(name, weights=None, **own)
    if CHANNELS in options:
        _set_channels(module, options[CHANNELS])
    return module.eval()


def _set_channels(module: torch.nn.Module, channels: int) -> None:
    """Its first convolution takes so many channels."""
    first = next(each for each in module.modules() if isinstance(each, torch.nn.Conv2d))
    first.in_channels = channels
    first.weight = torch.nn.Parameter(torch.zeros(first.out_channels, channels, *first.kernel_size))


def default_options(name: str) -> Options:
    """Of a network as it is published."""
    if own_code.is_own(name):
        return {}
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.options_for(name, {})
    return {"num_classes": USUAL_CLASSES} | ({"init_weights": False} if name in _AUXILIARY else {})


def options_for(name: str, state: StateDict) -> Options:
    """The keyword arguments of `build` under which the network has this state dict's optional parts.

    googlenet and inception_v3 take inputs as torchvision's published weights want them; a vision
    transformer's input size is read off its position embedding.
    """
    if own_code.is_own(name):
        return {}
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.options_for(name, state)
    options: Options = {"num_classes": USUAL_CLASSES}
    if name in _AUXILIARY:
        aux = any(key.startswith(_AUXILIARY[name]) for key in state)
        options |= {"aux_logits": aux, TRANSFORM_INPUT: True, "init_weights": False}
    positions = state.get("encoder.pos_embedding")
    if name.startswith("vit_") and positions is not None and positions.ndim == 3 and positions.shape[1]:
        patch_side = int(name.rpartition("_")[2])
        options["image_size"] = patch_side * math.isqrt(positions.shape[1] - 1)
    first = next(key for key, shape in shapes(outline(name, options)).items() if len(shape) == 4)
    if first in state and state[first].ndim == 4 and state[first].shape[1] == 1:
        options |= {CHANNELS: 1} | ({TRANSFORM_INPUT: False} if name in _AUXILIARY else {})
    head = next(key for key, shape in reversed(shapes(outline(name, options)).items()) if shape[:1] == (USUAL_CLASSES,))
    if head in state and state[head].ndim:
        options["num_classes"] = state[head].shape[0]
    return options


def expected_shapes(name: str, options: Options) -> Shapes:
    """The keys of the network's state dict, with their shapes."""
    if own_code.is_own(name) or name.startswith(timm_networks.PREFIX):
        return shapes(outline(name, options))
    whole = shapes(outline(name, options | {"num_classes": USUAL_CLASSES}))
    classes = options["num_classes"]
    return {key: (classes, *shape[1:]) if shape[:1] == (USUAL_CLASSES,) else shape for key, shape in whole.items()}


def shapes(state: StateDict) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


def mismatch(own: Shapes, theirs: Shapes) -> str:
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
        parts.append(f"{key} is {list(own[key])}, expected {list(theirs[key])}")
    return ", ".join(parts)


def outline(name: str, options: Options) -> dict[str, torch.Tensor]:
    """The state dict of a network without the memory or the time of its weights (on the meta device)."""
    return _outline(name, tuple(options.items()))


@cache
def _outline(name: str, options: tuple[tuple[str, int | bool], ...]) -> dict[str, torch.Tensor]:
    if own_code.is_own(name):
        return build(name, {}).state_dict()
    nowhere = torch.device("meta") if name.startswith(timm_networks.PREFIX) else _NoStorage()
    with nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another initialisation to come, and of layers without outputs
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


def _first(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"


def published_weights(name: str) -> Any:
    """Torchvision's recommended weights of an architecture (a `torchvision.models.WeightsEnum`)."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def published_preprocessing(name: str, options: Options, *, assumed: bool) -> Preprocessing:
    """How inputs are made for the published weights of an architecture.

    `assumed`: the weights are the user's own and only the architecture is known, so the recipe is that
    of the architecture's first published weights for this input size; else that of `published_weights`.
    """
    if own_code.is_own(name):
        return RESNET
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.preprocessing(name, assumed=assumed)
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
    if name.startswith(timm_networks.PREFIX):
        return None
    if name == sample.ARCH:
        return sample.PUBLISHED_TOP1
    percent = published_weights(name).meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return percent / 100 if percent else None


def _crop(weights: Any) -> int:
    return int(weights.transforms().crop_size[0])
