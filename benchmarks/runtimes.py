"""Every runtime on the CPU, on four networks with one and two threads: medians, and speed over PyTorch as it is.

    python benchmarks/runtimes.py > benchmarks/results/DATE-runtimes.md             # an hour, a quiet machine
    python benchmarks/runtimes.py --networks resnet18 --threads 1 --runs 50

Weights are random where they cannot be had offline: latency does not depend on them, accuracy is measured elsewhere.
Runs are kept in the folder `--keep`, and those that are there already are not measured again. TFLite needs
`rtbench tools install onnx2tf`. Prints Markdown.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from rtbench.records.run import Row, Run
from rtbench.runs.result import read_run

NETWORKS = ("resnet18", "efficientnet_lite0", "mobilenet_v2", "vit_b_16")
TRAINED = ("efficientnet_lite0",)
"""Those whose weights come with rtbench's sample."""
VARIANTS = ("torch+fp32", "torch+channels_last+fp32", "torch+compile+fp32", "torch+channels_last+compile+bf16")
RUNTIMES = (*VARIANTS, "ort", "openvino", "litert")


def measured(network: str, threads: int, given: argparse.Namespace, folder: Path) -> Run:
    out = folder / f"{network}-{threads}"
    if (out / "result.json").exists() and read_run(out).complete:
        return read_run(out)
    command = [sys.executable, "-m", "rtbench", "compare", network, "--runtimes", ",".join(RUNTIMES)]
    command += ["--precisions", "fp32,bf16,fp16,int8", "--threads", str(threads), "--runs", str(given.runs)]
    command += ["--processes", str(given.processes), "--calibration-images", "64", "--out", str(out)]
    command += ["--limit", "64", *([] if network in TRAINED else ["--random-weights"])]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    return read_run(out)


def cell(row: Row) -> str:
    if row.latency is None:
        return row.status
    mark = "" if row.latency.stable else " !"
    ratio = row.scores.speedup_vs_torch if row.scores else None
    return f"{row.latency.p50_ms:.3g}{mark}" + (f" ({ratio:.2f}x)" if ratio else "")


def table(runs: dict[tuple[str, int], Run]) -> list[str]:
    names = list(dict.fromkeys(row.id for run in runs.values() for row in run.rows))
    heads = [f"{network}, {threads} thread{'s' if threads > 1 else ''}" for network, threads in runs]
    lines = [f"| row | {' | '.join(heads)} |", "|---" + "|---:" * len(heads) + "|"]
    for name in names:
        rows = [next((row for row in run.rows if row.id == name), None) for run in runs.values()]
        lines.append(f"| {name} | {' | '.join(cell(row) if row else '-' for row in rows)} |")
    return lines


def reasons(runs: dict[tuple[str, int], Run]) -> list[str]:
    """Why rows have no latency, and why those marked are unstable, each kind once."""
    said: dict[str, list[str]] = {}
    for (network, threads), run in runs.items():
        for row in run.rows:
            why = row.reason if row.latency is None else "; ".join(row.latency.warnings)
            if why:
                why = why if row.latency is None else re.sub(r"\d[\d.]*", "…", why)
                said.setdefault(why, []).append(f"{row.id} ({network}, {threads})")
    return [f"- {', '.join(rows)}: {why}" for why, rows in said.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    runs: dict[tuple[str, int], Run] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for network in given.networks:
            for threads in given.threads:
                runs[network, threads] = measured(network, threads, given, folder)
                print(*table({(network, threads): runs[network, threads]}), sep="\n", file=sys.stderr, flush=True)
    environment = next(iter(runs.values())).environment
    tools = ("torch", "onnxruntime-gpu", "openvino", "ai-edge-litert")
    versions = ", ".join(f"{name} {environment.packages[name]}" for name in tools if name in environment.packages)
    print(f"# Runtimes on the CPU, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    timed = sorted({row.latency.runs for run in runs.values() for row in run.rows if row.latency})
    medians = f"Medians of {timed[0]} to {timed[-1]} undisturbed runs in {given.processes} processes a row"
    print(f"{environment.cpu}; {versions}. {medians}, batch 1,")
    print("in ms; in brackets how many times faster than torch/fp32, round by round; `!` marks an unstable row.\n")
    print(*table(runs), sep="\n")
    print(*["", *reasons(runs)], sep="\n")


if __name__ == "__main__":
    main()
