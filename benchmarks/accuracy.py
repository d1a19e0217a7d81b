"""Accuracy at full scale, measured: decoding, cached reading, whole comparisons, memory, exact agreement.

    python benchmarks/accuracy.py --data ../shared/imagenet-sample/val > benchmarks/results/DATE-accuracy.md

The sample's 500 images are repeated by links to 5,000 and 50,000; `--scale 0.1` makes a tenth of that. Each
promise is measured beside what it is relative to, in this one run. Takes about 12 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import psutil
import torch
from inference import PureInference, interrupted
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from rtbench.images.cache import cache_images
from rtbench.images.crops import Crops
from rtbench.images.datasets import read_labelled
from rtbench.images.preprocessing import RESNET, normalise
from rtbench.images.sample import PREPROCESSING, build_network, weights_file
from rtbench.measure.environment import available_cores, read_environment
from rtbench.records.model import Preprocessing
from rtbench.runs.result import read_run

FEW, MANY = 5_000, 50_000
ROWS = ("torch/fp32", "ort/fp32", "ort/fp16", "ort/int8")
MODEL = "efficientnet_lite0"
CORES = available_cores()
VALIDATION = 50_000
DECODINGS = 5


@dataclass
class Report:
    lines: list[str] = field(default_factory=list)

    def add(self, what: str, measured: str, promised: str, holds: bool | None) -> None:
        verdict = "" if holds is None else "yes" if holds else "**no**"
        self.lines.append(f"| {what} | {measured} | {promised} | {verdict} |")
        print(f"{what}: {measured} ({promised}) {verdict}", file=sys.stderr)


@dataclass
class Watched:
    """What a process and its children took: seconds, peak memory by process, the parent's share of a core."""

    seconds: float
    peaks_mib: dict[str, float]
    parent_cores: float


def repeat(data: Path, folder: Path, count: int) -> Path:
    """`count` images: links to those of `data`, each as often as every other to within one."""
    originals = sorted(data.rglob("*.JPEG"))
    for number in range(count):
        original = originals[number % len(originals)]
        link = folder / original.parent.name / f"{original.stem}-{number // len(originals)}.JPEG"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(original)
    return folder


def watch(*command: str | Path, cwd: Path) -> Watched:
    start = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "rtbench", *map(str, command)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks: dict[str, float] = {}
    parent_s = 0.0

    def sample() -> None:
        nonlocal parent_s
        while process.poll() is None:
            try:
                parent_s = sum(process.cpu_times()[:2])
                for each in [process, *process.children()]:
                    name = "parent" if each is process else each.cmdline()[-1]
                    peaks[name] = max(peaks.get(name, 0.0), each.memory_info().rss / 2**20)
            except (psutil.NoSuchProcess, IndexError):
                pass
            time.sleep(0.5)  # looking takes a core that is being measured

    thread = threading.Thread(target=sample)
    thread.start()
    _, stderr = process.communicate()
    thread.join()
    if process.returncode:
        raise SystemExit(f"rtbench {' '.join(map(str, command))} failed: {stderr}")
    seconds = time.perf_counter() - start
    return Watched(seconds, peaks, parent_s / seconds)


def torchvision_pass(folder: Path) -> float:
    """Images a second of ImageFolder and DataLoader with a worker a core, the seed's transform."""
    transform = transforms.Compose(
        [
            transforms.Resize(RESNET.resize),
            transforms.CenterCrop(RESNET.input_size),
            transforms.ToTensor(),
            transforms.Normalize(RESNET.mean, RESNET.std),
        ]
    )
    start = time.perf_counter()
    loader = torch.utils.data.DataLoader(ImageFolder(str(folder), transform), batch_size=32, num_workers=CORES)
    count = sum(len(labels) for _, labels in loader)
    return count / (time.perf_counter() - start)


def first_pass(folder: Path, cache: Path, recipe: Preprocessing = RESNET) -> float:
    start = time.perf_counter()
    cached = cache_images(read_labelled(folder, 1000), recipe, cache, CORES, lambda *_: None)
    return cached.count / (time.perf_counter() - start)


def cached_pass(folder: Path, cache: Path) -> float:
    """Images a second that one process reads from the cache and normalises."""
    cached = cache_images(read_labelled(folder, 1000), RESNET, cache, CORES, lambda *_: None)
    crops = Crops(cached.path)
    start = time.perf_counter()
    for first in range(0, cached.count, 8):
        normalise(crops.take(range(first, min(first + 8, cached.count))), RESNET)
    return cached.count / (time.perf_counter() - start)


def decoding(folder: Path, scratch: Path, report: Report) -> float:
    """The first pass of ours and torchvision's in turn, then the cached pass; our images a second."""
    for path in folder.rglob("*.JPEG"):
        path.read_bytes()  # from the disk once, so that neither pays for it
    first_pass(folder, scratch / "cache")  # and memory from the host of a virtual machine, for the same reason
    ours, theirs, cached = [], [], []
    for _ in range(DECODINGS):
        shutil.rmtree(scratch / "cache")
        theirs.append(torchvision_pass(folder))
        ours.append(first_pass(folder, scratch / "cache"))
        cached.append(cached_pass(folder, scratch / "cache"))
    first, loader, again = (statistics.median(each) for each in (ours, theirs, cached))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    report.add("torchvision ImageFolder + DataLoader, a worker a core", f"{loader:.0f} images/s", "", None)
    report.add(
        "first pass, decoded into the cache, images/s and times torchvision's",
        f"{first:.0f}, {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})",
        "at least 1.4x",
        statistics.median(ratios) >= 1.4,
    )
    ratio = again / loader
    report.add(
        "cached pass, read and normalised by one process", f"{again:.0f}, {ratio:.1f}x", "at least 6x", ratio >= 6
    )
    return first


def pure_inference(run: Path, cwd: Path, count: int) -> dict[str, float]:
    """Seconds an image of every row of a run, over `count` images each."""
    seconds = {}
    for row in read_run(cwd / run).rows:
        alone = PureInference(run, row.id, cwd)
        seconds[row.id] = alone.seconds(count)
        alone.close()
    return seconds


def four_rows(folder: Path, data: Path, scratch: Path, report: Report) -> None:
    common = ("--runs", "1", "--warmup", "0", "--calibration", data, "--runtimes", "torch,ort")
    watch("compare", MODEL, "--data", data, "--limit", "20", *common, "--out", "small", cwd=scratch)  # exports
    count = sum(1 for _ in folder.rglob("*.JPEG"))
    recipe = read_run(scratch / "small").models[0].preprocessing
    alone = {row: PureInference(scratch / "small", row, scratch) for row in ROWS}
    decodings = [count / first_pass(folder, scratch / "cache-before", recipe)]
    command = ("compare", MODEL, "--data", folder, *common, "--out", "four", "--cache-dir", scratch / "four-cache")
    taken = interrupted(scratch / "four" / "predictions", alone, command, scratch)
    decodings.append(count / first_pass(folder, scratch / "cache-after", recipe))
    for each in alone.values():
        each.close()
    pure = {row: statistics.fmean(slices) for row, slices in taken.slices.items()}
    parts = statistics.fmean(decodings) + count * sum(pure.values())
    ratio = taken.seconds / parts
    said = ", ".join(f"{row} {1000 * pure[row]:.1f} ({len(taken.slices[row])})" for row in ROWS)
    report.add(
        "pure inference, ms an image (slices of a second within the comparison's pass of that row)", said, "", None
    )
    report.add(
        f"comparing 4 rows on {count} images, over one decoding and four pure inferences",
        f"{taken.seconds:.0f} s over {parts:.0f} s, {ratio:.2f}x",
        "at most 1.15x",
        ratio <= 1.15,
    )


def plain_pytorch(data: Path) -> Iterator[tuple[str, int, list[int]]]:
    """Name, label and five classes of each image: PIL, torchvision, the published network, one by one."""
    network = build_network(1000).eval()
    network.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    transform = transforms.Compose(
        [
            transforms.Resize(PREPROCESSING.resize, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(PREPROCESSING.input_size),
            transforms.ToTensor(),
            transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
        ]
    )
    wnids = (data.parent / "wnids.txt").read_text().split()
    for path in sorted(data.rglob("*.JPEG")):
        with Image.open(path) as image, torch.inference_mode():
            logits = network(transform(image.convert("RGB"))[None])[0]
        yield path.stem, wnids.index(path.parent.name), logits.topk(5).indices.tolist()


def agreement(data: Path, scratch: Path, report: Report) -> None:
    with (scratch / "four" / "predictions" / "torch-fp32.csv").open(newline="") as file:
        ours = {
            Path(line["file"]).stem.removesuffix("-0"): (
                int(line["label"]),
                [int(line[f"top{rank}"]) for rank in range(1, 6)],
            )
            for line in csv.DictReader(file)
            if line["file"].endswith("-0.JPEG")
        }
    theirs = {name: (label, best) for name, label, best in plain_pytorch(data)}
    assert ours.keys() == theirs.keys()
    first = sum(ours[name][1][0] == theirs[name][1][0] and ours[name][0] == theirs[name][0] for name in ours)
    five = sum(ours[name] == theirs[name] for name in ours)
    right = sum(label == best[0] for label, best in theirs.values())
    among = sum(label in best for label, best in theirs.values())
    count = len(theirs)
    report.add(
        f"torch/fp32 and a plain PyTorch script, image by image (which has {right} and {among} right of {count})",
        f"same label and top-1 on {first}, same five classes in order on {five}",
        f"{count} and {count}",
        first == five == count,
    )


def scaling(data: Path, folders: dict[int, Path], scratch: Path, report: Report) -> None:
    taken = {}
    for count, folder in folders.items():
        common = ("--runs", "1", "--warmup", "0", "--calibration", data, "--runtimes", "ort", "--precisions", "int8")
        out, cache = scratch / f"scale-{count}", scratch / f"cache-{count}"
        taken[count] = watch(
            "compare", MODEL, "--data", folder, *common, "--out", out, "--cache-dir", cache, cwd=scratch
        )
        measured = read_run(out).rows[0].accuracy
        assert measured and measured.images == count
    few, many = taken.values()
    growth = max(folders) / min(folders)
    for name in many.peaks_mib:
        small, large = few.peaks_mib.get(name, 0.0), many.peaks_mib[name]
        report.add(
            f"peak memory of {name}, {min(folders)} to {max(folders)} images",
            f"{small:.0f} to {large:.0f} MiB",
            "under 1500 MiB, flat",
            large < 1500 and large < 1.2 * small + 32,
        )
    ratio = many.seconds / few.seconds
    report.add(
        f"time of a comparison of ort/int8, {min(folders)} to {max(folders)} images, decoding included",
        f"{few.seconds:.0f} to {many.seconds:.0f} s, {ratio:.1f}x",
        f"linear: at most {growth:g}x",
        ratio <= 1.05 * growth,
    )
    report.add("the parent meanwhile", f"{many.parent_cores:.1%} of a core", "idle", many.parent_cores < 0.1)


def full_validation(data: Path, scratch: Path, first_rate: float, report: Report) -> None:
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), scratch / "resnet18.pt")
    common = ("--runs", "1", "--warmup", "0", "--calibration", data, "--runtimes", "torch,ort")
    watch("compare", "resnet18.pt", "--data", data, "--limit", "20", *common, "--out", "resnet18", cwd=scratch)
    seconds = pure_inference(scratch / "resnet18", scratch, 400)
    minutes = ", ".join(f"{row} {VALIDATION * each / 60:.0f}" for row, each in seconds.items())
    report.add("ResNet18 on 50,000 images, minutes a row, from 400 images each", minutes, "", None)
    report.add("and once for all rows, decoding, minutes", f"{VALIDATION / first_rate / 60:.1f}", "", None)


def measure(data: Path, scale: float) -> None:
    report = Report()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        folders = {
            count: repeat(data, scratch / f"images-{count}", count)
            for count in (round(scale * FEW), round(scale * MANY))
        }
        few = folders[round(scale * FEW)]
        first_rate = decoding(few, scratch, report)
        four_rows(few, data, scratch, report)
        agreement(data, scratch, report)
        scaling(data, folders, scratch, report)
        full_validation(data, scratch, first_rate, report)
    env = read_environment(CORES)
    packages = ", ".join(f"{name} {version}" for name, version in env.packages.items())
    print(f"# Accuracy at full scale, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores, {env.memory_mib // 1024} GiB, no GPU; Python {env.python}; {packages}.")
    print(f"Load of the machine when it began: {load:.1f}. Share of the 5,000 and 50,000 images: {scale:g}.\n")
    print("| measured | figure | promised | holds |\n|---|---|---|---|")
    print("\n".join(report.lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the 500 labelled images of imagenet-sample")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the 5,000 and 50,000 images")
    options = parser.parse_args()
    measure(options.data.resolve(), options.scale)


if __name__ == "__main__":
    main()
