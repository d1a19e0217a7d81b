"""INT8 artifacts on another CPU: the same files run natively and under qemu's Haswell, which has AVX2 and no VNNI.

    python benchmarks/isa.py --data ../shared/imagenet-sample/val      # half an hour; needs qemu-user (Debian)

Prints Markdown: how many images each file gets right on either CPU, and how far its outputs lie apart.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from rtbench.images import sample
from rtbench.images.cache import cache_images
from rtbench.images.datasets import read_labelled
from rtbench.images.preprocessing import normalise
from rtbench.measure.environment import available_cores, read_environment

NATIVE, EMULATED = "native", "Haswell"
QEMU = ["qemu-x86_64", "-cpu", "Haswell"]
VARIANTS = {
    "fp32": ("fp32", []),
    "int8, 7-bit weights (the default)": ("int8", []),
    "int8, 8-bit weights (`--full-range`)": ("int8", ["--full-range"]),
}
CHILD = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
np.save(sys.argv[3], np.concatenate([session.run(None, {name: each[None]})[0] for each in np.load(sys.argv[2])]))
"""


def outputs(cpu: str, artifact: Path, inputs: Path, folder: Path) -> np.ndarray:
    """What an artifact gives for the inputs, (N, classes), on the CPU of that name."""
    target = folder / f"{cpu}.npy"
    launcher = QEMU if cpu == EMULATED else []
    subprocess.run([*launcher, sys.executable, "-c", CHILD, artifact, inputs, target], check=True)
    return np.load(target)


def export(precision: str, options: list[str], data: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "rtbench", "export", sample.ARCH, "--precisions", precision, "--out", folder]
    subprocess.run([*command, "--calibration", data, "--calibration-images", "125", *options], check=True)
    return folder / f"onnx-{precision}.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled ImageNet photographs")
    parser.add_argument("--images", type=int, default=60)
    options = parser.parse_args()
    if shutil.which(QEMU[0]) is None:
        raise SystemExit(f"{QEMU[0]} is not installed; on Debian: apt-get install qemu-user")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = read_labelled(options.data, 1000).spread(options.images)
        recipe = sample.PREPROCESSING
        cached = cache_images(images, recipe, folder / "cache", available_cores(), lambda *_: None)
        inputs = folder / "inputs.npy"
        np.save(inputs, normalise(np.load(cached.path), recipe))
        labels = np.array([file.label for file in images.files])
        lines = []
        for number, (name, (precision, asked)) in enumerate(VARIANTS.items()):
            artifact = export(precision, asked, options.data, folder / str(number))
            native, emulated = (outputs(cpu, artifact, inputs, folder) for cpu in (NATIVE, EMULATED))
            right = [int((each.argmax(axis=1) == labels).sum()) for each in (native, emulated)]
            same = int((native.argmax(axis=1) == emulated.argmax(axis=1)).sum())
            spread = native - native.mean(axis=0)
            apart = np.sqrt(((emulated - native) ** 2).mean() / (spread**2).mean())
            lines.append(f"| {name} | {right[0]} | {right[1]} | {same} of {len(labels)} | {apart:.2g} |")
            print(lines[-1], file=sys.stderr, flush=True)
    env = read_environment(available_cores())
    version = subprocess.run([QEMU[0], "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    print(f"# INT8 on two CPUs, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(
        f"EfficientNet-Lite0, {len(labels)} ImageNet photographs, ONNX Runtime {env.packages.get('onnxruntime-gpu')}."
    )
    print(f"Native: {env.cpu_details}. Emulated: {version}, `-cpu Haswell`.\n")
    print("The last column is the RMS of the difference over the RMS spread of the native outputs over images.\n")
    print("| artifact | right natively | right on Haswell | same top-1 | outputs apart by |\n|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
