"""What several test modules need: real images, made or lent, and the command line as a user runs it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rtbench.runs.directory import RunDirectory

pytest.register_assert_rewrite("browser")  # its assert_clean should say what was not clean

os.environ["RTBENCH_PROGRESS_S"] = "0"  # how many such lines there are depends on how fast the machine is

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it, and so their children


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several processes of tests its own part of the cores: threads that share one wait for each other."""
    worker = getattr(config, "workerinput", None)
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = cores[int(worker["workerid"].removeprefix("gw")) % len(cores) :: worker["workercount"]]
        os.sched_setaffinity(0, own)


IMAGENET_SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "imagenet-sample" / "val"


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """500 labelled ImageNet photographs beside the checkout; they may not be redistributed."""
    if not IMAGENET_SAMPLE.is_dir():
        pytest.skip(f"no ImageNet photographs at {IMAGENET_SAMPLE}")
    return IMAGENET_SAMPLE


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory) -> Path:
    """One cache of decoded images for the whole test session."""
    return tmp_path_factory.mktemp("cache")


def write_images(folder: Path, count: int, side: int = 40) -> None:
    """Small pictures that differ: noise around a colour of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(count)
    for index in range(count):
        colour = generator.integers(40, 216, 3)
        pixels = np.clip(colour + generator.integers(-40, 40, (side, side, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def write_command(folder: Path, more_for_compare: str = "") -> None:
    """A script `rtbench`, as an installation has it; `compare` is given more options than it was called with."""
    folder.mkdir(exist_ok=True)
    more = f'if [ "$1" = compare ]; then set -- "$@" {more_for_compare}; fi\n' if more_for_compare else ""
    (folder / "rtbench").write_text(f'#!/bin/sh\n{more}exec "{sys.executable}" -m rtbench "$@"\n')
    (folder / "rtbench").chmod(0o755)


@pytest.fixture(scope="session")
def ten_classes(tmp_path_factory) -> Path:
    """Four made pictures in each of ten folders named by class index."""
    folder = tmp_path_factory.mktemp("ten")
    for index in range(10):
        write_images(folder / str(index), 4 + index % 2)
    return folder


@pytest.fixture
def rtbench(tmp_path, image_cache):
    """Run the command line in an empty folder; gives the finished process."""

    def run(*arguments: str | Path, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rtbench", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | {"XDG_CACHE_HOME": str(image_cache), "PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def quickly(rtbench, tmp_path):
    """Compare with a few runs in one process each, whoever else uses the machine; gives the record of the run."""

    def compare(model: str | Path, *options: str | Path, out: str = "run") -> dict[str, Any]:
        quick = ("--runs", "5", "--processes", "1", "--patience", "0")
        done = rtbench("compare", model, *quick, *options, "--out", tmp_path / out)
        assert done.returncode in (0, 1), done.stderr
        return json.loads((tmp_path / out / "result.json").read_text())

    return compare


@pytest.fixture
def terminal(tmp_path, image_cache):
    """Run the command line on a terminal 80 columns wide; gives everything that it wrote there."""

    def run(*arguments: str | Path, **variables: str) -> str:
        parent, child = pty.openpty()
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        process = subprocess.Popen(
            [sys.executable, "-m", "rtbench", *map(str, arguments)],
            cwd=tmp_path,
            env=environment
            | {"XDG_CACHE_HOME": str(image_cache), "TERM": "xterm-256color", "COLUMNS": "80"}
            | variables,
            stdout=child,
            stderr=child,
        )
        os.close(child)
        chunks = []
        with contextlib.suppress(OSError):  # raised where the other end is closed
            while chunk := os.read(parent, 65536):
                chunks.append(chunk)
        process.wait()
        os.close(parent)
        return b"".join(chunks).decode()

    return run


@pytest.fixture
def start():
    """Start processes that end with the test, however it ends."""
    started: list[subprocess.Popen[str]] = []

    def run(*command: str | Path, **options: object) -> subprocess.Popen[str]:
        started.append(subprocess.Popen([*map(str, command)], text=True, **options))
        return started[-1]

    yield run
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One headless Chromium for the whole test session."""
    import browser as browsing  # needs selenium

    if not (browsing.CHROMIUM and browsing.DRIVER):
        pytest.skip("no chromium and chromedriver; on Debian: apt-get install chromium chromium-driver")
    started = browsing.Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> Path:
    """A folder with stand-ins for NVIDIA's libraries."""
    from standins import build_driver

    return build_driver(tmp_path_factory.mktemp("driver"))


GOLDEN = Path(__file__).resolve().parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew, to be read in the diff")


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compare a text with the golden file of that name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    """TensorFlow's classifiers, by keras_networks.py."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "networks"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers share it
        if not (folder / "int8.tflite").exists():
            command = [sys.executable, Path(__file__).with_name("keras_networks.py"), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
            assert done.returncode == 0, done.stderr
    return folder
