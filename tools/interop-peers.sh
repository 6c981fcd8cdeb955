#!/usr/bin/env bash
# interop-peers.sh FOLDER [LANGUAGE...]: put the clients and servers of other languages that make interop runs into FOLDER, nothing
# anywhere else: of all languages, or of those that are named.
# Each is a program of that folder, NAME-peer. Each that cannot be had is said; the exit status tells whether all are there.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- python node rust java
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

# tonic, built by the crates of its Cargo.lock.
rust() {
  command -v cargo >/dev/null || { missing "tonic needs cargo"; return; }
  cargo build -q --release --locked --manifest-path "$peers/rust/Cargo.toml" --target-dir "$folder/rust" ||
    { missing "tonic: it cannot be built here ($peers/rust/Cargo.toml)"; return; }
  program tonic "'$folder/rust/release/tonic-peer'"
}

# grpc-java. Maven writes where its project lies, so it works in a copy.
java() {
  command -v mvn >/dev/null && command -v javac >/dev/null || { missing "grpc-java needs a JDK, 17 or newer, and mvn"; return; }
  local copy=$folder/java
  if ! cmp -s "$peers/java/pom.xml" "$copy/installed"; then
    rm -rf "$copy" && mkdir "$copy" && cp "$peers/java/pom.xml" "$copy" &&
      mvn -q -B -f "$copy/pom.xml" dependency:copy-dependencies -DoutputDirectory="$copy/libraries" &&
      cp "$peers/java/pom.xml" "$copy/installed" || { missing "grpc-java: it cannot be installed here ($peers/java/pom.xml)"; return; }
  fi
  javac -encoding UTF-8 -Xlint:all,-processing -Werror --release 17 -cp "$copy/libraries/*" -d "$copy/classes" "$peers"/java/src/main/java/peer/*.java ||
    { missing "grpc-java: its program does not compile"; return; }
  program grpc-java "java -Dstdout.encoding=UTF-8 -cp '$copy/classes:$copy/libraries/*' peer.Peer"
}

for language; do "$language"; done
exit $bad
