#!/usr/bin/env bash
# Makes targets of the Makefile side by side: side-by-side.sh TARGET OTHER...
# The output of the first one is shown as it comes, that of each other one when it has
# ended. The others yield to the first by NICE (0). Fails when one of them does; a signal
# that ends this script ends them.
set -uo pipefail
set -m # each has a process group, which a signal reaches as a whole
dir=$(mktemp -d)
jobs=()
end() {
  trap '' INT TERM
  for p in "${jobs[@]}"; do kill -s INT -- "-$p" 2>/dev/null; done
  wait
  rm -rf "$dir"
  exit 130
}
trap end INT TERM
for target in "${@:2}"; do
  nice -n "${NICE:-0}" "${MAKE:-make}" --no-print-directory "$target" >"$dir/$target" 2>&1 &
  jobs+=($!)
done
env -u NICE "${MAKE:-make}" --no-print-directory "$1" &
jobs+=($!)
status=0
wait "${jobs[-1]}" || status=1
for i in "${!jobs[@]}"; do
  [ "$i" -lt $((${#jobs[@]} - 1)) ] || break
  wait "${jobs[$i]}" || status=1
  cat "$dir/${@:$((i + 2)):1}"
done
rm -rf "$dir"
exit $status
