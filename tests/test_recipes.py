"""The recipes of docs/recipes.md, run: their own commands, in a folder with the files that they name.

Only `rtbench compare` is given more than the page says: fewer runs, and no wait for a quiet machine.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from conftest import write_command, write_images
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = dict(
    section.split("\n", 1) for section in (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").split("\n## ")[1:]
)
QUICK = "--runs 20 --processes 2 --patience 0"
CLASSES = ("cat", "dog", "owl")
DOCKER = """#!{python}
import os, sys
kind, arguments = sys.argv[1], sys.argv[2:]
if kind == "run":
    mounts = [each.split(",")[1] for each in arguments if each.startswith("type=bind")]
    assert all(os.path.isdir(source.removeprefix("src=")) for source in mounts), mounts
    command = arguments[arguments.index("rtbench") + 1 :]
    os.execvp(command[0], command)
"""

pytestmark = pytest.mark.slow


def commands(recipe: str) -> list[str]:
    text = re.sub(r"```.*?```", "", SECTIONS[recipe], flags=re.DOTALL)
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands run, with `rtbench` on the path."""
    write_command(tmp_path / "tools", QUICK)
    docker = tmp_path / "tools" / "docker"
    docker.write_text(DOCKER.format(python=sys.executable))
    docker.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def follow(folder: Path, image_cache: Path):
    """Run the commands of a recipe one after the other; what each ended with, and printed."""

    def run(recipe: str) -> list[subprocess.CompletedProcess[str]]:
        path = f"{folder.parent / 'tools'}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(image_cache)}
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS"):
            environment.pop(name, None)  # of a `make test` around it
        return [
            subprocess.run(
                command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            for command in commands(recipe)
        ]

    return run


def rows(folder: Path, run: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((folder / run / "result.json").read_text())["rows"]}


def fine_tuned(folder: Path) -> torch.nn.Module:
    """A network of timm's whose head is right on all images of `val`; leaves `best.pth` and both folders of images."""
    for count, name in enumerate(CLASSES, start=8):
        write_images(folder / "val" / name, count)
        write_images(folder / "train" / name, count + 8)
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=len(CLASSES)).eval()
    recipe = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(256, interpolation=torchvision.transforms.InterpolationMode.BICUBIC),
            torchvision.transforms.CenterCrop(224),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = [(path, label) for label, name in enumerate(CLASSES) for path in (folder / "val" / name).iterdir()]
    with torch.inference_mode():
        pixels = torch.stack([recipe(Image.open(path)) for path, _ in images])
        features = network.forward_head(network.forward_features(pixels), pre_logits=True).double()
        wanted = torch.nn.functional.one_hot(torch.tensor([label for _, label in images])).double()
        ones = torch.ones(len(images), 1, dtype=torch.double)
        fitted = torch.linalg.lstsq(torch.cat((features, ones), dim=1), wanted, driver="gelsd").solution
        network.classifier.weight.copy_(fitted[:-1].T)
        network.classifier.bias.copy_(fitted[-1])
    torch.save(network.state_dict(), folder / "best.pth")
    return network


def test_every_recipe_has_its_test() -> None:
    tested = {name for name in SECTIONS if f'"{name}"' in Path(__file__).read_text(encoding="utf-8")}
    assert tested == SECTIONS.keys()


def test_a_fine_tuned_checkpoint_on_a_cpu_server(folder: Path, follow) -> None:
    fine_tuned(folder)
    doctor, compare, report, export = follow("A fine-tuned model, for a CPU server")
    assert [each.returncode for each in (doctor, compare, report, export)] == [0, 0, 0, 0], compare.stderr
    assert "openvino" in doctor.stdout
    measured = rows(folder, "runs/first")
    assert list(measured)[:2] == ["torch/fp32", "ort/fp32"]
    assert measured["torch/fp32"]["accuracy"]["top1"] == 1.0
    assert measured["openvino/fp32"]["fidelity"]["top1_agreement"] == 1.0
    recommendation = json.loads((folder / "runs/first/result.json").read_text())["recommendation"]
    assert " ".join(compare.stdout.split()).startswith(recommendation["reason"][:60])
    assert "| `ort/int8` |" in (folder / "answer.md").read_text()
    served = {path.name for path in (folder / "serve").glob("*.onnx")}
    assert served == {"onnx-fp32.onnx", "onnx-fp16.onnx", "onnx-int8.onnx"}


def pruned(folder: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS["A pruned network"], flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)


def test_a_pruned_network(folder: Path, follow) -> None:
    pruned(folder)
    write_images(folder / "val" / "7", 4)
    (compare,) = follow("A pruned network")
    assert compare.returncode == 0, compare.stderr
    measured = rows(folder, "runs/pruned")
    assert all(row["status"] == "ok" for row in measured.values())
    weights = torch.export.load(folder / "pruned.pt2").state_dict.values()
    size = 4 * sum(each.numel() for each in weights)
    assert measured["ort/fp32"]["artifact"]["size_bytes"] == pytest.approx(size, rel=0.02)
    assert size < 0.75 * 4 * 11_689_512, "the baseline's parameters"


def test_a_submission_to_the_competition(folder: Path, follow) -> None:
    pruned(folder)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    for index in (3, 500):
        write_images(folder / "val" / str(index), 3 + index % 2)
    compare, report = follow("A submission to the competition")
    assert (compare.returncode, report.returncode) == (0, 0), compare.stderr
    measured = rows(folder, "runs/submission")
    with (folder / "scores.csv").open(newline="") as file:
        scores = {line["row"]: line for line in csv.DictReader(file)}
    assert scores.keys() == measured.keys()
    for name, row in measured.items():
        latency, size = row["latency"]["mean_ms"], row["artifact"]["size_bytes"]
        assert row["scores"]["latency"] == pytest.approx(23.5 / latency), name
        assert row["scores"]["size"] == pytest.approx(44.7 * 2**20 / size), name
        assert row["scores"]["accuracy"] == pytest.approx(row["accuracy"]["top1"] / 0.6976), name
        assert float(scores[name]["size_score"]) == pytest.approx(row["scores"]["size"]), name
    baseline = next(name for name in measured if name.endswith("torch/fp32"))
    assert measured[baseline]["scores"]["size"] == pytest.approx(1, abs=0.02)


def test_a_model_of_tensorflow(folder: Path, follow, networks: Path) -> None:
    shutil.copy(networks / "small.keras", folder / "model.keras")
    for index in range(7):
        write_images(folder / "val" / str(index), 2 + index % 2)
    (compare,) = follow("A TensorFlow model")
    assert compare.returncode == 0, compare.stderr
    assert {"tf/fp32", "litert/fp32", "litert/int8", "ort/fp32"} <= rows(folder, "runs/tf").keys()
    assert "vs tf" in " ".join(compare.stdout.split())


def test_an_onnx_file_of_your_own(folder: Path, follow) -> None:
    network = fine_tuned(folder)
    image = (torch.zeros(1, 3, 224, 224),)
    torch.onnx.export(network, image, folder / "mine.onnx", dynamo=True, verbose=False)
    (compare,) = follow("An ONNX file of your own")
    assert compare.returncode == 0, compare.stderr
    measured = rows(folder, "runs/mine")
    assert measured["ort/fp32"]["fidelity"]["top1_agreement"] == 1.0
    assert measured["openvino/fp32"]["accuracy"]["top1"] == 1.0


def test_a_gate_in_ci(folder: Path, follow) -> None:
    network = fine_tuned(folder)
    with torch.inference_mode():  # every answer is another class
        network.classifier.weight.copy_(network.classifier.weight.roll(1, dims=0))
        network.classifier.bias.copy_(network.classifier.bias.roll(1))
    torch.save(network.state_dict(), folder / "candidate.pth")
    good, new, diff = follow("A gate in CI")
    assert (good.returncode, new.returncode, diff.returncode) == (0, 1, 0), new.stderr
    assert "FAIL accuracy:0.5pp: ort/fp32 -100.0 pp" in new.stdout
    assert "| `ort/fp32` |" in diff.stdout


def test_a_container(folder: Path, follow) -> None:
    """But for the container: `docker` runs the command on this machine, with what is mounted under its name there."""
    fine_tuned(folder)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    build, compare = follow("A container")
    assert (build.returncode, compare.returncode) == (0, 0), compare.stderr
    assert rows(folder, "runs/contained")["torch/fp32"]["accuracy"]["top1"] == 1.0


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="what is said without a GPU")
def test_a_machine_that_was_to_have_a_gpu(folder: Path, follow) -> None:
    fine_tuned(folder)
    doctor, compare, strict = follow("A machine with a GPU")
    assert (doctor.returncode, compare.returncode, strict.returncode) == (0, 0, 1), compare.stderr
    measured = rows(folder, "runs/gpu")
    assert measured["ort:cpu/fp32" if "ort:cpu/fp32" in measured else "ort/fp32"]["status"] == "ok"
    missing = [row for name, row in measured.items() if name.startswith("trt/")]
    assert missing
    assert all(row["status"] == "unavailable" and row["reason"] and not row["latency"] for row in missing)
