"""What the user sets, damaged: recipes, baselines, scripts of the fake runtime, and the command line's own words."""

from __future__ import annotations

import contextlib
import io
import os
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from judge import INPUTS, SEED, Reader, judge
from mutate import mutations

from rtbench import api
from rtbench.cli.app import WRONG_USAGE, app
from rtbench.errors import UsageError, reading
from rtbench.export.recipes import load_recipe
from rtbench.models.fake_model import read_script
from rtbench.scores.baselines import load_baseline

DATA = resources.files("rtbench") / "data"
BATCH = np.zeros((1, 3, 2, 2), dtype=np.float32)
OWN_RECIPE = b"""precision = "int8"
compute_capability = "8.9"
library = "tensorrt_rtx"
workspace_mib = 2048
optimization_level = 5
cuda_graph = true
batch = {min = 1, opt = 8, max = 32}
calibration = {images = 64, method = "entropy"}
"""
OWN_BASELINE = b"""name = "ours"
latency_ms = 12.5
top1 = 0.75
top5 = 0.92
size_mib = 30
hardware = "a box"
gpu = "Tesla T4"
classes = 1000
"""
FAKE = [
    b"{}",
    b'{"classes": 10, "input_size": 8, "precision": "int8", "latency_ms": [1.0, 2.5e1], "noise": 0.5}',
    b'{"latency_ms": [], "fault": {"how": "raise", "step": "run", "after": 60}}',
]
LINES = [
    b"compare\nmodel.fake\nother.fake\n--runtimes\ntorch,ort:cpu,fake\n--precisions\nfp32,int8\n--runs\n100\n--threads\n2",
    b"compare\nresnet18\n--mean\n0.485,0.456,0.406\n--std\n0.229,0.224,0.225\n--input-size\n224\n--resize\n256",
    b"compare\nmodel.fake\n--timeout\n30\n--patience\n0.5\n--max-time\n60\n--target-ci\n1%\n--max-loss\n1pp\n--warmup\n20",
    b"compare\nmodel.fake\n--data\npictures\n--limit\n100\n--batch-size\n8\n--baseline\nmeasured\n--out\nrun\n--strict",
    b"compare\nmodel.fake\n--against\nrun\n--fail-on\nlatency:5%,accuracy:0.5pp,size:1%\n--max-disagreement\n0.01",
    b"-v\nexport\nresnet18\n--formats\nonnx,trt\n--recipe\nt4-fp16,own.toml\n--build-repeats\n3\n--calibration\npictures",
    b"export\nmodel.pt\n--calibration-images\n64\n--calibration-method\nentropy\n--interpolation\nbicubic\n--arch\nvit_b_16",
    b"compare\nm\xc3\xa9.fake\n--processes=5\n--keep-artifacts\n--scenario\nsingle-stream\n--preprocess\ntf\n--cache-dir\nc",
]


def read_recipe(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    load_recipe(str(path))


def read_baseline(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    found = load_baseline(str(path))
    assert found
    assert min(found.latency_ms, found.size_mib, found.top1 or 1, found.top5 or 1) > 0
    assert 0 < 1 / found.latency_ms < float("inf")


def read_fake(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    script = read_script(path)
    assert all(round(1e6 * each) >= 0 for each in script.latency_ms)
    assert script.logits(BATCH).shape == (1, script.classes)


class _Understood(UsageError):
    """In the place of what the words ask for, which leaves nothing behind."""


def _understand(*_: object, **__: object) -> None:
    raise _Understood("understood")


def read_words(folder: Path, data: bytes) -> None:
    """All of a command up to its work, in a folder of its own."""
    os.chdir(folder)
    os.environ |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    api.run_comparison = api.prepare = _understand
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), reading():
        try:
            words = data.replace(b"\0", b"").split(b"\n")  # which no process can be given
            app([os.fsdecode(word) for word in words], standalone_mode=False)
        except _Understood:
            return
        except WRONG_USAGE as error:
            raise UsageError(error.format_message()) from None


@pytest.mark.parametrize(
    ("family", "reader", "seeds"),
    [
        (
            "recipes",
            read_recipe,
            [OWN_RECIPE, *((DATA / "recipes" / f"t4-{each}.toml").read_bytes() for each in ("fp16", "int8"))],
        ),
        ("baselines", read_baseline, [OWN_BASELINE, (DATA / "baselines" / "resnet18-t4.toml").read_bytes()]),
        ("fake scripts", read_fake, FAKE),
        ("command line", read_words, LINES),
    ],
    ids=["recipes", "baselines", "fake", "words"],
)
def test_damaged_settings_are_refused_or_right(family: str, reader: Reader, seeds: list[bytes], tmp_path: Path) -> None:
    place = tmp_path if reader is read_words else tmp_path / "file.toml"
    tally = judge(family, partial(reader, place), [*seeds, *mutations(seeds, 8 * INPUTS, SEED)])
    assert not tally.faults, str(tally)
    assert tally.ok >= len(seeds)
    assert tally.refused > INPUTS
