"""What rtbench finds by the entry point: light, since it is imported wherever runtimes are listed."""

from rtbench.runtimes.known import Runtime

RUNTIME = Runtime(
    name="reference",
    module="rtbench_reference.session",
    formats=frozenset({"onnx"}),
    precisions=("fp32",),
    devices=("cpu",),
)
