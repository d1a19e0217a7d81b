#!/bin/sh
# Put type stubs of TensorRT where mypy finds them: into .venv/stubs, so that nothing imports them by mistake.
# usage: tests/tensorrt_stubs.sh .venv/bin/python
# Installed without what they depend on (tensorrt itself), and mended: some of their lines are not Python.
set -eu
python=$1
stubs=$(dirname "$python")/../stubs
[ -e "$stubs/tensorrt_bindings" ] && exit 0
"$python" -m pip --disable-pip-version-check --quiet install --no-deps --target "$stubs" 'tensorrt-stubs==10.13.0.35.1'
sed -i -E 's/\bin: list/in_: list/; s/power: Weights = None, channel_axis: int\)/power: Weights = None, channel_axis: int = 0)/' \
    "$stubs/tensorrt_bindings/tensorrt.pyi"
