"""The way of the data, kept: imports point only back along it, files stay small, and start-up loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "rtbench"
WORDS = [
    "terms",
    "errors",
    "worker",
    "records",
    "shipped",
    "stats",
    "options",
    "onnx_file",
    "artifacts",
    "nvidia",
    "plugins",
]
STATIONS = ["images", "models", "export", "runtimes", "measure", "runs", "scores", "compare", "review", "report"]
FACES = ["api", "", "cli", "__main__", "ground_truth", "testing"]
WAY = [*WORDS, *STATIONS, *FACES]
FOLDERS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 15, 300, 60, 8
LONG_FUNCTIONS: set[str] = set()
LONG_SIGNATURES: set[str] = set()
"""Exceptions, as `folder/module.py:function`; the command line's own signatures are the user's options."""
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "scipy", "PIL", "rich"}


def step_of(module: str) -> int:
    return WAY.index(module.removeprefix("rtbench").lstrip(".").split(".")[0])


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            is_package = (PACKAGE.parent / node.module.replace(".", "/")).is_dir()
            found |= children if is_package and node.module == "rtbench" else {node.module}
    return {name for name in found if name.split(".")[0] == "rtbench" and name != "rtbench.__version__"}


def test_imports_point_back_along_the_way():
    forward = []
    for path in PACKAGE.rglob("*.py"):
        own = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        forward += [f"{own} imports {other}" for other in imports_of(path) if step_of(other) > step_of(own)]
    assert forward == []


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node


def test_modules_and_functions_stay_small():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_MODULES
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
    assert max(lengths.values()) > MOST_LINES / 2  # they have been found and counted
    long = {name for name, node in functions() if node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES}
    assert long == LONG_FUNCTIONS


def test_signatures_stay_short():
    wide = set()
    for name, node in functions():
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = len([each for each in parameters if each.arg not in ("self", "cls")])
        if count > MOST_PARAMETERS and not name.startswith("cli/"):
            wide.add(name)
    assert wide == LONG_SIGNATURES


def test_every_folder_says_what_comes_in_and_goes_out():
    assert {*STATIONS, "records", "cli"} == FOLDERS
    for folder in FOLDERS:
        said = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")))
        assert said, folder
        assert len(said.split()) >= 10, folder


def test_contributing_lists_the_folders_as_they_are():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)/` \|", text, flags=re.MULTILINE)
    assert listed == ["records", *STATIONS, "cli"]
    words = text.split("In `rtbench/` itself")[1].split("An option is")[0]
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert set(re.findall(r"`(\w+)`", words)) == modules


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom rtbench.cli import app as cli\n"
        "try: cli.app(['compare', '--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', *(name for name in sys.modules if '.' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert loaded & HEAVY == set()
    assert "typer" in loaded


def test_a_comparison_keeps_the_heavy_libraries_out_of_the_parent():
    code = "import sys; import rtbench.compare.run, rtbench.report.table; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"torch", "torchvision", "onnx", "onnxruntime"} == set()
