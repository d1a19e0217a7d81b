"""What goes with the verdicts on a GPU run: TensorRT's own tool, what others have published, one file to send back."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtbench.records.run import Row, Run
from rtbench.runs.result import RESULT
from rtbench.runs.samples import CONDITIONS, SAMPLES

TRTEXEC_S = 300.0
COMPUTE = re.compile(r"GPU Compute Time:.*?mean = ([\d.]+) ms")
PATH = re.compile(r"(?:(?<![\w/.:])|(?<=file://))/(?:[^\s/\"',:;()<>]+/)+")
"""The folders of an absolute path."""
PUBLISHED = {
    ("resnet50", "trt/fp32"): (2.97, "MMDeploy"),
    ("resnet50", "trt/fp16"): (1.26, "MMDeploy"),
    ("resnet50", "trt/int8"): (1.0, "MLPerf Inference v0.7, single stream; MMDeploy has 1.21"),
    ("mobilenet_v2", "trt/fp16"): (0.59, "Paddle-TensorRT"),
    ("resnet18", "trt/fp16"): (1.0, "several reports, about"),
}
"""Milliseconds of one image on a T4, by architecture and row; docs/gpu.md has the sources."""


def run_trtexec(run: Run, folder: Path) -> dict[str, float]:
    """Mean compute time of each engine by `trtexec`, in milliseconds by row; none where it is not installed.

    What it says is kept in `folder`.
    """
    tool, found = shutil.which("trtexec"), {}
    for row in _engines(run.rows) if tool else ():
        assert tool and row.artifact
        graph = row.artifact.build and row.artifact.build.recipe.cuda_graph
        command = [tool, f"--loadEngine={row.artifact.path}", *_shapes(row), *(["--useCudaGraph"] if graph else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TRTEXEC_S, check=False)
        except subprocess.TimeoutExpired:
            continue
        (folder / f"trtexec-{row.id.replace('/', '-')}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        means = COMPUTE.search(done.stdout)
        if means:
            found[row.id] = float(means[1])
    return found


def _shapes(row: Row) -> list[str]:
    """The input of one image, as the row was timed, where the engine takes several."""
    assert row.artifact and row.artifact.build and row.timed
    if row.artifact.build.recipe.batch.max == 1:
        return []
    return ["--shapes=" + "input:" + "x".join(re.findall(r"\d+", row.timed.split(")")[0]))]


def _engines(rows: Sequence[Row]) -> Iterator[Row]:
    return (row for row in rows if row.status == "ok" and row.artifact and row.artifact.build)


def expectations(run: Run) -> list[str]:
    """Measured next to published, for the rows that somebody has published a figure of."""
    lines = []
    for row in run.rows:
        known = PUBLISHED.get((run.model.arch or "", row.id))
        if known and row.latency:
            measured = row.latency.device_mean_ms or row.latency.mean_ms
            lines.append(f"{row.id}: {measured:.3f} ms measured, {known[0]:.2f} ms published for a T4 ({known[1]})")
    return lines


def pack(run: Run, folder: Path, verdicts: Sequence[str]) -> Path:
    """One file with everything to send back, next to the run directory: folders of paths are left out of it."""
    target = folder.with_name(folder.name + ".zip")
    kept = [folder / name for name in (RESULT, SAMPLES, CONDITIONS, "results.csv", "report.md")]
    kept += [*folder.glob("logs/*"), *folder.glob("trtexec-*.txt"), *folder.glob(f"again/{RESULT}")]
    beside = [Path(row.artifact.path) for row in run.rows if row.artifact]
    kept += [path.with_suffix(suffix) for path in beside for suffix in (".json", ".log", ".layers.json")]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("verdicts.txt", without_folders("\n".join(verdicts)))
        for path in dict.fromkeys(path for path in kept if path.is_file()):
            name = path.relative_to(folder) if path.is_relative_to(folder) else Path("artifacts", path.name)
            bundle.writestr(str(name), without_folders(path.read_text(encoding="utf-8", errors="replace")))
    return target


def without_folders(text: str) -> str:
    """The text with every absolute path cut to its last part."""
    return PATH.sub("", text)
