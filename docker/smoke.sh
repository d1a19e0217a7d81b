#!/usr/bin/env bash
# Builds docker/Dockerfile on a plain Debian and runs the Makefile's own container targets, without a Docker engine and
# without a GPU, in a copy of this checkout. TensorRT is left out: it comes from NVIDIA's own package index.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in buildah debootstrap; do
    command -v $tool > /dev/null || { echo "docker/smoke.sh: needs $tool: apt-get install $tool" >&2 && exit 2; }
done
[[ $(id -u) == 0 ]] || { echo "docker/smoke.sh: must be run as root" >&2 && exit 2; }

work=$(mktemp --directory "${TMPDIR:-/var/tmp}/rtbench-smoke.XXXXXX")
clean_up() {
    buildah rm --all > /dev/null && buildah rmi --all --force > /dev/null
    rm --recursive --one-file-system "$work"
}
trap clean_up EXIT
mkdir "$work/tmp" "$work/checkout"
chmod 755 "$work"
export TMPDIR=$work/tmp CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/images"\n' "$work" "$work" > "$work/storage.conf"

git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory "$work/checkout"
mkdir "$work"/checkout/{runs,.cache} && mkdir --parents "$work/checkout/engines"
chown --recursive 12345:12345 "$work/checkout"  # a user that no image knows

echo "== A Debian in place of NVIDIA's image"
container=$(buildah from scratch)
debootstrap --variant=minbase --include=ca-certificates bookworm "$(buildah mount "$container")" > "$work/debootstrap.log"
buildah commit --quiet --rm "$container" smoke-base > /dev/null

# The build installs with pip's configuration of this machine: its files, and the files and folders that they name.
volumes=()
for file in $(python3 -m pip config debug | sed --quiet 's/^ *\(.*\), exists: True$/\1/p'); do
    for path in $file $(grep --only-matching --extended-regexp '(file:/)?/[^ ,=]+' "$file"); do
        [[ $path == file:* ]] && path=$(dirname "${path#file://}")  # an index keeps its packages beside it
        [[ -e $path ]] && volumes+=(--volume "$path:$path:ro")
    done
done

target() {
    echo "== make $1"
    time make --no-print-directory --directory "$work/checkout" "$@" \
        IMAGE=rtbench-smoke DOCKER=docker/buildah.sh DOCKER_USER=12345:12345
}
extras=$(sed --quiet 's/^DEVELOPING ?= //p' Makefile)
target docker-build ARGS="--build-arg BASE=localhost/smoke-base --build-arg EXTRAS=$extras ${volumes[*]}"
target docker-doctor
target docker-test ARGS='-q tests/test_container.py tests/test_worker.py'
target docker-compare RUNS=20

echo "== What is left on the host"
find "$work/checkout/runs" "$work/checkout/engines" -type f -printf '%u %g %9s %P\n'
[[ -z $(find "$work/checkout" ! -user 12345) ]] || { echo "docker/smoke.sh: not all of it is the user's" >&2 && exit 1; }
