"""timm's networks, named `timm/NAME` or `timm/NAME.TAG`.

Their state dicts are known by an index that ships with rtbench: timm itself takes seconds to import, and only does
where one of its networks is meant.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, get_args

import torch

from rtbench.errors import UsageError
from rtbench.records.model import Preprocessing
from rtbench.terms import Interpolation

PREFIX = "timm/"
COUNTER = "num_batches_tracked"
"""Of batch normalisation, which older files lack and nothing is computed with."""
DIGEST = 12
"""Hexadecimal digits of it that the index has: two of two thousand networks are alike by chance once in 10^8."""
Layers = tuple[str, ...]
"""Names of modules."""


def digest(state: Mapping[str, torch.Tensor], classifier: Layers, first: Layers) -> str:
    """Of the keys and shapes of a state dict, but for its numbers of classes and of input channels."""
    lines = []
    for key, value in state.items():
        layer, _, _ = key.rpartition(".")
        if layer not in classifier and not key.endswith(COUNTER):
            shape = list(value.shape)
            lines.append(f"{key} {shape[:1] + shape[2:] if layer in first else shape}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:DIGEST]


def names_for(state: Mapping[str, torch.Tensor]) -> list[str]:
    """The networks that have these keys and shapes, by the index."""
    layers = {key.rpartition(".")[0] for key in state}
    return [
        f"{PREFIX}{name}"
        for (classifier, first), names in _index().items()
        if layers.issuperset((*classifier, *first))
        for name in names.get(digest(state, classifier, first), ())
    ]


@cache
def _index() -> dict[tuple[Layers, Layers], dict[str, list[str]]]:
    """By the names of classifier and first convolution, the names of networks by their digest."""
    found: dict[tuple[Layers, Layers], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    lines = (resources.files("rtbench") / "data" / "timm_networks.txt").read_text(encoding="ascii").splitlines()
    for line in lines:
        if not line.startswith("#"):
            known, classifier, first, name = line.split(" ")
            found[_layers(classifier), _layers(first)][known].append(name)
    return found


def _layers(listed: str) -> Layers:
    return () if listed == "-" else tuple(listed.split(","))


def is_installed() -> bool:
    return importlib.util.find_spec("timm") is not None


def _timm() -> Any:
    if not is_installed():
        raise UsageError("timm is not installed, and this is one of its networks", "pip install 'rtbench[timm]'")
    import timm

    return timm


def require_network(name: str) -> None:
    """UsageError, with the nearest name, for one that timm does not have."""
    timm, (base, _, tag) = _timm(), name.removeprefix(PREFIX).partition(".")
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "timm.list_models() has the names"
        raise UsageError(f"timm has no network {base!r}", hint)
    if tag and tag not in (tags := _tags(base)):
        raise UsageError(f"timm has no weights {tag!r} of {base}", f"its tags: {', '.join(tags)}" if tags else "")


def build(name: str, options: Mapping[str, Any]) -> torch.nn.Module:
    """In evaluation mode, with weights that mean nothing yet."""
    module: torch.nn.Module = _timm().create_model(name.removeprefix(PREFIX), pretrained=False, **options)
    return module.eval()


def options_for(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, int | bool]:
    """The keyword arguments of `build` that are read off a state dict's last and first layers."""
    config = _config(name)
    options: dict[str, int | bool] = {"num_classes": int(config.get("num_classes") or 1000)}
    last, first = (_first(config.get(which)) for which in ("classifier", "first_conv"))
    weight = state.get(f"{last}.weight", state.get(f"{last}.bias"))
    if weight is not None and weight.ndim:
        options["num_classes"] = weight.shape[0]
    weight = state.get(f"{first}.weight")
    if weight is not None and weight.ndim == 4 and weight.shape[1] != 3:
        options["in_chans"] = weight.shape[1]
    return options


def _first(layers: str | Iterable[str] | None) -> str:
    return layers if isinstance(layers, str) else next(iter(layers or ()), "")


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Its published weights; UsageError where they cannot be downloaded."""
    timm = _timm()
    from huggingface_hub.errors import HfHubHTTPError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells each of its ten tries
    try:
        module: torch.nn.Module = timm.create_model(name.removeprefix(PREFIX), pretrained=True)
    except (OSError, HfHubHTTPError, RuntimeError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"the pretrained weights of {name} cannot be downloaded ({said})",
            "give them with --weights FILE, or measure speed and size alone with --random-weights",
        ) from error
    return module.state_dict()


def preprocessing(name: str, *, assumed: bool) -> Preprocessing:
    """How inputs are made for the network's published weights, by its `pretrained_cfg`."""
    config = _config(name)
    tag = config.get("tag")
    says = f"timm's for {config['architecture']}{f'.{tag}' if tag else ''}"
    return from_config(config, f"{says}, assumed from the architecture" if assumed else says)


def from_config(config: Mapping[str, Any], source: str) -> Preprocessing:
    """What a `pretrained_cfg` says of a network's input: timm's transform for evaluation."""
    height, width = (int(side) for side in config["input_size"][-2:])
    share = float(config.get("crop_pct") or 0.875)
    interpolation: Interpolation = "bilinear"
    if config.get("interpolation") in get_args(Interpolation):
        interpolation = config["interpolation"]
    return Preprocessing(
        input_size=(height, width),
        resize=math.floor(min(height, width) / share),
        interpolation=interpolation,
        mean=_three(config["mean"]),
        std=_three(config["std"]),
        preprocess="squash" if config.get("crop_mode") == "squash" else "torch",
        source=source,
    )


def _three(values: Collection[float]) -> tuple[float, float, float]:
    first, *rest = values
    second, third = rest or (first, first)
    return first, second, third


def others(arch: str, names: Collection[str]) -> Iterator[str]:
    """What else a state dict of `arch` may be, that fits `names`, and how to choose it, in sentences."""
    left = [name for name in names if name != arch.partition(".")[0]]
    if left and not arch.startswith(PREFIX):
        yield f"it was taken for torchvision's {arch}; timm has other recipes for the same layers: --arch {left[0]}"
    elif left:
        yield f"it was taken for {arch} by its name; {', '.join(left)} have the same layers: choose with --arch"
    if not arch.startswith(PREFIX) or "." in arch:
        return
    base, taken = arch.removeprefix(PREFIX), _config(arch).get("tag")
    tags = [each for each in _tags(base) if each != taken]
    if tags:
        yield f"the recipe of {base}.{taken} was taken; --arch {arch}.TAG takes that of {', '.join(sorted(tags))}"


def normalised_otherwise(arch: str) -> list[str]:
    """The network with tags of its published weights, one for each other mean and standard deviation of inputs."""
    if not arch.startswith(PREFIX) or "." in arch:
        return []
    names = [arch, *(f"{arch}.{tag}" for tag in sorted(_tags(arch.removeprefix(PREFIX))))]
    recipes = {name: preprocessing(name, assumed=True) for name in names}
    first = {(recipe.mean, recipe.std): name for name, recipe in reversed(recipes.items())}
    return [name for name in reversed(first.values()) if name != arch]


def meant(names: Collection[str], hints: Iterable[str]) -> str | None:
    """The one of the names, with its tag, that a hint begins with."""
    for hint in hints:
        for name in sorted(names, key=len, reverse=True):
            base = name.removeprefix(PREFIX)
            rest = hint[len(base) :]
            if hint.startswith(base) and not rest[:1].isalnum():
                tags = _tags(base) if rest.startswith(".") and is_installed() else ()
                tag = next((each for each in tags if rest.startswith(f".{each}")), None)
                return f"{name}.{tag}" if tag else name
    return None


def _tags(base: str) -> list[str]:
    """Of the weights that are published for a network, the longest first."""
    found = (each.partition(".")[2] for each in _timm().list_pretrained(f"{base}.*"))
    return sorted((tag for tag in found if tag), key=len, reverse=True)


@cache
def _config(name: str) -> dict[str, Any]:
    timm = _timm()
    config = timm.get_pretrained_cfg(name.removeprefix(PREFIX))
    found: dict[str, Any] = config.to_dict() if config else {}
    base = name.removeprefix(PREFIX).partition(".")[0]
    standard = {"input_size": (3, 224, 224), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return standard | {"architecture": base} | found
