#!/usr/bin/env bash
# test.sh PYTHON FLOOR: run Python's tests and print the events of `go test -json` (testevents.py). FLOOR is a folder with the
# oldest protobuf; what works with messages is tried with that too. The exit code is for runs that could not be made; failed
# tests stand in the events.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=$1 floor=$2 plugins=$PWD/tools/python
bad=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Seconds that a run may take: several times what it needs. pytest's own limit ends with a test's failure, and does not see what hangs after that.
limit=600

run() { # NAME PYTHONPATH FOLDER [PYTEST'S ARGUMENTS]
  local name=$1 path=$2 folder=$3 rc=0
  shift 3
  (cd "$folder" && PYTHONPATH=$path exec timeout -k 10 $limit "$python" -m pytest -q --continue-on-collection-errors -p testevents --events=3 --events-of="$name" "$@" 3>&1 >"$log" 2>&1) || rc=$?
  case $rc in
    0 | 1) ;;
    124 | 137) { echo "pytest hung in $folder, and was ended after $limit s:"; cat "$log"; } >&2; bad=1 ;;
    *) { echo "pytest ended with $rc in $folder:"; cat "$log"; } >&2; bad=1 ;;
  esac
}

run sdks/python/ "$plugins" sdks/python
run "protobuf floor: sdks/python/" "$plugins:$floor" sdks/python --ignore=tests/wire --ignore=tests/decide
run examples/shop/python/ "$plugins" examples/shop/python
exit $bad
