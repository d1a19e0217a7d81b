"""A state dict as its network had it, whatever it was wrapped in: prefixes, former names, counters, leftovers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from rtbench.errors import UsageError
from rtbench.models import timm_networks
from rtbench.models.architectures import (
    Options,
    Shapes,
    StateDict,
    architecture_names,
    expected_shapes,
    mismatch,
    options_for,
    require_architecture,
    shapes,
)

FORMER_NAMES = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.(\d\.)"), r"\1\2"),
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)
"""Of torchvision's networks, which its own loader renames too."""
NO_LAYER = re.compile(
    r"(?:.*\.)?total_(?:ops|params)|n_averaged|(?:\w*_)?(?:criterion|loss\w*|metrics?|ema|teacher)(?:\..*)?"
)
"""What training and profiling leave in a state dict besides the network."""
PARTS = ("backbone.", "neck.", "head.")
"""MMPretrain's, of which no network is known by all its keys."""
QUANTISED = (".zero_point", "._packed_params", "_packed_params.dtype")
MOST_WRAPPERS = 4
SHOWN_KEYS = 3


@dataclass(frozen=True)
class Fitted:
    """The state dict with exactly the keys of its network, and what was done to it, in sentences."""

    state: dict[str, torch.Tensor]
    arch: str
    options: Options
    choices: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Networks of the same keys and shapes."""
    undecided: str | None = None
    """Why none of them is likelier."""


def fit(state: StateDict, arch: str | None = None, hints: Sequence[str] = ()) -> Fitted:
    """Find the network that the state dict is of; `arch`: only look whether it is that one.

    `hints`: names that may begin with that of the network, where several have the same keys and shapes.
    UsageError naming the nearest architecture, the first key that differs, and the keys there are.
    """
    if arch:
        require_architecture(arch)
    names = [arch] if arch else architecture_names()
    nearest: list[tuple[int, str, str]] = []
    for candidate, left_out in _unwrapped(state):
        of_timm = [] if arch else timm_networks.names_for(_of_layers(candidate))
        meant = timm_networks.meant(of_timm, hints)
        found = _among(candidate, [meant] if meant and "." in meant else _namesakes(of_timm, names))
        if not isinstance(found, Fitted) and of_timm:
            found = _among(candidate, [meant or of_timm[0]])
        if isinstance(found, Fitted):
            said = _set_aside([*left_out, *(key for key in candidate if key not in found.state)], found.arch)
            others = tuple(name for name in of_timm if name != found.arch.partition(".")[0])
            undecided = _undecided(of_timm) if others and found.arch == of_timm[0] and not meant else None
            also = () if undecided else timm_networks.others(found.arch, of_timm)
            return replace(found, choices=(*found.choices, *also, *said), others=others, undecided=undecided)
        nearest.append(found)
    _, name, difference = max(nearest)
    if arch:
        raise UsageError(f"the state dict does not fit {arch}: {difference}", "name its own architecture")
    if any(key.endswith(QUANTISED) for key in state):
        raise UsageError("the state dict is of a network that PyTorch has quantised", "save the network as TorchScript")
    keys = ", ".join(list(state)[:SHOWN_KEYS])
    near = f"; the nearest is {name}: {difference}" if name else ""
    raise UsageError(
        f"the state dict ({len(state)} keys: {keys}, …) fits none of torchvision's or timm's networks{near}",
        "for a class of your own, save the model as TorchScript or with torch.export",
    )


def _unwrapped(state: StateDict) -> Iterator[tuple[dict[str, torch.Tensor], list[str]]]:
    """The state dict, and again without each prefix that most of its keys share, with the keys that have not that."""
    inner = {_plain(key): value for key, value in state.items()}
    left_out: list[str] = []
    yield inner, left_out
    if all(key.startswith(PARTS) for key in inner):
        yield {key.partition(".")[2]: value for key, value in inner.items()}, left_out
    for _ in range(MOST_WRAPPERS):
        first, count = Counter(key.partition(".")[0] for key in inner).most_common(1)[0]
        if 2 * count <= len(inner):
            return
        left_out = [*left_out, *(key for key in inner if not key.startswith(f"{first}."))]
        inner = {key.removeprefix(f"{first}."): value for key, value in inner.items() if key.startswith(f"{first}.")}
        if not inner:
            return
        yield inner, left_out


def _plain(key: str) -> str:
    key = key.replace("_orig_mod.", "")  # of torch.compile, wherever it was called
    for former, now in FORMER_NAMES:
        key = former.sub(now, key)
    return key


def _among(state: dict[str, torch.Tensor], names: Sequence[str]) -> Fitted | tuple[int, str, str]:
    """The first network that fits; else how many keys the nearest shares, its name and what differs."""
    own = shapes(state)
    nearest = (-len(own), "", "")
    for name in names:
        options = options_for(name, state)
        theirs = expected_shapes(name, options)
        compared = _comparable(own, theirs)
        difference = mismatch(compared, theirs)
        if not difference:
            kept = {key: state.get(key, torch.tensor(0)) for key in theirs}
            difference = _not_numbers(kept)
            if not difference:
                return Fitted(kept, name, options, tuple(_computed(kept)))
        shared = sum(compared.get(key) == shape for key, shape in theirs.items())
        nearest = max(nearest, (2 * shared - len(theirs), name, difference))
    return nearest


def _namesakes(of_timm: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Of torchvision's networks those that may have the same keys as what timm's index has found: those of one name."""
    return [name for name in names if f"{timm_networks.PREFIX}{name}" in of_timm] if of_timm else names


def _undecided(names: Sequence[str]) -> str:
    return f"the state dict fits {len(names)} of timm's networks equally well: {', '.join(names)}"


def _of_layers(state: StateDict) -> StateDict:
    return {key: value for key, value in state.items() if not NO_LAYER.fullmatch(key)}


def _comparable(own: Shapes, theirs: Shapes) -> Shapes:
    """With the counters that it lacks, and without what is of no layer."""
    counters: Shapes = {key: () for key in theirs if key.endswith(timm_networks.COUNTER)}
    return counters | {key: shape for key, shape in own.items() if key in theirs or not NO_LAYER.fullmatch(key)}


def _not_numbers(state: dict[str, torch.Tensor]) -> str:
    for key, value in state.items():
        if not value.is_floating_point() and not key.endswith((timm_networks.COUNTER, "relative_position_index")):
            return f"{key} has {_dtype(value)} values"
    return ""


def _computed(state: dict[str, torch.Tensor]) -> Iterator[str]:
    stored = sorted({_dtype(value) for value in state.values() if value.is_floating_point()} - {"float32"})
    if stored:
        yield f"its weights are {' and '.join(stored)} in the file; rtbench computes in float32"


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _set_aside(keys: Sequence[str], arch: str) -> Iterator[str]:
    if keys:
        more = f" and {len(keys) - 1} more keys" if len(keys) > 1 else ""
        yield f"{keys[0]}{more} of the file are of no layer of {arch} and were set aside"
