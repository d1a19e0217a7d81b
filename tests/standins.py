"""Stand-ins for NVIDIA's driver and management library, compiled; and the variables that put them in place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

STANDIN = Path(__file__).parent / "standin"
COMPILE = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]


def build_driver(folder: Path) -> Path:
    """A folder with both libraries; of the driver's calls that pycuda knows, the others return an error."""
    headers = [f"-I{path}/include" for path in find_spec("nvidia.cu13").submodule_search_locations]
    library = folder / "libcuda.so.1"
    subprocess.run([*COMPILE, *headers, "-o", library, STANDIN / "cuda.c"], check=True)
    missing = {name for path in _pycuda() for name in symbols(path, "--undefined-only") if name.startswith("cu")}
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in sorted(missing - symbols(library))))
    names = ["-Wl,-soname,libcuda.so.1", "-o", library]
    subprocess.run([*COMPILE, *headers, *names, STANDIN / "cuda.c", rest], check=True)
    subprocess.run([*COMPILE, "-o", folder / "libnvidia-ml.so.1", STANDIN / "nvml.c"], check=True)
    return folder


def _pycuda() -> Iterator[Path]:
    found = find_spec("pycuda")
    return (
        (path for folder in found.submodule_search_locations for path in Path(folder).glob("_driver*.so"))
        if found
        else iter(())
    )


def symbols(path: Path, *options: str) -> set[str]:
    """The names that a library takes from others or gives to them."""
    listed = subprocess.run(["nm", "-D", *options, path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines()}


def in_place(driver: Path, **variables: str) -> dict[str, str]:
    """The environment of a process that finds the stand-ins instead of the libraries."""
    path = os.pathsep.join([str(STANDIN), *sys.path])
    return os.environ | {"LD_LIBRARY_PATH": str(driver), "PYTHONPATH": path} | variables
