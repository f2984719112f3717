#!/bin/sh
# Keeps units running on a host of the laboratory: those that are enabled from its
# boot on, and those that systemctl asks for.
run=/run/units
mkdir -p "$run" /srv/host/log
for w in /etc/systemd/system/multi-user.target.wants/holdfast.service /etc/systemd/system/multi-user.target.wants/zsha.service; do # the machine has others
  [ -L "$w" ] && : >"$run/$(basename "$w").want"
done
keep() {
  while [ -e "$run/$1.want" ]; do
    file=/usr/lib/systemd/system/$1
    # shellcheck disable=SC2046 # the arguments of the unit are words
    setsid $(sed -n 's/^ExecStart=//p' "$file") >>"/srv/host/log/$1.log" 2>&1 &
    echo $! >"$run/$1.pid.new" && mv "$run/$1.pid.new" "$run/$1.pid"
    wait $!
    rm -f "$run/$1.pid"
    sleep 0.3
  done
  rm -f "$run/$1.kept"
}
while :; do
  for want in "$run"/*.want; do
    unit=$(basename "$want" .want)
    [ -e "$want" ] && [ ! -e "$run/$unit.kept" ] && : >"$run/$unit.kept" && keep "$unit" &
  done
  sleep 0.2
done
