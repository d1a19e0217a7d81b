#!/bin/sh
# Put the real Python bindings of TensorRT 10 and 11 into .venv/tensorrt/10 and 11, for tests and mypy alone: 1.3 MB each from
# PyPI, over empty libraries that are compiled here, since NVIDIA's are gigabytes and elsewhere. `types` has type stubs made of them.
# usage: tests/tensorrt_bindings.sh .venv/bin/python
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
for version in 10.16.1.11 11.4.0.106; do
    major=${version%%.*}
    folder=$(dirname "$python")/../tensorrt/$major
    rm -rf "$folder"
    "$python" -m pip --disable-pip-version-check --quiet install --no-deps --target "$folder" "tensorrt-cu13-bindings==$version"
    mkdir -p "$folder/lib" "$folder/tensorrt" "$folder/types/tensorrt"
    for name in nvinfer nvinfer_plugin nvonnxparser; do
        ${CC:-cc} -shared -fPIC "-Wl,-soname,lib$name.so.$major" "-DTENSORRT=$major" \
            -o "$folder/lib/lib$name.so.$major" "$here/standin/tensorrt.c"
    done
    printf 'from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__ as __version__\n' >"$folder/tensorrt/__init__.py"
    LD_LIBRARY_PATH=$folder/lib PYTHONPATH=$folder "$python" -c 'from mypy.stubgen import main; main()' \
        --quiet --inspect-mode --module tensorrt_bindings.tensorrt --output "$folder/types"
    sed -i -E '/def add_scale_nd/ s/(channel_axis: typing.SupportsInt)\)/\1 = ...)/' "$folder/types/tensorrt_bindings/tensorrt.pyi"
    touch "$folder/types/tensorrt_bindings/__init__.pyi"
    printf '%s\n' 'from typing import Any' 'from tensorrt_bindings.tensorrt import *' '__version__: str' \
        'def nptype(trt_type: DataType) -> Any: ...' >"$folder/types/tensorrt/__init__.pyi"
done
