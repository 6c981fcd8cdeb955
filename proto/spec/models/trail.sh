#!/usr/bin/env bash
# trail.sh RUN: replay the counterexample that the last `make models` found for a run of matrix.txt,
# one line a step, without the steps that only choose a branch.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=${1:?which run of matrix.txt}
read -r model switches < <(awk -v run="$run" '$1 == run { $1 = $2 = $3 = ""; print }' "$here/matrix.txt")
cd "$here/../../../build/models/$run"
# The switches are words without spaces of their own.
# shellcheck disable=SC2086
spin $switches -t -p "$model" | grep 'proc ' | grep -vE 'else\]|goto|\[assert|\(1\)\]' | cut -c1-140
