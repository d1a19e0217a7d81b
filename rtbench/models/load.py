"""From a name or a file to a loaded network and the record of what it is."""

from __future__ import annotations

import hashlib
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images import sample
from rtbench.images.preprocessing import RESNET, for_channels, overridden
from rtbench.models import hugging_face, own_code, timm_networks
from rtbench.models.architectures import (
    CHANNELS,
    TRANSFORM_INPUT,
    build,
    default_options,
    published_preprocessing,
    published_top1,
    published_weights,
    require_architecture,
)
from rtbench.models.assumed import as_wanted, other_readings, what_is_assumed
from rtbench.models.checkpoints import Checkpoint, read_checkpoint, running_code_of
from rtbench.models.loaded import LoadedModel, count_parameters, described, in_float32
from rtbench.models.states import Fitted, fit
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing, safe_name
from rtbench.terms import Format

FILE_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".bin", ".ckpt", ".safetensors"})


def load_model(source: str, options: ModelOptions) -> LoadedModel:
    """Load a name of torchvision's or timm's, a model file, a folder that `export` wrote or one of Hugging Face's.

    Raises UsageError for everything about it that the user can fix.
    """
    if options.arch and own_code.is_own(options.arch):
        options = replace(options, arch=own_code.require_trust(options.arch, options.trust_code))
    path = Path(source)
    if path.is_dir():
        return _load_saved(path, options) if hugging_face.is_saved(path) else _load_folder(path, options)
    if path.suffix in FILE_SUFFIXES or path.exists():
        return _load_file(path, options)
    if own_code.is_own(source):
        source = own_code.require_trust(source, options.trust_code)
    require_architecture(source)
    if options.weights:
        checkpoint = read_checkpoint(options.weights, trust_code=options.trust_code, key=options.checkpoint_key)
        if checkpoint.kind != "state_dict":
            raise UsageError(f"{options.weights} holds no state dict", f"name it as MODEL instead of {source}")
        return _from_state(source, source, checkpoint, source, options, assumed=True)
    if options.random_weights:
        torch.manual_seed(0)
        checkpoint = Checkpoint("state_dict", build(source, default_options(source)).state_dict())
        return _from_state(source, source, checkpoint, source, options, assumed=True)
    published = Checkpoint("state_dict", _published_state(source))
    return _from_state(source, source, published, source, options, assumed=False)


def _published_state(name: str) -> dict[str, torch.Tensor]:
    if own_code.is_own(name):
        raise UsageError(f"{name} has no published weights", "give them with --weights FILE, or use --random-weights")
    if name.startswith(timm_networks.PREFIX):
        return timm_networks.weights_of(name)
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
    checkpoint = read_checkpoint(path, trust_code=options.trust_code, key=options.checkpoint_key)
    if checkpoint.kind == "state_dict":
        return _from_state(path.stem, str(path), checkpoint, options.arch, options, assumed=True, file=path)
    with running_code_of(path, "fails in its own code", ""):
        return _from_module(path, checkpoint, options)


def _load_saved(folder: Path, options: ModelOptions) -> LoadedModel:
    """A network as Hugging Face has it: timm's as their own, those of transformers as a program of torch.export."""
    saved = hugging_face.read_folder(folder)
    if saved.arch:
        require_architecture(saved.arch)
        checkpoint = read_checkpoint(saved.weights, trust_code=options.trust_code)
        loaded = _from_state(
            folder.name,
            str(folder),
            checkpoint,
            saved.arch,
            options,
            assumed=True,
            file=saved.weights,
            own=saved.recipe,
        )
        return _named(loaded, saved.names)
    weights = saved.weights
    recipe = for_channels(overridden(saved.recipe, options), int(saved.config.get("num_channels", 3)))
    network = hugging_face.network(saved, options.trust_code)
    program = hugging_face.exported(network, recipe, folder)
    record = Model(
        name=safe_name(folder.absolute().name),
        source=str(folder),
        arch=str(saved.config["architectures"][0]),
        sha256=artifacts.file_sha256(weights),
        parameters=count_parameters(network),
        classes=1,  # until it has been run
        preprocessing=recipe,
    )
    return _named(described(LoadedModel(record, "pt2", program.module(), program)), saved.names)


def _named(loaded: LoadedModel, names: Sequence[str]) -> LoadedModel:
    """With the names of its classes, where there is one for each."""
    if len(names) != loaded.record.classes:
        return loaded
    return replace(loaded, record=loaded.record.model_copy(update={"class_names": list(names)}))


def _load_folder(folder: Path, options: ModelOptions) -> LoadedModel:
    """The model that an artifact folder was exported from, out of the folder itself."""
    record = artifacts.load_model_record(folder)
    kinds: tuple[Format, ...] = ("state_dict", "torchscript", "pickle", "pt2")
    for kind in kinds:
        path = artifacts.artifact_path(folder, kind, record.precision)
        manifest = artifacts.load_manifest(path) if path.exists() else None
        if manifest is not None and manifest.format == kind:
            if not artifacts.is_unchanged(path, manifest.sha256):
                raise UsageError(f"{path} is not the file that its manifest describes", "export the model again")
            return open_torch_artifact(manifest.model_copy(update={"path": str(path)}), record, options.trust_code)
    raise UsageError(f"{folder} lacks the model itself (torch-fp32.pt)", "export it again")


def open_torch_artifact(artifact: Artifact, record: Model, trust_code: bool) -> LoadedModel:
    """Load a torch artifact that rtbench wrote, and whose hash is known to be right, as the model of `record`."""
    path = Path(artifact.path)
    checkpoint = read_checkpoint(path, trust_code=trust_code, verify=False)
    if checkpoint.state is None:
        program = checkpoint.module if checkpoint.kind == "pt2" else None
        module = program.module() if program else checkpoint.module
        return in_float32(LoadedModel(record, checkpoint.kind, module, program, path))[0]
    if record.arch is None:
        raise UsageError(
            f"{path} is a state dict, and the architecture of {record.name} is not known", "export it again"
        )
    if own_code.is_own(record.arch):
        own_code.require_trust(record.arch, trust_code)
    fitted = fit(checkpoint.state, record.arch)
    if TRANSFORM_INPUT in record.arch_options:  # all else is read off the state dict
        fitted = as_wanted(fitted, ModelOptions(transform_input=bool(record.arch_options[TRANSFORM_INPUT])))
    return LoadedModel(record, "state_dict", _network(fitted))


def _network(fitted: Fitted) -> torch.nn.Module:
    module = build(fitted.arch, fitted.options)
    module.load_state_dict(fitted.state)
    return module


def _from_state(
    name: str,
    source: str,
    checkpoint: Checkpoint,
    arch: str | None,
    options: ModelOptions,
    *,
    assumed: bool,
    file: Path | None = None,
    own: Preprocessing | None = None,
) -> LoadedModel:
    """`own`: the recipe that came with it, in place of the one that is published for its architecture."""
    assert checkpoint.state is not None
    fitted = as_wanted(fit(checkpoint.state, arch, _hints(checkpoint, file)), options)
    readings = other_readings(checkpoint, fitted, options, recipe_known=arch is not None or own is not None)
    arch, arch_options, module = fitted.arch, fitted.options, _network(fitted)
    own = own or (_own_preprocessing(module) if own_code.is_own(arch) else None)
    recipe = own or published_preprocessing(arch, arch_options, assumed=assumed)
    recipe = for_channels(overridden(recipe, options), arch_options.get(CHANNELS, 3))
    return described(
        LoadedModel(
            Model(
                name=safe_name(name),
                source=source,
                arch=arch,
                checkpoint_key=checkpoint.taken,
                arch_options=arch_options,
                sha256=_sha256(fitted, file),
                parameters=count_parameters(module),
                classes=arch_options.get("num_classes", 1),  # until it has been run
                preprocessing=recipe,
                random_weights=options.random_weights,
                published_top1=published_top1(arch) if arch_options.get("num_classes") == 1000 else None,
                choices=[*checkpoint.choices, *fitted.choices, *(what_is_assumed(arch_options) if assumed else ())],
                readings=readings if assumed and not options.random_weights else [],
                undecided=fitted.undecided,
            ),
            "state_dict",
            module,
        )
    )


def _hints(checkpoint: Checkpoint, file: Path | None) -> tuple[str, ...]:
    """What may name the network: the checkpoint itself, the file and its folder."""
    named = (_without_suffix(file), file.absolute().parent.name) if file else ()
    return (*((checkpoint.arch,) if checkpoint.arch else ()), *named)


def _without_suffix(file: Path) -> str:
    return file.stem if file.suffix in FILE_SUFFIXES else file.name  # what follows a dot may be a tag of timm's


def _from_module(path: Path, checkpoint: Checkpoint, options: ModelOptions) -> LoadedModel:
    program = checkpoint.module if checkpoint.kind == "pt2" else None
    module = program.module() if program else checkpoint.module
    recipe = _own_preprocessing(checkpoint.module) or RESNET
    return described(
        LoadedModel(
            Model(
                name=safe_name(path.stem),
                source=str(path),
                arch=options.arch or type(checkpoint.module).__name__ if checkpoint.kind == "pickle" else options.arch,
                sha256=artifacts.file_sha256(path),
                parameters=count_parameters(module),
                classes=1,  # until it has been run
                preprocessing=overridden(recipe, options),
                choices=list(checkpoint.choices),
            ),
            checkpoint.kind,
            module,
            program,
            path,
        )
    )


def _own_preprocessing(module: Any) -> Preprocessing | None:
    """What timm's models say of their input in `pretrained_cfg`."""
    config = getattr(module, "pretrained_cfg", None)
    if not isinstance(config, Mapping) or "input_size" not in config:
        return None
    return timm_networks.from_config(config, "the model's pretrained_cfg")


def _sha256(fitted: Fitted, file: Path | None) -> str:
    """Of the weights, and of the code that computes with them where it is the user's."""
    weights = artifacts.file_sha256(file) if file else _state_sha256(fitted.state)
    if not own_code.is_own(fitted.arch):
        return weights
    return hashlib.sha256(weights.encode() + own_code.code(fitted.arch)).hexdigest()


def _state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
