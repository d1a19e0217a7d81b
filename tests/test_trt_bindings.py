"""The real Python bindings of TensorRT 10 and 11, over empty libraries: names, signatures, the logger, refusals."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLACE = Path(sys.prefix) / "tensorrt"
ROOT = Path(__file__).resolve().parents[1]
USERS = [ROOT / "rtbench" / "export" / "build.py", ROOT / "rtbench" / "runtimes" / "engine.py"]
RTX_ALONE = {"ComputeCapability"}
CLASSES = {
    "Builder": ["create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network"],
    "IBuilderConfig": [
        *(
            "builder_optimization_level",
            "set_memory_pool_limit",
            "progress_monitor",
            "profiling_verbosity",
            "clear_flag",
        ),
        *("add_optimization_profile", "create_timing_cache", "set_timing_cache"),
    ],
    "INetworkDefinition": ["get_input"],
    "ITensor": ["name", "shape"],
    "IOptimizationProfile": ["set_shape"],
    "ITimingCache": ["serialize"],
    "OnnxParser": ["parse", "parse_from_file", "get_error", "num_errors"],
    "ParserError": ["node_name", "node_operator", "desc"],
    "Runtime": ["engine_host_code_allowed", "deserialize_cuda_engine"],
    "ICudaEngine": [
        *(
            "create_execution_context",
            "create_engine_inspector",
            "num_io_tensors",
            "get_tensor_name",
            "get_tensor_mode",
        ),
        *("get_tensor_dtype", "get_tensor_profile_shape"),
    ],
    "IExecutionContext": ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"],
    "EngineInspector": ["execution_context", "get_engine_information"],
    "ILogger": ["log"],
    "IProgressMonitor": ["phase_start", "phase_finish", "step_complete"],
}
"""Every member that is used, by its class; mypy checks the same against types made of the bindings."""
pytestmark = pytest.mark.skipif(not PLACE.is_dir(), reason=f"no {PLACE}; tests/tensorrt_bindings.sh makes it")


@pytest.fixture(scope="module", params=["10", "11"])
def bindings(request):
    """Run code beside one version; gives what it printed as JSON in its last line."""
    folder = PLACE / request.param
    paths = os.pathsep.join([str(folder), str(ROOT), *sys.path])
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder / "lib"), "PYTHONPATH": paths}

    def run(code: str) -> object:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def names_used() -> set[str]:
    """`Runtime`, `ILogger.ERROR` and so on: whatever follows `trt.` in the modules that call TensorRT."""
    found = set()
    for path in USERS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                name = ast.unparse(node)
                if name.startswith("trt.") and name.replace(".", "").replace("_", "").isalnum():
                    found.add(name.removeprefix("trt."))
    return {name for name in found if not name.startswith("__")}


def test_every_name_is_there(bindings):
    names = sorted(names_used() - RTX_ALONE)
    assert {"Runtime", "ProfilingVerbosity.DETAILED", "BuilderFlag.TF32", "LayerInformationFormat.JSON"} <= set(names)
    code = f"""
import json
from functools import reduce
import tensorrt as trt
def there(name):
    try: reduce(getattr, name.split("."), trt)
    except AttributeError: return False
    return True
print(json.dumps([name for name in {names!r} if not there(name)]))
"""
    assert bindings(code) == []


def test_every_member_is_there_and_what_is_set_can_be(bindings):
    settable = ["builder_optimization_level", "progress_monitor", "profiling_verbosity", "engine_host_code_allowed"]
    code = f"""
import json
import tensorrt as trt
members = [(kind, name) for kind, names in {CLASSES!r}.items() for name in names]
lacking = [f"{{kind}}.{{name}}" for kind, name in members if not hasattr(getattr(trt, kind), name)]
settable = {[*settable, "execution_context"]!r}
fixed = [name for kind, name in members if name in settable and getattr(trt, kind).__dict__[name].fset is None]
print(json.dumps([lacking, fixed]))
"""
    assert bindings(code) == [[], []]


def test_nothing_is_listed_that_the_code_does_not_use():
    known = {name for names in CLASSES.values() for name in names}
    attributes = {
        node.attr
        for path in USERS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Load)
    }
    assert known <= attributes | {"log", "phase_start", "phase_finish", "step_complete"}


def test_networks_are_strongly_typed(bindings):
    code = """
import json
from rtbench.export import tensorrt_library
trt = tensorrt_library.use("tensorrt")
from rtbench.export.build import _strongly_typed
print(json.dumps(_strongly_typed() == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)))
"""
    assert bindings(code) is True


REFUSED = """
import io, json
from pathlib import Path
from rtbench import nvidia
from rtbench.errors import RuntimeUnavailable
from rtbench.export import tensorrt_library
trt = tensorrt_library.use("tensorrt")
from rtbench.export.build import Log, build_plan, start
from rtbench.export.recipes import load_recipe
nvidia.require_cuda = lambda built_for, who: None  # the driver is new enough
said = []
for each in (lambda log: build_plan(Path("none.onnx"), load_recipe("t4-fp16"), None, log, print),
             lambda log: start(trt.Runtime, log)):
    log = Log(io.StringIO())
    try:
        each(log)
    except RuntimeUnavailable as error:
        said.append([error.message, log.errors])
print(json.dumps([trt.__version__, said]))
"""


def test_a_library_that_does_not_start_is_unavailable_in_its_own_words(bindings):
    """The factories give none, which the bindings turn into a TypeError; our logger was told why by native code."""
    version, said = bindings(REFUSED)
    words = "CUDA initialization failure with error: 35"
    assert said == [[f"tensorrt {version} does not start: {words}", [words]]] * 2


def test_beside_an_older_driver_it_is_the_driver_that_is_named(bindings):
    code = REFUSED.replace(
        "nvidia.require_cuda = lambda built_for, who: None", "nvidia._asked = lambda _: OLD"
    ).replace("said = []", 'said = []\nOLD = nvidia.Driver(cuda="12.2", problem="error 803")')
    version, said = bindings(code)
    expected = f"the NVIDIA driver supports CUDA 12.2, and tensorrt {version} needs 13"
    assert [message for message, _ in said] == [expected] * 2


def test_the_progress_monitor_reports_steps(bindings):
    code = """
import json
from rtbench.export import tensorrt_library
trt = tensorrt_library.use("tensorrt")
from rtbench.export.build import _Monitor
told = []
monitor = _Monitor(lambda *step: told.append(step))
assert isinstance(monitor, trt.IProgressMonitor)
monitor.phase_start("tactics", None, 3)
monitor.step_complete("tactics", 0)
monitor.phase_finish("tactics")
print(json.dumps(told))
"""
    assert bindings(code) == [["tactics", 0, 3], ["tactics", 1, 3]]
