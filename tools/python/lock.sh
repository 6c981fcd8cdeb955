#!/usr/bin/env bash
# lock.sh: write each .txt beside its .in, with hashes for all platforms: requirements and floor of this folder, and what octobench's
# Python sides, the shop's service in Python and the interoperability programs need.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q uv==0.13.9
for list in requirements floor ../octobench/python/requirements ../../examples/shop/python/requirements \
  ../../bridge/grpc/interop/peers/python/requirements; do
  "$work/venv/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --no-emit-index-url "$list.in" -o "$list.txt"
done
