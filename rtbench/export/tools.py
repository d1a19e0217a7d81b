"""Packages that an export needs and that pip cannot install beside the others: each in a folder of its own, pinned."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from rtbench.errors import RuntimeUnavailable, UsageError
from rtbench.options import cache_folder

TOOLS = {"onnx2tf": "PyTorch's models to TFLite"}


def folder_of(tool: str) -> Path:
    """Where a tool is or would be; other pins or another Python have another place."""
    made_of = f"{_pins(tool).read_text(encoding='utf-8')} {sys.version_info[:2]}"
    return cache_folder() / "tools" / f"{tool}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


def install(tool: str) -> Path:
    """Install a tool where it is not there yet; UsageError with pip's reason where it cannot be."""
    if tool not in TOOLS:
        raise UsageError(f"there is no tool {tool!r}", f"there are {', '.join(TOOLS)}")
    folder = folder_of(tool)
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    asked = [*pip, "--target", str(partial), "--requirement", str(_pins(tool))]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(partial, ignore_errors=True)
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip does not say why")
        raise UsageError(f"{tool} cannot be installed: {reason.removeprefix('ERROR: ')}")
    partial.replace(folder)
    return folder


def use(tool: str) -> None:
    """Have this process import a tool; RuntimeUnavailable where it is not installed."""
    folder = folder_of(tool)
    if not folder.is_dir():
        raise RuntimeUnavailable(f"{tool} is not installed", f"rtbench tools install {tool}")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: nothing that is there already is replaced


def _pins(tool: str) -> Path:
    return Path(str(resources.files("rtbench") / "data" / "tools" / f"{tool}.txt"))
