"""How long the answer takes: ResNet18, four rows, 500 images, phase by phase, and over the work that it needs.

    python benchmarks/answer.py --data ../shared/imagenet-sample/val > benchmarks/results/DATE-answer.md    # 10 minutes

That work is the timed runs, inference on the images and decoding them once. timm's way to the accuracy of one network
is measured next to it, in turns: its loader with two workers, batches of four. Prints Markdown.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import torch
import torchvision

from rtbench.measure.environment import available_cores, read_environment
from rtbench.runs.samples import read_samples

PHASE = re.compile(r"^(.*): (\d+) in ([\d.]+) s$", re.MULTILINE)
ALLOWED, TURNS = 1.5, 3
TIMM = """
import sys, timm, torch
from timm.data import ImageDataset, create_loader
network = timm.create_model("resnet18", checkpoint_path=sys.argv[1]).eval()
loader = create_loader(ImageDataset(sys.argv[2]), (3, 224, 224), 4, use_prefetcher=False, num_workers=2, crop_pct=0.875)
with torch.inference_mode():
    print(sum(len(network(images).topk(5).indices) for images, _ in loader))
"""


def compare(model: Path, data: Path, out: Path, *options: str) -> tuple[float, dict[str, float]]:
    """Seconds in all, and of each phase as `--verbose` tells them."""
    command = [sys.executable, "-m", "rtbench", "--verbose", "compare", str(model), "--data", str(data)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out), "--cache-dir", str(out.parent / f"{out.name}-cache"), *options],
        cwd=out.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    phases: dict[str, float] = {}
    for name, _, each in PHASE.findall(done.stderr):
        phases[name] = phases.get(name, 0) + float(each)
    return seconds, phases


def needed(out: Path, phases: dict[str, float]) -> dict[str, float]:
    timed = sum(float(block.sum()) for blocks in read_samples(out).values() for block in blocks) / 1000
    return {
        "timed runs": timed,
        "inference on the images": sum(each for name, each in phases.items() if name.startswith("accuracy of")),
        "decoding them": phases.get("decode images", 0.0),
    }


def table(title: str, seconds: float, phases: dict[str, float], work: dict[str, float]) -> None:
    ratio = seconds / sum(work.values())
    print(f"\n## {title}: {seconds:.1f} s, {ratio:.2f} times the work\n\n| phase | s |\n|---|---:|")
    for name, each in phases.items():
        print(f"| {name} | {each:.1f} |")
    print(f"| start, reports and the rest | {seconds - sum(phases.values()):.1f} |\n\n| work | s |\n|---|---:|")
    for name, each in work.items():
        print(f"| {name} | {each:.1f} |")
    print(f"| all | {sum(work.values()):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the 500 labelled images of imagenet-sample")
    data = parser.parse_args().data.resolve()
    env = read_environment(available_cores())
    print(f"# Time to the answer, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(
        f"{env.cpu}, {env.cores} cores; at most {ALLOWED:g} times the work was wanted, and one row no slower than timm."
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pt")
        for name, title in (("first", "Four rows, exported first"), ("second", "Four rows, artifacts there")):
            seconds, phases = compare(folder / "resnet18.pt", data, folder / name)
            table(title, seconds, phases, needed(folder / name, phases))
        one = ("--runtimes", "torch", "--precisions", "fp32", "--runs", "20", "--processes", "1")
        print("\n## One row, 20 runs, and timm, in turns\n")
        print("| | rtbench, s | of which latency | timm, no latency, s |\n|---|---:|---:|---:|")
        for turn in range(1, TURNS + 1):
            seconds, phases = compare(folder / "resnet18.pt", data, folder / f"one-{turn}", *one)
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", TIMM, folder / "resnet18.pt", data], check=True, stdout=subprocess.DEVNULL
            )
            print(
                f"| {turn} | {seconds:.1f} | {phases['latency']:.1f} | {time.perf_counter() - start:.1f} |", flush=True
            )
        table("The last of them", seconds, phases, needed(folder / f"one-{TURNS}", phases))


if __name__ == "__main__":
    main()
