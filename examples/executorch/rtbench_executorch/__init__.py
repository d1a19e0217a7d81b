"""ExecuTorch with XNNPACK: programs (`.pte`) in FP32 and INT8."""

from rtbench.export.known import Exporter
from rtbench.runtimes.known import Runtime

RUNTIME = Runtime(
    name="executorch",
    module="rtbench_executorch.session",
    formats=frozenset({"executorch"}),
    precisions=("fp32", "int8"),
    devices=("cpu",),
)
EXPORTER = Exporter(
    name="executorch",
    module="rtbench_executorch.export",
    suffix=".pte",
    precisions=("fp32", "int8"),
    source="torch",
    packages=("executorch", "torchao", "torch"),
)
