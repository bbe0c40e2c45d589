#!/usr/bin/env bash
# Builds the image as the Dockerfile says, without a container engine: buildah runs its steps in a
# chroot. The base is Debian 12 with its Python 3.11, made by debootstrap in place of the pinned one.
#
#   tests/deploy/build_image.sh TAG [BUILDAH_OPTION...]
#
# Needs root, buildah and debootstrap. Options go to `buildah bud`, such as --build-arg TORCH_INDEX=
set -euo pipefail
cd "$(dirname "$0")/../.."
tag=$1
shift
base=localhost/vlm-dlm-stand-in:bookworm

if ! buildah inspect --type image "$base" > /dev/null 2>&1; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" / > /dev/null
    buildah commit --quiet --rm "$container" "$base" > /dev/null
fi

buildah bud --isolation chroot --format docker --layers --build-arg "PYTHON=$base" \
    --file Dockerfile --tag "$tag" "$@" .
