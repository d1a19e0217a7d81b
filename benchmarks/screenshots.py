"""README's table and the pictures of docs/, made anew. Overwrites them; needs Chromium and its driver.

    make screenshots            # 8 minutes, a quiet machine

The built-in sample is compared once for the report. The history is of a small network that is compared six times, and
has a fifth more layers from the fourth on.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (
    ("report", 1280, 1500, "light"),
    ("report", 1280, 1300, "dark"),
    ("report", 400, 2600, "light"),
    ("history", 1280, 1200, "light"),
    ("history", 400, 1700, "light"),
)
BLOCK = re.compile(r"^ {4}.*\n(?:^ {4}.*\n|^\n(?= {4}))*", re.MULTILINE)


def rtbench(*arguments: str | Path, cwd: Path) -> str:
    """What it prints on a terminal of 80 columns, without colours."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "rtbench", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, env=os.environ | {"TERM": "dumb"}, stdout=child)
    os.close(child)
    chunks = []
    with contextlib.suppress(OSError):  # raised where the other end is closed
        while chunk := os.read(parent, 65536):
            chunks.append(chunk)
    os.close(parent)
    if process.wait():
        raise SystemExit(f"rtbench {' '.join(map(str, arguments))} failed")
    return b"".join(chunks).decode().replace("\r\n", "\n")


def table_of(printed: str) -> str:
    """The answer and the table, without the notes below it, as an indented block."""
    answer, table, *_ = printed.split("\n\n")
    lines = [*answer.splitlines(), "", *table.splitlines()[1:]]  # the model's name stands in the text
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def write_network(layers: int, path: Path) -> None:
    torch.manual_seed(0)
    convolutions = [layer for _ in range(layers) for layer in (torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU())]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 10)]
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, stride=4), *convolutions, *head).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 224, 224),)), path)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        printed = rtbench("compare", "--out", "report", cwd=folder)
        for number in range(6):
            write_network(20 if number < 3 else 24, folder / "network.pt2")
            quick = ("--runtimes", "ort", "--precisions", "fp32,int8", "--runs", "300")
            rtbench("compare", "network.pt2", *quick, "--out", f"runs/{number + 1}", cwd=folder)
        (folder / "history").mkdir()
        rtbench("history", "runs", "--format", "html", "--output", "history/report.html", cwd=folder)
        for name, width, height, scheme in PICTURES:
            dark = "-dark" if scheme == "dark" else ""
            picture = ROOT / "docs" / f"{name}-{width}{dark}.png"
            page = folder / name / "report.html"
            command = [ROOT / "tests" / "browser.py", page, picture, str(width), str(height), scheme]
            subprocess.run([sys.executable, *command], check=True)
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    found = BLOCK.search(before)
    assert found and "torch/fp32" in found[0], "README.md does not begin with the table"
    readme.write_text(before.replace(found[0], table_of(printed), 1), encoding="utf-8")


if __name__ == "__main__":
    main()
