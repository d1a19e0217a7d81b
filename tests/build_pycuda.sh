#!/bin/sh
# Build pycuda for the Python named, on a machine that has no CUDA toolkit and no driver: with the headers
# that pip installs beside torch and a libcuda to link against that is never run.
# usage: tests/build_pycuda.sh .venv/bin/python
set -eu
python=$1
"$python" -c 'import importlib.metadata as m; m.version("pycuda")' 2>/dev/null && exit 0
here=$(cd "$(dirname "$0")" && pwd)
cuda=$("$python" -c 'import nvidia.cu13 as cuda; print(list(cuda.__path__)[0])') || {
    echo "pycuda not built: no CUDA headers beside torch" >&2
    exit 0
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pip="$python -m pip --disable-pip-version-check --quiet"
$pip install --no-deps --target "$scratch/headers" 'nvidia-cuda-profiler-api==13.0.*' 'nvidia-cuda-crt==13.0.*'
mkdir "$scratch/link"
echo 'CUDA_ENABLE_CURAND = False' >"$scratch/.aksetup-defaults.py"
${CC:-cc} -shared -Wl,-soname,libcuda.so.1 -o "$scratch/link/libcuda.so" -xc /dev/null
HOME="$scratch" LDFLAGS=-Wl,--no-as-needed CPATH="$scratch/headers/nvidia/cu13/include:$cuda/include" LIBRARY_PATH="$scratch/link" \
    $pip install --constraint "$here/../constraints.txt" --no-cache-dir pycuda
