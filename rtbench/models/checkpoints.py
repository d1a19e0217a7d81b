"""What a model file holds, found by its content: a state dict, TorchScript, torch.export or a pickled module.

All but state dicts are code: they are loaded only where the user trusts them, or where they are shown to be harmless. A
state dict is read by torch's `weights_only` reader, which builds tensors and containers and calls nothing else.
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtbench.artifacts import require_file
from rtbench.errors import RtbenchError, UsageError
from rtbench.models.harmless import harmless_copy
from rtbench.models.others import other_format
from rtbench.models.safetensors_files import is_safetensors, read_safetensors
from rtbench.models.torch_files import damaged, verify_members, verify_old, zip_members
from rtbench.models.trust import NotShown, needs_trust
from rtbench.terms import Format

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema")
"""Where checkpoints have the weights averaged over training, which are what is published."""
NESTED = (*AVERAGED, "state_dict", "model_state_dict", "model", "net", "network", "params", "module", "weights")
WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "AveragedModel": "module",
    "ModelEma": "ema",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
}
"""Classes around a network, and their attribute that is it."""


UNKNOWN = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class|unsupported GLOBAL) ([\w.]+)")
BUILTINS = "builtins."
"""What torch leaves out of the names in its errors."""
MOST_UNKNOWN = 64
"""Classes in one file."""
STATE_ALONE = ", or save the state dict alone"


@dataclass(frozen=True)
class Checkpoint:
    """`kind` says which of the others is there: `state` for a state dict, else `module`."""

    kind: Format
    state: dict[str, torch.Tensor] | None = None
    module: Any = None
    arch: str | None = None
    """What the file itself says that its network is called."""
    choices: tuple[str, ...] = ()
    """What was taken where the file has several, and how to choose another."""
    taken: str | None = None
    others: tuple[str, ...] = ()
    """The key of the one that was taken, and of those that could be."""


def read_checkpoint(path: Path, *, trust_code: bool = False, verify: bool = True, key: str | None = None) -> Checkpoint:
    """The contents of a `.pt`, `.pth`, `.pt2` or safetensors file; `verify` its checksums, where it has some, too.

    `key`: which of the state dicts in it.

    Raises UsageError for a file that is missing, empty, damaged, not PyTorch's, or code while `trust_code` is false.
    """
    require_file(path)
    if is_safetensors(path):
        return Checkpoint("state_dict", read_safetensors(path))
    if other := other_format(path):
        raise UsageError(f"{path} is {other.what}", other.remedy)
    members = zip_members(path)
    names = [member.filename for member in members]
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        return _read_code(path, "torchscript", trust_code)
    if any(
        "/models/" in name or name.endswith(("archive_format", "serialized_exported_program.json")) for name in names
    ):
        return _read_code(path, "pt2", trust_code)
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise UsageError(f"{path} unpacks to more than its own size, as torch.save never writes", "save it again")
    if verify and members:
        verify_members(path, members)
    elif verify:
        verify_old(path)
    return _read_pickle(path, trust_code, key)


def _read_code(path: Path, kind: Format, trust_code: bool) -> Checkpoint:
    what, read = READERS[kind]
    if trust_code:
        verify_members(path, zip_members(path))
        return read(path, path)
    try:
        return read(path, harmless_copy(path, kind))
    except NotShown as reason:
        raise needs_trust(path, what, reason, STATE_ALONE) from None


@contextmanager
def running_code_of(path: Path | str, doing: str, remedy: str) -> Iterator[None]:
    """Whatever the user's own code raises becomes one sentence, its traceback kept in the log of the process."""
    try:
        yield
    except RtbenchError:
        raise
    except Exception as error:  # it is not our code
        raise UsageError(f"{path} {doing}: {last_line(error)}", remedy) from error


def _read_torchscript(path: Path, source: Path | io.BytesIO) -> Checkpoint:
    with running_code_of(path, "cannot be loaded as TorchScript", "save it again"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and people have it
        file = str(source) if isinstance(source, Path) else source
        return Checkpoint("torchscript", module=torch.jit.load(file, map_location="cpu").eval())  # type: ignore[no-untyped-call]


def _read_exported(path: Path, source: Path | io.BytesIO) -> Checkpoint:
    remedy = f"export it again with torch {torch.__version__}"
    with running_code_of(path, "cannot be loaded with torch.export", remedy):
        return Checkpoint("pt2", module=torch.export.load(source))


READERS: dict[Format, tuple[str, Callable[[Path, Path | io.BytesIO], Checkpoint]]] = {
    "torchscript": ("TorchScript", _read_torchscript),
    "pt2": ("a torch.export archive", _read_exported),
}


class _Inert:
    """In place of an object of a class that torch does not read: training settings, metrics, a whole network."""

    def __new__(cls, *given: object, **named: object) -> _Inert:  # noqa: ARG004
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _read_pickle(path: Path, trust_code: bool, key: str | None) -> Checkpoint:
    """The state dict in the file, without creating other objects; the objects where it has none, if trusted."""
    unknown: list[str] = []
    try:
        return _find_model(path, _read_tensors(path, unknown), key)
    except _IsCode:
        if not trust_code:
            what = f"a pickle with Python objects in it ({unknown[0]})"
            raise needs_trust(path, what, instead=STATE_ALONE) from None
    return _unpickle(path, key)


class _IsCode(Exception):
    """What is looked for is an object of a class that only its own code makes."""


def _read_tensors(path: Path, unknown: list[str]) -> Any:
    """By torch's reader that runs no code; `unknown` takes the names of classes of which nothing is made."""
    while True:
        stand_ins: list[Any] = [(_Inert, f"{module}{name}") for name in unknown for module in ("", BUILTINS)]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
                warnings.simplefilter("ignore")  # of pickle protocols
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds, by where a file is damaged
            said = UNKNOWN.search(str(error))
            if said is None and not unknown:
                raise damaged(path) from error
            if said is None or said[1] in unknown or len(unknown) == MOST_UNKNOWN:
                raise _IsCode from None
            unknown.append(said[1])


def _unpickle(path: Path, key: str | None) -> Checkpoint:
    sys.path.append(str(Path.cwd()))  # where the classes of a user's own pickle are
    remedy = "run rtbench in the folder of its code, or save the state dict alone"
    with running_code_of(path, "cannot be unpickled", remedy):
        return _find_model(path, torch.load(path, map_location="cpu", weights_only=False), key)


def _find_model(path: Path, content: Any, wanted: str | None) -> Checkpoint:
    choices: tuple[str, ...] = ()
    arch, asked, taken, others = _own_name(content), wanted is not None, None, tuple[str, ...]()
    for _ in NESTED:  # each at most once, since a file can hold itself
        inside = _networks(content)
        if wanted is not None and wanted not in inside and inside:
            raise UsageError(f"{path} has no {wanted}", f"--checkpoint-key is one of {', '.join(inside)}")
        if not inside:
            break
        name = wanted or next(iter(inside))
        if len(inside) > 1:
            others = tuple(key for key in inside if key != name)
            choices = (f"the file's {name} was taken; --checkpoint-key chooses another of its {', '.join(others)}",)
            taken, others = name, () if asked else others
        content, wanted = inside[name], None
        arch = arch or _own_name(content)
    if isinstance(content, _Inert):
        raise _IsCode
    if isinstance(content, torch.nn.Module):
        return Checkpoint("pickle", module=_without_wrappers(content).eval(), choices=choices)
    if isinstance(content, Mapping):
        state = {
            key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)
        }
        if state:
            _require_values(path, state)
            return Checkpoint("state_dict", state, arch=arch, choices=choices, taken=taken, others=others)
    raise UsageError(
        f"{path} holds no state dict and no module (it is a {type(content).__name__})",
        "save model.state_dict()",
    )


def _networks(content: Any) -> dict[str, Any]:
    """What a checkpoint holds by the names that are known, in the order of what is most likely meant."""
    if not isinstance(content, Mapping):
        return {}
    found = {key: content[key] for key in NESTED if key in content}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, (torch.nn.Module, _Inert)) or (isinstance(value, Mapping) and len(value) > 0)
    }


def _own_name(content: Any) -> str | None:
    """What timm's and others' training scripts call the network in their checkpoints."""
    name = content.get("arch") if isinstance(content, Mapping) else None
    return name if isinstance(name, str) else None


def _without_wrappers(module: torch.nn.Module) -> torch.nn.Module:
    while type(module).__name__ in WRAPPERS:
        module = getattr(module, WRAPPERS[type(module).__name__])
    return module


def _require_values(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Every tensor must have its values in the file, as plain numbers."""
    size = path.stat().st_size
    for key, value in state.items():
        if value.is_quantized:
            raise UsageError(f"{path} is of a network that PyTorch has quantised", "save the network as TorchScript")
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_nested or value.nbytes > size:
            raise UsageError(
                f"{path} does not hold the values of {key!r}", "save model.state_dict() of a plain network"
            )


def last_line(error: BaseException) -> str:
    """What an error says: TorchScript's tells why in its last line, after a traceback; others' begin with it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "TorchScript interpreter" in lines[0] or "Traceback" in str(error) else lines[0]
