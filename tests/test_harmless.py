"""TorchScript and torch.export archives that compute and do nothing else are read without consent, and no others."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from attacks import Small, Writing, exported, sample_input, saved, scripted

from rtbench.errors import UsageError
from rtbench.models.checkpoints import read_checkpoint
from rtbench.models.harmless import NotShown, harmless_copy

BATCH = torch.Generator().manual_seed(0)


class Branching(torch.nn.Module):
    """What TorchScript alone can hold: a loop, a branch, text, a dictionary, an early error."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3, padding="same")
        self.classes = ["cat", "dog"]
        self.linear = torch.nn.Linear(8, 5)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if batch.dim() != 4:
            raise ValueError(f"expected four dimensions, got {batch.dim()}")
        found = {"all": torch.nn.functional.gelu(self.convolution(batch), approximate="tanh")}
        for _ in range(2):
            found["all"] = torch.nn.functional.interpolate(found["all"], scale_factor=0.5, mode="bilinear")
        return self.linear(torch.einsum("nchw->nc", found["all"]))


def quantised() -> torch.nn.Module:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    whole = torch.ao.quantization.QuantWrapper(network).eval()
    whole.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    prepared = torch.ao.quantization.prepare(whole)
    prepared(torch.randn(4, 3, 8, 8, generator=BATCH))
    return torch.ao.quantization.convert(prepared)


def scripts() -> dict[str, Callable[[], Any]]:
    resnet = torchvision.models.resnet18(num_classes=5).eval()
    small = torch.zeros(1, 3, 8, 8)
    return {
        "scripted": lambda: torch.jit.script(Branching().eval()),
        "traced": lambda: torch.jit.trace(resnet, torch.zeros(1, 3, 32, 32)),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(resnet)),
        "quantised": lambda: torch.jit.script(quantised()),
        "quantised and traced": lambda: torch.jit.trace(quantised(), small),
        "of dynamic range": lambda: torch.jit.script(
            torch.ao.quantization.quantize_dynamic(Small().eval(), {torch.nn.Linear})
        ),
    }


@pytest.mark.parametrize("name", scripts())
def test_torchscript_that_only_computes_needs_no_consent(name: str, tmp_path: Path) -> None:
    path, batch = tmp_path / "model.pt", torch.randn(3, 3, 8, 8, generator=BATCH)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the end of TorchScript and of quantisation
        module = scripts()[name]()
        module.save(str(path))
        assert torch.equal(read_checkpoint(path).module(batch), torch.jit.load(str(path)).eval()(batch))


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("network", [Small, lambda: torchvision.models.regnet_y_400mf(num_classes=5)])
def test_an_exported_program_that_only_computes_needs_no_consent(
    network: Callable[[], torch.nn.Module], dynamic: bool, tmp_path: Path
) -> None:
    path, batch = tmp_path / "model.pt2", torch.randn(3, 3, 32, 32, generator=BATCH)
    shapes = ({0: torch.export.Dim("batch", max=64)},) if dynamic else None
    torch.export.save(torch.export.export(network().eval(), (batch,), dynamic_shapes=shapes), path)
    program = read_checkpoint(path).module
    assert torch.equal(program.module()(batch), torch.export.load(path).module()(batch))
    assert program.example_inputs is None


def test_expressions_of_sizes_are_read(tmp_path: Path) -> None:
    class Sliced(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.flatten(1)[:, :5]

    path, batch = tmp_path / "model.pt2", torch.randn(2, 3, 12, 12)
    side = torch.export.Dim("side", min=6, max=64)
    torch.export.save(torch.export.export(Sliced(), (batch,), dynamic_shapes=({2: side},)), path)
    wider = torch.randn(2, 3, 30, 12)
    assert torch.equal(read_checkpoint(path).module.module()(wider), Sliced()(wider))


def test_sample_inputs_are_not_read(tmp_path: Path) -> None:
    sample_input(tmp_path / "model.pt2", tmp_path / "written")
    read_checkpoint(tmp_path / "model.pt2")
    assert not (tmp_path / "written").exists()
    with suppress(UsageError):
        read_checkpoint(tmp_path / "model.pt2", trust_code=True)
    assert (tmp_path / "written").exists()


def in_program(change: Callable[[dict[str, Any]], object]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, content: bytes) -> bytes:
        if "/models/" not in name:
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()

    return changed


def set_target(target: str) -> Callable[[dict[str, Any]], None]:
    return lambda program: program["graph_module"]["graph"]["nodes"][0].update(target=target)


def set_spec(kind: str, context: object) -> Callable[[dict[str, Any]], None]:
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = json.dumps([1, {"type": kind, "context": json.dumps(context), "children_spec": [leaf]}])
    return lambda program: program["graph_module"]["module_call_graph"][0]["signature"].update(out_spec=spec)


def renamed(name: str) -> Callable[[str, bytes], bytes]:
    """The input's name everywhere, which torch writes into the code of `forward`."""
    return lambda file, content: (
        content.replace(b'"batch"', json.dumps(name).encode()) if "/models/" in file else content
    )


PICKLED = {"path_name": "opaque_obj_0", "use_pickle": False, "is_param": False, "tensor_meta": None}


def pickled_constants(name: str, content: bytes) -> bytes:
    return json.dumps({"config": {"a": PICKLED}}).encode() if name.endswith("constants_config.json") else content


def set_expression(name: str, content: bytes) -> bytes:
    return content.replace(b"Symbol('", b"Symbol.__class__('") if "/models/" in name else content


PROGRAMS = {
    "a walk through torch": (in_program(set_target("torch.serialization.os.system")), "calls torch.serialization.os"),
    "an operator on files": (
        in_program(set_target("torch.ops.aten.from_file.default")),
        "calls torch.ops.aten.from_file",
    ),
    "an extension": (in_program(set_target("#anything")), "calls #anything"),
    "a graph in a graph": (in_program(set_target("torch.ops.higher_order.cond")), "calls torch.ops.higher_order"),
    "code as a name": (renamed("batch=open('written','w')"), "holds the text"),
    "a factory": (
        in_program(set_spec("collections.defaultdict", {"default_factory_module": "antigravity"})),
        r"of the type collections\.defaultdict",
    ),
    "an enumeration": (in_program(set_spec("builtins.dict", [{"__enum__": True, "fqn": "antigravity:x"}])), "not text"),
    "an attribute": (set_expression, "holds the text"),
    "constants that are pickled": (pickled_constants, "pickled"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_exported_program_that_may_do_more_is_refused(name: str, tmp_path: Path) -> None:
    change, reason = PROGRAMS[name]
    exported(tmp_path / "model.pt2", change)
    with pytest.raises(UsageError, match=rf"runs code that it holds \(.*({reason}).*--trust-code"):
        read_checkpoint(tmp_path / "model.pt2")


def test_guards_which_are_code_are_left_out(tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = f"open({str(written)!r}, 'w') and True"
    exported(tmp_path / "model.pt2", in_program(lambda program: program.update(guards_code=[code])))
    read_checkpoint(tmp_path / "model.pt2").module.module()(torch.zeros(2, 3, 8, 8))
    assert not written.exists()


SCRIPTS = {
    "save": "def forward(self, batch):\n  torch.save(batch, 'written')\n  return batch",
    "from_file": "def forward(self, batch):\n  return batch + torch.from_file('written', True, 3)",
    "_record_function_enter": "def forward(self, batch):\n"
    "  token = torch.ops.profiler._record_function_enter('a')\n  return batch",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_torchscript_that_may_do_more_is_refused(name: str, tmp_path: Path) -> None:
    scripted(tmp_path / "model.pt", SCRIPTS[name])
    with pytest.raises(UsageError, match=rf"runs code that it holds \(its code names {name}\)"):
        read_checkpoint(tmp_path / "model.pt")


def rewritten(path: Path, change: Callable[[dict[str, bytes]], list[tuple[str, bytes]]]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in change(members):
            archive.writestr(name, content)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    scripted(tmp_path / "model.pt", "def forward(self, batch):\n  return batch.mean((2, 3))")
    return tmp_path / "model.pt"


def test_two_members_of_one_name_are_refused(script: Path) -> None:
    """Readers of archives differ in which of them they take."""
    rewritten(script, lambda members: [*members.items(), *members.items()])
    with pytest.raises(NotShown, match="two members of one name"):
        harmless_copy(script, "torchscript")


def test_two_folders_are_refused(script: Path) -> None:
    rewritten(script, lambda members: [*members.items(), ("other/data.pkl", b"")])
    with pytest.raises(NotShown, match="more than one folder"):
        harmless_copy(script, "torchscript")


CLASS = re.compile(rb"__torch__[\w.]*\nScripted")


@pytest.mark.parametrize("new", [b"__torch__.torch.classes.dist_rpc\nX", b"__torch__.torch\nclasses.X"])
def test_objects_of_unknown_classes_are_refused(script: Path, new: bytes) -> None:
    rewritten(script, lambda members: [(name, CLASS.sub(new, content)) for name, content in members.items()])
    with pytest.raises(NotShown, match="class that is not known"):
        harmless_copy(script, "torchscript")


def test_pickles_beside_the_network_are_not_copied(script: Path, tmp_path: Path) -> None:
    evil = saved(Writing(tmp_path / "written"))
    root = zipfile.ZipFile(script).namelist()[0].partition("/")[0]
    rewritten(
        script, lambda members: [*members.items(), (f"{root}/extra/more.pkl", evil), (f"{root}/bytecode.pkl", evil)]
    )
    with zipfile.ZipFile(harmless_copy(script, "torchscript")) as archive:
        assert not [name for name in archive.namelist() if "extra" in name or "bytecode" in name or "debug" in name]


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtbench.models.harmless.MOST_CODE", 0)
    rewritten(script, lambda members: [*members.items()])
    with zipfile.ZipFile(script, "a", zipfile.ZIP_DEFLATED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data/99", bytes(1 << 20))
    with pytest.raises(NotShown, match="unpacks to more"):
        harmless_copy(script, "torchscript")
