#!/bin/bash
# Stands in for the hot-standby pair of the managers: which one is active is shared; that
# the services run is known for one boot only.
cas=/srv/shared/cas
running=$cas/running/$(hostname)
boot=$(cat /proc/sys/kernel/random/boot_id)
case $1 in
start) # cvm_resource_start.sh
	echo "$boot" >"$running" ;;
switch)
	hostname >$cas/active ;;
status)
	[ "$(cat "$running" 2>/dev/null)" = "$boot" ] || { echo "OFFLINE: [ $(hostname) ]"; exit 1; }
	echo "Online: [ $(ls $cas/running | tr '\n' ' ')]"
	[ "$(cat $cas/active)" = "$(hostname)" ] || exit 3 ;;
esac
