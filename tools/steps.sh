#!/usr/bin/env bash
# steps.sh STEP...: make each step, also after one has failed, then print the minutes of each and
# the count of tests. The exit code says whether all went well.
set -uo pipefail
out=build/report
rm -rf "$out" && mkdir -p "$out"

bad=0
{ echo "| step | minutes | result |"; echo "|---|---:|---|"; } >"$out/steps.md"
begin=$SECONDS
row() { # NAME SECONDS RESULT
  printf '| %s | %d.%02d | %s |\n' "$1" $(($2 / 60)) $(($2 % 60 * 100 / 60)) "$3" >>"$out/steps.md"
}
for step; do
  echo "==> make $step"
  start=$SECONDS
  if make "$step"; then result=ok; else result=FAILED bad=1; fi
  row "$step" $((SECONDS - start)) "$result"
done
row total $((SECONDS - begin)) "$([ $bad = 0 ] && echo ok || echo FAILED)"

echo
cat "$out/steps.md"
# Last, and alone on its line: CI systems read it.
[ ! -f "$out/tests.txt" ] || cat "$out/tests.txt"
exit $bad
