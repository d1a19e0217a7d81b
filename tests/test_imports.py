"""The way of the data, kept: imports point only back along it, and start-up loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "rtbench"
WORDS = ["terms", "errors", "worker", "records", "stats", "options", "artifacts"]
STATIONS = ["images", "models", "export", "runtimes", "measure", "runs", "scores", "compare", "review", "report"]
FACES = ["api", "", "cli", "__main__"]
WAY = [*WORDS, *STATIONS, *FACES]
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
