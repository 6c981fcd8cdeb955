#!/usr/bin/env bash
# each-module.sh COMMAND...: run a command in every Go module that has packages, all of them even if
# one fails. The modules come from $MODULES, which the Makefile discovers.
set -uo pipefail
bad=0
for module in $MODULES; do
  # An empty module is no error; one that cannot be listed is.
  packages=$(go -C "$module" list ./... 2>/dev/null) || packages=broken
  [ -n "$packages" ] || continue
  (cd "$module" && "$@") || { echo "failed in module $module: $*" >&2; bad=1; }
done
exit $bad
