"""Comparisons that are killed, interrupted and taken up again; images that cannot be read."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

import rtbench
from rtbench.measure.latency import CPU_LEAD_NS
from rtbench.records.run import Cpu, Run
from rtbench.runs.directory import RunDirectory
from rtbench.runs.predictions import read_predictions
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples

CLASSES = 10_000
"""So many that an image takes the fake runtime a moment."""
ONCE = ("--patience", "0")
"""Every round is timed once, whatever else this machine does; rounds that it disturbed are left out of figures."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(10):
        write_images(folder / str(index), 20 + index, side=12)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "first.fake", tmp_path / "second.fake"]
    for path in paths:
        path.write_text(json.dumps({"classes": CLASSES, "latency_ms": []}))
    return paths


class Comparing:
    """`rtbench compare` as a process of its own, in the folder of the test."""

    def __init__(self, folder: Path, cache: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
        self._folder, self._cache, self._start = folder, cache, start

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return self._start(
            *(sys.executable, "-m", "rtbench", "compare", *arguments),
            cwd=self._folder,
            env=os.environ | {"XDG_CACHE_HOME": str(self._cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate()
        assert process.returncode == code, stderr
        return stdout, stderr


@pytest.fixture
def comparing(tmp_path: Path, image_cache: Path, start) -> Comparing:
    return Comparing(tmp_path, image_cache, start)


def written(run: Path) -> int:
    """How many bytes of predictions and samples a run, or a folder of it, has."""
    return sum(path.stat().st_size for path in run.rglob("*.csv"))


def wait_for(run: Path, size: int, process: subprocess.Popen[str]) -> None:
    while written(run) < size and process.poll() is None:
        time.sleep(0.002)


LIMIT = 100
SLOW_CLASSES = 100_000


@pytest.fixture
def hanging(tmp_path: Path) -> tuple[list[Path], list[str]]:
    """Models and options of a comparison that waits for ever within the accuracy of its second row, until somebody
    ends it: the 90th image hangs in a process that has timed runs before, and in no other."""
    options = ["--runs", "20", "--processes", "1", "--warmup", "5", "--limit", str(LIMIT), *ONCE]
    lead_runs = CPU_LEAD_NS // 10_000_000
    before = 1 + LIMIT + 5 + 20 * (1 + lead_runs)  # the first, those checked, warm-up, timed and untimed
    fault = {"how": "hang", "after": before + 90}
    paths = [tmp_path / f"{name}.fake" for name in ("first", "second", "third")]
    for path in paths:
        script = {"classes": SLOW_CLASSES, "latency_ms": [10.0]}
        path.write_text(json.dumps(script | ({"fault": fault} if path.stem == "second" else {})))
    return paths, options


def predictions_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "predictions").iterdir()}


def rounds_of(run: Path) -> dict[tuple[str, str], list[int]]:
    """Where each block of samples lies in time."""
    rounds: dict[tuple[str, str], list[int]] = {}
    path = run / "samples.csv"
    for line in csv.DictReader(path.read_text().splitlines()) if path.exists() else ():
        if line["duration_ns"]:  # not cut by a kill
            rounds.setdefault((line["row"], line["round"]), []).append(int(line["start_ns"]))
    return rounds


def test_a_run_killed_at_random_moments_evaluates_every_image_once(
    comparing: Comparing, models: list[Path], pictures: Path, tmp_path: Path
) -> None:
    asked = [*models, "--data", pictures, "--runs", "60", *ONCE]
    comparing.finish(*asked, "--out", "whole")
    whole = tmp_path / "whole"
    run, chooser = tmp_path / "killed", random.Random(5)
    cuts = [1, *sorted(chooser.randrange(1, written(whole) * 4 // 5) for _ in range(3))]
    kept: dict[tuple[str, str], list[int]] = {}
    process = comparing.start(*asked, "--out", run)
    for cut in cuts:
        wait_for(run, cut, process)
        if process.poll() is not None:
            break  # it was done before the machine let us see
        process.kill()
        process.communicate()
        kept |= {key: starts for key, starts in rounds_of(run).items() if len(starts) == 3}
        process = comparing.start("--resume", run)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert predictions_of(run) == predictions_of(whole)
    record = read_run(run)
    assert record.complete
    assert 1 <= len(record.resumed) <= len(cuts)
    assert "interrupted and resumed" in stdout
    assert [row.accuracy for row in record.rows] == [row.accuracy for row in read_run(whole).rows]
    rounds = rounds_of(run)
    assert kept.items() <= rounds.items()  # what was timed before a kill is never timed again
    assert {key: len(starts) for key, starts in rounds.items()} == {
        key: len(starts) for key, starts in rounds_of(whole).items()
    }
    every = [start for starts in rounds.values() for start in starts]
    assert len(set(every)) == len(every) == 120
    samples = read_samples(run)
    assert all(row.latency and row.latency.runs == sum(map(len, samples[row.id])) for row in record.rows)


def test_ctrl_c_prints_the_accuracy_known_so_far(
    comparing: Comparing, hanging: tuple[list[Path], list[str]], pictures: Path, tmp_path: Path
) -> None:
    run, (models, options) = tmp_path / "run", hanging
    process = comparing.start(*models, "--data", pictures, "--out", run, *options)
    while "second-fake-fp32.csv" not in (predictions_of(run) if (run / "predictions").exists() else ()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 130, stderr
    record = read_run(run)
    assert not record.complete
    first, second, third = record.rows
    assert first.accuracy
    assert first.accuracy.images == LIMIT
    assert second.accuracy
    assert 0 < second.accuracy.images < 90
    assert f"accuracy is that of the first {second.accuracy.images} of {LIMIT} images" in " ".join(stdout.split())
    assert (third.status, third.accuracy) == ("ok", None)
    assert third.latency
    assert "interrupted before its accuracy was measured" in third.warnings
    comparing.finish("--resume", run)
    assert [row.accuracy.images for row in read_run(run).rows if row.accuracy] == [LIMIT] * 3


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("step", ["append_samples", "append_predictions"])
def test_the_record_says_what_the_files_have_wherever_ctrl_c_fell(
    step: str, written: bool, models: list[Path], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, calls = getattr(RunDirectory, step), itertools.count()

    def interrupted(*arguments: object) -> None:
        last = next(calls) == 1
        if written or not last:
            keep(*arguments)
        if last:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, step, interrupted)
    folder = tmp_path / "run"
    options = {"runs": 60, "batch_size": 1, "patience_s": 0, "cache_dir": tmp_path / "cache"}
    run = rtbench.compare(*models, data=pictures, out=folder, **options)
    assert not run.complete
    samples = read_samples(folder)
    assert sum(map(len, samples.values()))
    answered = read_predictions(folder, [row.id for row in run.rows])
    for row in run.rows:
        assert (row.latency.runs if row.latency else 0) == sum(map(len, samples.get(row.id, [])))
        assert (row.accuracy.images if row.accuracy else 0) == len(answered[row.id])
    assert bool(run.rows[0].accuracy) == (step == "append_predictions")


def test_a_run_killed_before_measuring_is_resumed_too(
    comparing: Comparing, models: list[Path], pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = comparing.start(models[0].name, "--data", pictures, "--out", run, "--runs", "20", *ONCE)
    while not (run / "command.json").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.communicate()
    Comparing(tmp_path.parent, comparing._cache, comparing._start).finish("--resume", run)  # from another folder
    assert read_run(run).complete


@pytest.fixture
def interrupted(comparing: Comparing, hanging: tuple[list[Path], list[str]], pictures: Path, tmp_path: Path) -> Path:
    own = tmp_path / "own"
    for path in pictures.rglob("*.png"):
        target = own / path.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run, (models, options) = tmp_path / "run", hanging
    process = comparing.start(*models, "--data", "own", "--out", run, *options)
    while not (run / "predictions").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return run


def test_a_resumed_run_must_be_the_same(interrupted: Path, comparing: Comparing, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in interrupted.rglob("*.csv")}

    def refused(*arguments: str | Path) -> str:
        _, stderr = comparing.finish("--resume", interrupted, *arguments, code=2)
        assert stderr.count("\n") == 1
        return stderr

    assert "--runs is 30, and 20 when" in refused("--runs", "30")
    assert "--limit is 50, and 100 when" in refused("--limit", "50")
    assert "--data is other, and own when" in refused("--data", "other")
    assert "models is ['other.pt'], and" in refused("other.pt")
    model = tmp_path / "first.fake"
    script = model.read_text()
    model.write_text(json.dumps({"classes": SLOW_CLASSES, "latency_ms": [], "noise": 0.5}))
    assert "first.fake is not the model that" in refused()
    model.write_text(script)
    result = interrupted / "result.json"
    record = result.read_text()
    other = Cpu(vendor="v", family="1", model="2", stepping="3", microcode="0x4", flags=["avx2"])
    environment = read_run(interrupted).environment.model_copy(update={"cpu_details": other})
    result.write_text(read_run(interrupted).model_copy(update={"environment": environment}).model_dump_json())
    assert "and v family 1 model 2 stepping 3, microcode 0x4 (avx2) when" in refused()
    result.write_text(record)
    image = tmp_path / "own" / "0" / "0.png"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    assert "the images are not those that" in refused()
    image.write_bytes(content)
    assert {path: path.read_bytes() for path in interrupted.rglob("*.csv")} == before
    comparing.finish("--resume", interrupted, "--runs", "20")
    assert "is complete, there is nothing to resume" in refused()


def test_an_unreadable_image_counts_as_wrong_and_is_named(comparing: Comparing, tmp_path: Path) -> None:
    (tmp_path / "one.fake").write_text(json.dumps({"latency_ms": [1.0]}))
    data = tmp_path / "data"
    for index in range(10):
        write_images(data / str(index), 3, side=12)
    good, bad = data / "0" / "0.png", data / "4" / "1.png"
    comparing.finish("one.fake", "--data", data, "--out", "whole", "--runs", "5")
    bad.write_bytes(b"no image")
    last = data / "9" / "2.png"
    last.unlink()
    last.symlink_to("nowhere")
    stdout, _ = comparing.finish("one.fake", "--data", data, "--out", "run", "--runs", "5")
    record = read_run(tmp_path / "run")
    accuracy = record.rows[0].accuracy
    assert accuracy is not None
    assert (accuracy.images, accuracy.unreadable, record.rows[0].status) == (30, 2, "ok")
    assert record.dataset is not None
    assert [str(path) in why for path, why in zip([bad, last], record.dataset.unreadable, strict=True)] == [True, True]
    assert "2 of 30 images cannot be read and count as wrong" in " ".join(stdout.split())
    whole, run = (
        list(csv.DictReader((tmp_path / name / "predictions" / "fake-fp32.csv").read_text().splitlines()))
        for name in ("whole", "run")
    )
    assert len(whole) == len(run) == 30
    for line, before in zip(run, whole, strict=True):
        if line["file"] in ("4/1.png", "9/2.png"):
            assert [line[f"top{rank}"] for rank in range(1, 6)] == ["-1"] * 5
        else:
            assert line == before
    right = sum(line["top1"] == line["label"] for line in run)
    assert accuracy.top1 == pytest.approx(right / 30)
    # with nothing to read there is nothing to measure
    for path in [*data.rglob("*.png"), good]:
        path.unlink(missing_ok=True)
        path.write_bytes(b"no image")
    _, stderr = comparing.finish("one.fake", "--data", data, "--out", "none", code=2)
    assert "no image can be read" in stderr
    assert not (tmp_path / "none").exists()


def test_a_limit_takes_the_same_share_of_every_class(comparing: Comparing, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "one.fake").write_text("{}")
    stdout, _ = comparing.finish("one.fake", "--data", pictures, "--out", "run", "--runs", "5", "--limit", "73")
    with (tmp_path / "run" / "predictions" / "fake-fp32.csv").open(newline="") as file:
        counts = np.bincount([int(line["label"]) for line in csv.DictReader(file)])
    assert counts.sum() == 73
    assert set(counts.tolist()) == {7, 8}
    assert "Only 73 of 245 images were used, evenly spread over the classes" in stdout
    record: Run = read_run(tmp_path / "run")
    assert record.dataset is not None
    assert (record.dataset.images, record.dataset.available) == (73, 245)
