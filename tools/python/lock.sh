#!/usr/bin/env bash
# lock.sh: write requirements.txt and floor.txt, with hashes for all platforms, from the .in files beside this one.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q uv==0.13.9
for list in requirements floor; do
  "$work/venv/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --no-emit-index-url "$list.in" -o "$list.txt"
done
