"""The stand-ins hold nothing that the real TensorRT lacks: neither TensorRT for RTX nor TensorRT itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

real = pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt-rtx is not installed")
STANDIN = Path(__file__).parent / "standin" / "tensorrt_rtx" / "__init__.py"
STUBS = Path(sys.prefix) / "tensorrt" / "10" / "types" / "tensorrt_bindings" / "tensorrt.pyi"
CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "EngineInspector")


def members(path: Path, name: str) -> dict[str, list[list[str]]]:
    """Public members of a class: for a method the parameters of each of its overloads, none for an attribute."""
    (found,) = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    public: dict[str, list[list[str]]] = {}
    for node in ast.walk(found):
        if isinstance(node, ast.FunctionDef):
            own = [argument.arg for argument in node.args.args if argument.arg != "self"]
            public.setdefault(node.name, []).append(own)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            public.setdefault(node.target.id, [])
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            public.setdefault(node.attr, [])
    return {name: overloads for name, overloads in public.items() if not name.startswith("_")}


@pytest.mark.parametrize("name", CLASSES)
def test_the_real_class_has_every_member(name):
    ours = members(STANDIN, name)
    assert ours
    assert [member for member in ours if not hasattr(getattr(real, name), member)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_so_have_the_stubs_with_the_same_parameters(name):
    if not STUBS.exists():
        pytest.skip(f"no {STUBS}; tests/tensorrt_bindings.sh makes them")
    theirs = members(STUBS, name)
    for member, overloads in members(STANDIN, name).items():
        assert member in theirs
        for own in overloads:
            assert any(each[: len(own)] == own for each in theirs[member]), f"{member}{own}: {theirs[member]}"


def test_the_product_does_not_know_them():
    package = Path(__file__).resolve().parents[1] / "rtbench"
    assert [path for path in package.rglob("*") if path.is_file() and b"standin" in path.read_bytes().lower()] == []
