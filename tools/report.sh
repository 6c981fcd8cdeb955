#!/usr/bin/env bash
# report.sh SEED: gather what the steps of `make full` left in build/report into docs/reports.
# It names the commit and the kind of machine, but no host and no path.
set -euo pipefail
seed=$1 in=build/report
commit=$(git rev-parse --short HEAD)
dirty=$(git status --porcelain --untracked-files=no | grep -q . && echo " with local changes" || true)
file=docs/reports/$(date -u +%Y-%m-%d)-$commit.md

section() { # TITLE FILE
  [ -f "$in/$2" ] || return 0
  printf '\n## %s\n\n' "$1"
  cat "$in/$2"
}
{
  echo "# Full run at $commit"
  echo
  echo "- commit: $(git rev-parse HEAD)$dirty"
  echo "- seed: $seed (order of tests, and OCTO_SEED for tests that draw)"
  echo "- machine: $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)," \
    "Linux $(uname -r | cut -d- -f1), $(go env GOVERSION) $(go env GOARCH)"
  section Steps steps.md
  section Tests tests.md
  section "Mutations that the conformance suite has seen" mutations.md
  section "Scenarios: calls that their ledgers have counted" scenarios.md
  section Fuzzing fuzz.md
  section Models models.md
  section Benchmark bench.md
} >"$file"
echo "wrote $file"
