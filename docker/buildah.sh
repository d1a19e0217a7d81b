#!/usr/bin/env bash
# Stands in for `docker` where no Docker engine runs: takes the two commands of the Makefile to buildah, which needs root.
# There is no GPU and no init process in what it runs.
set -euo pipefail
command=$1
shift

case $command in
build)
    buildah bud --isolation chroot "$@"
    ;;
run)
    options=()
    while [[ $1 == --* ]]; do
        case $1 in
        --user) options+=("$1" "$2") && shift 2 ;;
        --mount) options+=("$1" "$2$([[ $2 == *,readonly ]] || echo ,rw)") && shift 2 ;;  # buildah's default is read-only
        --gpus) shift 2 ;;
        --rm | --init | --interactive | --tty) shift ;;
        *) echo "docker/buildah.sh: docker run $1 is not known here" >&2 && exit 2 ;;
        esac
    done
    container=$(buildah from --pull-never "$1")
    shift
    trap 'buildah rm "$container" > /dev/null' EXIT
    buildah run --isolation chroot "${options[@]}" "$container" -- "$@"
    ;;
esac
