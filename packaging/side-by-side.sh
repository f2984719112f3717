#!/usr/bin/env bash
# Makes targets of the Makefile side by side: side-by-side.sh TARGET OTHER...
# The output of the first one is shown as it comes, that of each other one when it has
# ended. The others yield to the first by NICE (0). Fails when one of them does; a signal
# that ends this script ends them.
set -uo pipefail
dir=$(mktemp -d)
jobs=()
end() {
  trap '' HUP INT TERM
  for p in "${jobs[@]}"; do kill -s INT -- "-$p" 2>/dev/null; done
  wait
  rm -rf "$dir"
  exit 130
}
trap end HUP INT TERM
# apart makes a target in a session of its own, which a signal reaches as a whole:
# apart NICE TARGET. Sessions get equal shares of the processors whatever the nice values
# of their processes are, where the kernel groups processes so; daemons that a test begins
# have sessions of their own, too. So the session gets the value as well.
apart() {
  exec env -u NICE --default-signal=INT,QUIT setsid nice -n "$1" sh -c '
    { echo "$1" >/proc/self/autogroup; } 2>/dev/null
    exec "${MAKE:-make}" --no-print-directory "$2"' sh "$1" "$2"
}
for target in "${@:2}"; do
  apart "${NICE:-0}" "$target" >"$dir/$target" 2>&1 &
  jobs+=($!)
done
apart 0 "$1" &
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
