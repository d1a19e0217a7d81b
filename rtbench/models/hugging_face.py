"""Folders as Hugging Face's hub has them: a network of transformers or timm, its recipe and its classes' names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtbench.errors import UsageError
from rtbench.images.image_set import read_bytes, reason
from rtbench.images.preprocessing import RESNET
from rtbench.models import timm_networks
from rtbench.models.checkpoints import running_code_of
from rtbench.records.model import Preprocessing
from rtbench.terms import Interpolation, Triple

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
HEAD = "ForImageClassification"
FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""By Pillow's numbers."""
CONVNEXT_SQUASHES = 384
"""The side from which ConvNeXT's processor squashes the image."""


@dataclass(frozen=True)
class Saved:
    """What a folder says of its network. `arch`: its name in timm, None for one of transformers."""

    folder: Path
    config: Mapping[str, Any]
    arch: str | None
    recipe: Preprocessing
    names: tuple[str, ...]

    @property
    def weights(self) -> Path:
        found = next((self.folder / name for name in WEIGHTS if (self.folder / name).is_file()), None)
        if found is None:
            raise UsageError(f"{self.folder} has no weights", f"put {WEIGHTS[0]} or {WEIGHTS[-1]} there")
        return found


def is_saved(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def read_folder(folder: Path) -> Saved:
    """UsageError where it is not of an image classifier."""
    config = _json(folder / CONFIG)
    try:
        if isinstance(config.get("architecture"), str) and isinstance(config.get("pretrained_cfg"), dict):
            arch, cfg = f"{timm_networks.PREFIX}{config['architecture']}", config["pretrained_cfg"]
            names = config.get("label_names") or cfg.get("label_names") or ()
            return Saved(folder, config, arch, timm_networks.from_config(cfg, f"{folder / CONFIG}"), _texts(names))
        heads = [str(each) for each in config.get("architectures") or ["unknown"]]
        if not any(each.endswith(HEAD) for each in heads):
            raise UsageError(f"{folder} holds {heads[0]}, not an image classifier", f"name a folder of a …{HEAD}")
        return Saved(folder, config, None, _recipe(folder), _in_order(config.get("id2label") or {}))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"{folder} is not laid out as Hugging Face's are: {error!r:.80}", "save it again") from None


def network(saved: Saved, trust_code: bool) -> torch.nn.Module:
    """The network of transformers, whose output is its logits alone."""
    if importlib.util.find_spec("transformers") is None:
        raise UsageError("transformers is not installed, and this is one of its networks", "pip install 'rtbench[hf]'")
    if "auto_map" in saved.config and not trust_code:
        raise UsageError(
            f"{saved.folder} contains code that runs when it is loaded", "pass --trust-code if you trust it"
        )
    from transformers import AutoModelForImageClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with running_code_of(saved.folder, "cannot be loaded by transformers", ""):
        module, found = AutoModelForImageClassification.from_pretrained(
            saved.folder, local_files_only=True, trust_remote_code=trust_code, output_loading_info=True
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise UsageError(f"{saved.folder} lacks {missing[0]} and so is not a whole classifier", "save it again")
    return _Logits(module.eval().float())


def exported(network: torch.nn.Module, recipe: Preprocessing, folder: Path) -> torch.export.ExportedProgram:
    """The network as a program with a free batch axis, which needs neither transformers nor the folder."""
    example = torch.zeros(2, *recipe.input_shape)
    with running_code_of(folder, "cannot be exported with torch.export", ""):
        return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


class _Logits(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(pixel_values=batch).logits
        return logits


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(str(path)))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "save it again") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a configuration", "save it again")
    return content


def _in_order(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(str(labels[key]) for key in sorted(labels, key=int))


def _texts(names: Any) -> tuple[str, ...]:
    return tuple(map(str, names if isinstance(names, list) else ()))


def _recipe(folder: Path) -> Preprocessing:
    """What the processor that comes with a network of transformers does to an image."""
    if not (folder / PROCESSOR).is_file():
        return RESNET.model_copy(update={"source": f"ImageNet default, since {folder} has no {PROCESSOR}"})
    says = _json(folder / PROCESSOR)
    resized, squash = _resized(says)
    cut = _sides(says["crop_size"]) if says.get("do_center_crop") and says.get("crop_size") else None
    if "crop_pct" in says and not squash:
        cut, resized = resized, (int(resized[0] / says["crop_pct"]),) * 2
    size = cut or resized
    if squash and resized[0] * size[1] != resized[1] * size[0]:
        raise UsageError(f"{folder / PROCESSOR} crops another shape than it resizes to", "export the network yourself")
    if not cut and not squash:
        raise UsageError(f"{folder / PROCESSOR} gives inputs of no fixed size", "give it a crop_size")
    mean, std = _normalisation(says)
    return Preprocessing(
        input_size=size,
        resize=min(resized),
        interpolation=FILTERS[int(says.get("resample", 2))],
        mean=mean,
        std=std,
        preprocess="squash" if squash else "torch",
        source=f"{folder / PROCESSOR}",
    )


def _resized(says: Mapping[str, Any]) -> tuple[tuple[int, int], bool]:
    """Height and width that images are resized to, and whether that changes their proportions."""
    size = says["size"]
    if not isinstance(size, dict):
        return _sides(size), "crop_size" not in says
    if "shortest_edge" in size:
        side = int(size["shortest_edge"])
        return (side, side), "crop_pct" in says and side >= CONVNEXT_SQUASHES
    return _sides(size), True


def _sides(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _normalisation(says: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Mean and standard deviation on [0, 1] that do what rescaling and normalising do."""
    factor = float(says.get("rescale_factor", 1 / 255)) * 255 if says.get("do_rescale", True) else 255.0
    offset = 1.0 if says.get("rescale_offset") else 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if says.get("do_normalize", True):
        mean, std = _three(says["image_mean"]), _three(says["image_std"])
    last = std if says.get("include_top") else (1.0, 1.0, 1.0)  # EfficientNet's divides once more
    return _three([(each + offset) / factor for each in mean]), _three(
        [each / factor * again for each, again in zip(std, last, strict=True)]
    )


def _three(values: Any) -> Triple:
    red, green, blue = (round(float(each), 9) for each in values)
    return red, green, blue
