"""What can be proven on any NVIDIA GPU, without TensorRT: pycuda's layer, `torch:cuda`, NVML, clocks, errors.

    python benchmarks/any_gpu.py [--wheels FOLDER] [--output FILE]

Needs torch with CUDA, nvcc on PATH and what rtbench imports. pycuda is built from FOLDER where it is not installed:
the sources of pycuda and pytools, and what else of rtbench's packages the machine lacks (under 60 MB). Each step has a
process of its own, so that one that fails takes no other along; all of them take about eight minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STEP_S = 240.0
SIDE, RUNS = 1024, 200
KERNEL = """
__global__ void twice(const float *in, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = 2 * in[i] + 1;
}
__global__ void astray(float *out) { out[1ull << 40] = 1; }
"""
Line = tuple[str, bool, str]
"""What was looked at, whether it is as it should be, and what was seen."""


def machine() -> Iterator[Line]:
    from rtbench import nvidia

    driver = nvidia.find_driver()
    yield "driver", bool(driver.gpus), f"CUDA {driver.cuda}, {driver.problem or driver.gpus[0].driver}"
    for gpu in driver.gpus[:1]:
        size = f"{gpu.memory_mib} MiB, {gpu.bandwidth_gb_s:.0f} GB/s, {gpu.l2_bytes} bytes of L2"
        yield "GPU", gpu.uuid is not None, f"{gpu.name}, compute capability {gpu.compute_capability}, {size}"


def management() -> Iterator[Line]:
    """NVML, each field; and that CUDA's GPU is the one that it finds by UUID."""
    from rtbench import nvidia
    from rtbench.measure.gpu import GpuMonitor, _in_container

    gpu = nvidia.find_gpu()
    assert gpu
    reading = GpuMonitor(gpu).read(0)
    yield "NVML finds the GPU", reading is not None, str(reading)
    yield "process numbers", True, "of a container" if _in_container() else "of the machine"


def layer() -> Iterator[Line]:
    """Buffers, stream, events, a graph and the release, with a kernel of ours in TensorRT's place."""
    import pycuda.driver as cuda
    from pycuda.compiler import SourceModule

    from rtbench.runtimes.cuda import Device, Graph

    free = []
    for _ in range(3):
        device = Device()
        source, result = (device.buffer((SIDE, SIDE), np.float32) for _ in range(2))
        kernel = SourceModule(KERNEL).get_function("twice")
        count = np.int32(SIDE * SIDE)

        def enqueue(kernel=kernel, source=source, result=result, count=count, device=device) -> None:
            arguments = np.uintp(source.address), np.uintp(result.address), count
            kernel(*arguments, block=(256, 1, 1), grid=(SIDE * SIDE // 256, 1), stream=device.stream)

        def run(work: Callable[[], None], source=source, result=result, device=device) -> tuple[bool, float, float]:
            source.host[:] = np.random.default_rng(1).standard_normal((SIDE, SIDE), dtype=np.float32)
            start = time.perf_counter()
            source.to_device(device.stream)
            device.begin.record(device.stream)
            work()
            device.end.record(device.stream)
            result.to_host(device.stream)
            device.stream.synchronize()
            host_ms = 1e3 * (time.perf_counter() - start)
            return bool(np.allclose(result.host, 2 * source.host + 1)), device.device_ms(), host_ms

        plain = [run(enqueue) for _ in range(RUNS)]
        graph = Graph(device.stream, enqueue)
        launched = [run(graph.launch) for _ in range(RUNS)]
        graph.free()
        free.append(cuda.mem_get_info()[0])
        del kernel, enqueue, graph
        device.close()
    for name, runs in (("stream", plain), ("graph", launched)):
        right, on_device, on_host = zip(*runs, strict=True)
        fits = all(0 < inner <= outer for inner, outer in zip(on_device, on_host, strict=True))
        yield f"{name}: outputs", all(right), f"{sum(right)} of {len(runs)} right"
        yield f"{name}: device within host", fits, f"{np.median(on_device):.4f} of {np.median(on_host):.4f} ms"
    yield (
        "nothing is left behind",
        free[-1] >= free[0] - (1 << 20),
        f"{free[0] - free[-1]} bytes fewer free after three",
    )


def errors() -> Iterator[Line]:
    """The driver's own words, and what becomes of them."""
    import pycuda.driver as cuda
    from pycuda.compiler import SourceModule

    from rtbench.runtimes.cuda import Device, explain

    device = Device()
    try:
        cuda.mem_alloc(1 << 45)
    except cuda.Error as error:
        said = str(explain(error))
        yield "out of memory", "out of memory" in said, said
    kernel = SourceModule(KERNEL).get_function("astray")
    buffer = device.buffer((4,), np.float32)
    try:
        kernel(np.uintp(buffer.address), block=(1, 1, 1), grid=(1, 1), stream=device.stream)
        device.stream.synchronize()
    except cuda.Error as error:
        said = str(explain(error))
        yield "lost context", "lost" in said, said
    device.close()


def clocks() -> Iterator[Line]:
    """Ten runs after three, two seconds after the last work: with the lead and without."""
    import torch

    from rtbench import nvidia
    from rtbench.measure import latency
    from rtbench.measure.gpu import GpuMonitor

    gpu = nvidia.find_gpu()
    assert gpu
    monitor = GpuMonitor(gpu)
    matrix = torch.randn(SIDE, SIDE, device="cuda")

    class Work:
        def bind(self, batch: np.ndarray) -> None: ...
        def run(self) -> None:
            for _ in range(20):
                torch.mm(matrix, matrix)
            torch.cuda.synchronize()

        def fetch(self) -> np.ndarray:
            return np.zeros(1, dtype=np.float32)

        def device_ms(self) -> None: ...

    work, batch, clock = Work(), np.zeros(1, dtype=np.float32), latency.host_clock

    def block(lead_ns: int) -> tuple[float, str]:
        latency.lead(work, batch, lead_ns, clock)
        monitor.sample_lead()
        timed = latency.time_block(work, batch, 10, clock)
        reading = monitor.read(0)
        return (
            timed.durations_ns.mean() / 1e6,
            f"{reading.lead_mhz} and {reading.sm_mhz} MHz" if reading else "no clock",
        )

    steady, _ = block(1_000_000_000)
    for name, lead_ns in (("without the lead", 0), ("with the lead", latency.GPU_LEAD_NS)):
        blocks = []
        for _ in range(10):
            time.sleep(2)
            blocks.append(block(lead_ns))
        ratio = float(np.mean([mean for mean, _ in blocks])) / steady
        good = lead_ns == 0 or bool(abs(ratio - 1) < 0.03)
        yield f"idle 2 s, {name}", good, f"{ratio:.3f} times as long as under load; {blocks[-1][1]}"


def rows() -> Iterator[Line]:
    """`torch:cuda` and its variants, end to end."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for index in range(64):
            pixels = np.random.default_rng(index).integers(0, 256, (256, 256, 3), dtype=np.uint8)
            (folder / "images").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        command = [sys.executable, "-m", "rtbench", "compare", "resnet18", "--random-weights", "--runs", "200"]
        command += ["--runtimes", "torch:cuda,torch+channels_last+benchmark+fp16,torch+benchmark"]
        command += ["--data", str(folder / "images")]
        command += ["--precisions", "fp32,fp16", "--processes", "2", "--out", str(folder / "run")]
        where = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": where}, capture_output=True, text=True, check=False
        )
        if not (folder / "run" / "result.json").exists():
            yield "rtbench compare", False, done.stderr[-300:]
            return
        result = json.loads((folder / "run" / "result.json").read_text())
    for row in result["rows"]:
        figures, conditions = row["latency"], row["conditions"]
        if not figures:
            yield row["id"], False, f"{row['status']}: {row['reason']}"
            continue
        fits = 0 < figures["device_mean_ms"] <= figures["mean_ms"]
        words = f"{figures['device_mean_ms']:.3f} of {figures['mean_ms']:.3f} ms, {conditions and conditions['gpu']}"
        yield row["id"], row["status"] == "ok" and fits, words


STEPS: dict[str, Callable[[], Iterator[Line]]] = {
    each.__name__: each for each in (machine, management, layer, errors, clocks, rows)
}


def run_step(name: str) -> list[Line]:
    command = [sys.executable, __file__, "--step", name]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=STEP_S, check=False)
    except subprocess.TimeoutExpired:
        return [(name, False, f"took longer than {STEP_S:g} s")]
    lines: list[Line] = [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]
    said = [line for line in done.stderr.splitlines() if line.strip("- ")]
    failed = [(name, False, " / ".join(said[-12:]) or f"ended with {done.returncode}")] if done.returncode else []
    return lines + failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="packages to install from")
    parser.add_argument("--output", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.step:
        sys.path.insert(0, str(ROOT))
        for line in STEPS[said.step]():
            print(json.dumps(line), flush=True)
        return
    if said.wheels:
        source = ["--no-index", "--find-links", str(said.wheels)]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *source, "pycuda"], check=True)
    table = ["| step | what | as it should be | seen |", "|---|---|---|---|"]
    for name in STEPS:
        for what, good, seen in run_step(name):
            table.append(f"| {name} | {what} | {'yes' if good else '**no**'} | {seen} |")
            print(table[-1], flush=True)
    if said.output:
        said.output.write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
