#!/usr/bin/env bash
# interop-peers.sh FOLDER [LANGUAGE...]: put the clients and servers of other languages that make interop runs into FOLDER, nothing
# anywhere else: of all languages, or of those that are named.
# Each is a program of that folder, NAME-peer. Each that cannot be had is said; the exit status tells whether all are there.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- python node
peers=$PWD/bridge/grpc/interop/peers
mkdir -p "$folder"
bad=0
missing() { echo "interop-peers: $*" >&2; bad=1; }

program() { # NAME COMMAND: a program that runs the command
  printf '#!/bin/sh\nexec %s "$@"\n' "$2" >"$folder/$1-peer" && chmod +x "$folder/$1-peer"
  "$folder/$1-peer" version >/dev/null || missing "$1-peer does not run"
}

# grpcio, and the Python SDK as it stands in this checkout.
python() {
  local pins=$peers/python/requirements.txt venv=$folder/python
  if ! cmp -s "$pins" "$venv/installed"; then
    tools/need.sh python3 3.11 || { missing "grpcio and the Python SDK need it"; return; }
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$pins" &&
      cp "$pins" "$venv/installed" || { missing "grpcio: it cannot be installed here ($pins)"; return; }
  fi
  program grpcio "'$venv/bin/python' '$peers/python/grpcio_peer.py'"
  program octomesh "env PYTHONPATH='$PWD/sdks/python/src' '$venv/bin/python' '$peers/python/octomesh_peer.py'"
}

# grpc-js. npm writes nothing beside the package's own files, so it works in a copy.
node() {
  local pins=$peers/node/package-lock.json copy=$folder/node
  if ! cmp -s "$pins" "$copy/installed"; then
    tools/need.sh node 20 || { missing "grpc-js needs it"; return; }
    rm -rf "$copy" && mkdir "$copy" && cp "$peers/node/"{package.json,package-lock.json,.npmrc} "$copy" &&
      (cd "$copy" && npm install --no-save --ignore-scripts --loglevel=error >/dev/null) &&
      cp "$pins" "$copy/installed" || { missing "grpc-js: it cannot be installed here ($pins)"; return; }
  fi
  cp "$peers/node/peer.js" "$copy" && program grpc-js "node '$copy/peer.js'"
}

for language; do "$language"; done
exit $bad
