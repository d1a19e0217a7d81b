"""What no state dict says of its network: how that is assumed, chosen, or left for evidence to decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rtbench.errors import UsageError
from rtbench.models import timm_networks
from rtbench.models.architectures import TRANSFORM_INPUT, Options
from rtbench.models.checkpoints import Checkpoint
from rtbench.models.states import Fitted
from rtbench.options import ModelOptions, flag
from rtbench.records.model import OtherReading


def as_wanted(fitted: Fitted, options: ModelOptions) -> Fitted:
    """With `--transform-input` as it was given."""
    wanted = options.transform_input
    if wanted is None:
        return fitted
    if TRANSFORM_INPUT not in fitted.options:
        raise UsageError(f"{fitted.arch} has no transform_input", f"leave out {flag(TRANSFORM_INPUT, wanted)}")
    return replace(fitted, options=fitted.options | {TRANSFORM_INPUT: wanted})


def other_readings(
    checkpoint: Checkpoint, fitted: Fitted, options: ModelOptions, *, recipe_known: bool
) -> list[OtherReading]:
    """What else the file may be, of one kind, that evidence can decide: recipes that differ in size alone are too
    alike for that."""
    if fitted.undecided:
        return [OtherReading(option="arch", value=each) for each in fitted.others]
    if checkpoint.others:
        return [OtherReading(option="checkpoint_key", value=each) for each in checkpoint.others]
    if fitted.options.get(TRANSFORM_INPUT) and options.transform_input is None:
        return [OtherReading(option="transform_input", value=False)]
    if recipe_known or options.mean or options.std:
        return []
    return [OtherReading(option="arch", value=each) for each in timm_networks.normalised_otherwise(fitted.arch)]


def what_is_assumed(options: Options) -> Iterator[str]:
    """What no state dict says of its network."""
    if options.get(TRANSFORM_INPUT):
        yield (
            "its input is normalised again inside, as torchvision's published weights want it (transform_input=True);"
            " --no-transform-input leaves that out"
        )
