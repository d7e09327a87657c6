#!/bin/sh
# Installs PyTorch and torchvision: requirements/install-torch.sh default|cpu UV pip install [OPTION...]
# default: the registry's ordinary wheels, with hashes (on Linux they carry CUDA, and run without it, too)
# cpu:     the same versions from PyTorch's own index of CPU-only builds, which has hashes of its own
set -eu
here=$(dirname "$0")
build=$1
shift
case $build in
default) "$@" --require-hashes -r "$here/torch.txt" ;;
cpu) "$@" --torch-backend cpu $(sed -n 's/^\(torch\|torchvision\)==\([0-9.]*\).*/\1==\2/p' "$here/torch.txt") ;;
*)
    echo "TORCH is 'default' or 'cpu', not '$build'" >&2
    exit 2
    ;;
esac
