#!/usr/bin/env bash
# need.sh TOOL [LOWEST]: say what is missing in words, before a long build fails without them.
set -euo pipefail
tool=$1 lowest=${2:-}
fail() { echo "need.sh: $*" >&2; exit 1; }
command -v "$tool" >/dev/null || fail "'$tool' is not installed${lowest:+ (at least $lowest is needed)}"
[ -n "$lowest" ] || exit 0
case $tool in
  go) have=$(go env GOVERSION) have=${have#go} ;;
  node) have=$(node --version) have=${have#v} ;;
  python3) have=$(python3 -c 'import platform; print(platform.python_version())') ;;
  *) fail "no way known to ask '$tool' for its version" ;;
esac
[ "$(printf '%s\n%s\n' "$lowest" "$have" | sort -V | head -1)" = "$lowest" ] ||
  fail "$tool $have is installed, at least $lowest is needed"
