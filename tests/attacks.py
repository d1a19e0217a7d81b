"""Model files that write a file when what they hold is run."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 7)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.linear(batch.mean((2, 3)))


class Writing:
    """Whoever unpickles it writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (f"open({str(self._path)!r}, 'w').close()",)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def exported(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """A torch.export archive of `Small` with each member as `change` gives it."""
    shapes = ({0: torch.export.Dim("batch", max=64)},)
    program = torch.export.export(Small().eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


def sample_input(path: Path, written: Path) -> None:
    inputs = saved(((Writing(written),), {}))
    exported(path, lambda name, content: inputs if "/sample_inputs/" in name else content)


def pickled_weights(path: Path, written: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            for payload in config["config"].values():
                payload["use_pickle"] = True
            return json.dumps(config).encode()
        return saved(Writing(written)) if "/weights/weight_" in name else content

    exported(path, change)


def expression(path: Path, written: Path) -> None:
    code = f"__import__('pathlib').Path({str(written)!r}).touch()"

    def expressed(part: object) -> object:
        if isinstance(part, dict):
            return {key: code if key == "expr_str" else expressed(value) for key, value in part.items()}
        return [expressed(each) for each in part] if isinstance(part, list) else part

    def change(name: str, content: bytes) -> bytes:
        return json.dumps(expressed(json.loads(content))).encode() if "/models/" in name else content

    exported(path, change)


def scripted(path: Path, forward: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's end
        module = torch.jit.script(type("Scripted", (torch.nn.Module,), {})())
        module.define(forward + "\n")
        module.save(str(path))


def saves(path: Path, written: Path) -> None:
    scripted(path, f"def forward(self, batch):\n  torch.save(batch, '{written}')\n  return batch.mean((2, 3))")


def maps(path: Path, written: Path) -> None:
    scripted(
        path,
        f"def forward(self, batch):\n  return batch.mean((2, 3)) + torch.from_file('{written}', True, 3)",
    )


def pickled(path: Path, written: Path) -> None:
    torch.save({"state_dict": Writing(written)}, path)


ATTACKS = {
    "pickled weights": (pickled_weights, "a torch.export archive"),
    "an expression": (expression, "a torch.export archive"),
    "TorchScript that saves": (saves, "TorchScript"),
    "TorchScript that maps": (maps, "TorchScript"),
    "a pickle": (pickled, r"a pickle with Python objects in it \(exec\)"),
}
