"""The command that scores one file as it is, for whoever compresses networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtbench.cli.options import option, takes
from rtbench.cli.output import complain, progress_bar, say
from rtbench.models.tensorflow import is_tensorflow
from rtbench.options import ScoreOptions

RUNTIMES = {".onnx": "ort", ".engine": "trt", ".plan": "trt", ".fake": "fake", ".tflite": "litert"}
"""What runs a file that PyTorch does not."""


@takes(ScoreOptions)
def score(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A model file or folder, scored as it is; or a name (torchvision, timm)."),
    ],
    options: ScoreOptions,
    out: Annotated[
        Path | None, option("--out", help="The run directory.  [default: runs/TIME-NAME]", metavar="DIR")
    ] = None,
) -> None:
    """Print the size, latency and accuracy scores of one file, relative to the baseline.

    Example: rtbench score pruned.pt --data /data/imagenet/val
    """
    from rtbench import api
    from rtbench.report.cells import NOTHING, cells

    runtime = "tf" if is_tensorflow(file) else RUNTIMES.get(Path(file).suffix, "torch")
    place = out or api.default_run_path(file)
    said = vars(options) | ({"precisions": ("fp32",)} if runtime in ("torch", "tf") else {})
    with progress_bar() as progress:
        run = api.compare(file, out=place, runtimes=(runtime,), progress=progress, **said)
    row = run.rows[0]
    if row.status != "ok":
        complain(f"{row.id} {row.status}: {row.reason}")
        context.exit(1)
    shown = cells(row)
    for name in ("size score", "latency score", "accuracy score"):
        typer.echo(f"{name:<16}{shown[name]:>8}")
        if shown[name] == NOTHING:
            say(f"There is no {name}: {WHY[name]}.")
    if row.scores and not row.scores.on_baseline_hardware:
        say(f"* measured on other hardware than the baseline's. Everything is kept in {place}.")


WHY = {
    "size score": "its size is not known",
    "latency score": "it was not timed undisturbed",
    "accuracy score": "it needs --data with ImageNet's labels, and 1000 classes",
}
