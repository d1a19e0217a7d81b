"""From a name or a file to a loaded network and the record of what it is."""

from __future__ import annotations

import hashlib
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images import sample
from rtbench.images.preprocessing import RESNET, overridden
from rtbench.models.architectures import (
    Options,
    build,
    mismatch,
    options_for,
    outline,
    published_preprocessing,
    published_top1,
    published_weights,
    recognise,
    require_architecture,
    shapes,
)
from rtbench.models.checkpoints import Checkpoint, read_checkpoint
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing
from rtbench.terms import Format

FILE_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".bin", ".ckpt"})


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run on the CPU and its record. `program` is what torch.export saved, if it was."""

    record: Model
    kind: Format
    module: Callable[[torch.Tensor], Any]
    program: torch.export.ExportedProgram | None = None

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's outputs, (N, classes), for one float32 NCHW batch."""
        with torch.inference_mode():
            return as_logits(self.module(torch.from_numpy(batch)))


def as_logits(output: Any) -> NDArray[np.float32]:
    """A network's output as float32 on the host; UsageError where it is not one tensor of (N, classes)."""
    if isinstance(output, Mapping):
        output = output.get("logits", output)
    elif hasattr(output, "logits"):
        output = output.logits
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        what = f"shape {list(output.shape)}" if isinstance(output, torch.Tensor) else f"type {type(output).__name__}"
        raise UsageError(f"the model is no classifier: its output is of {what}", "its output must be (batch, classes)")
    array: NDArray[np.float32] = output.detach().to("cpu", torch.float32).numpy()
    return array


def load_model(source: str, options: ModelOptions) -> LoadedModel:
    """Load a torchvision name, a model file, or a folder that `export` wrote.

    Raises UsageError for everything about it that the user can mend.
    """
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, options)
    if path.suffix in FILE_SUFFIXES or path.exists():
        return _load_file(path, options)
    require_architecture(source)
    if options.weights:
        checkpoint = read_checkpoint(options.weights, trust_pickle=options.trust_pickle)
        if checkpoint.state is None:
            raise UsageError(f"{options.weights} holds no state dict", f"name it as MODEL instead of {source}")
        return _from_state(source, source, checkpoint.state, source, options, assumed=True)
    if options.random_weights:
        torch.manual_seed(0)
        state = build(source, _defaults(source)).state_dict()
        return _from_state(source, source, state, source, options, assumed=True)
    return _from_state(source, source, _published_state(source), source, options, assumed=False)


def _defaults(name: str) -> Options:
    return {"num_classes": 1000} | ({"init_weights": False} if name in ("googlenet", "inception_v3") else {})


def _published_state(name: str) -> dict[str, torch.Tensor]:
    if name == sample.ARCH:
        return _sample_state()
    try:
        state: dict[str, torch.Tensor] = published_weights(name).get_state_dict(progress=True, check_hash=True)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"the pretrained weights of {name} cannot be downloaded ({reason})",
            "give them with --weights FILE, or measure speed and size alone with --random-weights",
        ) from error
    return state


def _sample_state() -> dict[str, torch.Tensor]:
    state = read_checkpoint(sample.weights_file()).state
    assert state is not None
    return state


def _load_file(path: Path, options: ModelOptions) -> LoadedModel:
    checkpoint = read_checkpoint(path, trust_pickle=options.trust_pickle)
    if checkpoint.state is not None:
        return _from_state(path.stem, str(path), checkpoint.state, options.arch, options, assumed=True, file=path)
    return _from_module(path.stem, str(path), checkpoint, options, artifacts.file_sha256(path))


def _load_folder(folder: Path, options: ModelOptions) -> LoadedModel:
    """The model that an artifact folder was exported from, out of the folder itself."""
    record = artifacts.load_model_record(folder)
    for kind in ("state_dict", "torchscript", "pickle", "pt2"):
        path = artifacts.artifact_path(folder, kind, "fp32")
        manifest = artifacts.load_manifest(path) if path.exists() else None
        if manifest is not None and manifest.format == kind:
            return open_torch_artifact(manifest.model_copy(update={"path": str(path)}), record, options.trust_pickle)
    raise UsageError(f"{folder} lacks the model itself (torch-fp32.pt)", "export it again")


def open_torch_artifact(artifact: Artifact, record: Model, trust_pickle: bool) -> LoadedModel:
    """Load a torch artifact that rtbench wrote, as the model that `record` describes."""
    checkpoint = read_checkpoint(Path(artifact.path), trust_pickle=trust_pickle)
    if checkpoint.state is None:
        program = checkpoint.module if checkpoint.kind == "pt2" else None
        return LoadedModel(record, checkpoint.kind, program.module() if program else checkpoint.module, program)
    assert record.arch is not None
    module = build(record.arch, record.arch_options)
    module.load_state_dict(checkpoint.state)
    return LoadedModel(record, "state_dict", module)


def _from_state(
    name: str,
    source: str,
    state: dict[str, torch.Tensor],
    arch: str | None,
    options: ModelOptions,
    *,
    assumed: bool,
    file: Path | None = None,
) -> LoadedModel:
    if arch is None:
        arch, arch_options = recognise(state)
    else:
        require_architecture(arch)
        arch_options = options_for(arch, state)
        difference = mismatch(shapes(state), shapes(outline(arch, arch_options)))
        if difference:
            raise UsageError(f"the state dict does not fit {arch}: {difference}", "leave out --arch to recognise it")
    module = build(arch, arch_options)
    module.load_state_dict(state)
    recipe = published_preprocessing(arch, arch_options, assumed=assumed)
    return _describe(
        LoadedModel(
            Model(
                name=name,
                source=source,
                arch=arch,
                arch_options=arch_options,
                sha256=artifacts.file_sha256(file) if file else _state_sha256(state),
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                classes=arch_options["num_classes"],
                preprocessing=overridden(recipe, options),
                random_weights=options.random_weights,
                published_top1=published_top1(arch) if arch_options["num_classes"] == 1000 else None,
            ),
            "state_dict",
            module,
        )
    )


def _from_module(name: str, source: str, checkpoint: Checkpoint, options: ModelOptions, sha256: str) -> LoadedModel:
    program = checkpoint.module if checkpoint.kind == "pt2" else None
    module = program.module() if program else checkpoint.module
    recipe = _own_preprocessing(checkpoint.module) or RESNET
    return _describe(
        LoadedModel(
            Model(
                name=name,
                source=source,
                arch=options.arch or type(checkpoint.module).__name__ if checkpoint.kind == "pickle" else options.arch,
                sha256=sha256,
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                classes=0,
                preprocessing=overridden(recipe, options),
            ),
            checkpoint.kind,
            module,
            program,
        )
    )


def _own_preprocessing(module: Any) -> Preprocessing | None:
    """What timm's models say of their input in `pretrained_cfg`."""
    config = getattr(module, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or "input_size" not in config:
        return None
    side = int(config["input_size"][-1])
    return Preprocessing(
        input_size=side,
        resize=int(side / float(config.get("crop_pct", 0.875))),
        interpolation=config.get("interpolation", "bicubic"),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        source="the model's pretrained_cfg",
    )


def _describe(model: LoadedModel) -> LoadedModel:
    """Run the network once: it must take its input size and give (1, classes)."""
    side = model.record.preprocessing.input_size
    try:
        logits = model.logits(np.zeros((1, 3, side, side), dtype=np.float32))
    except (RuntimeError, AssertionError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{model.record.source} does not run on a {side}x{side} input: {first}", "give the right --input-size"
        ) from error
    record = model.record.model_copy(update={"classes": logits.shape[1]})
    return LoadedModel(record, model.kind, model.module, model.program)


def _state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
