#!/bin/sh
# Holdfast's own agent: its supervisor starts it again when it has ended, as a
# service manager does.
#   ctl.sh restart
#   ctl.sh runs VERSION    2.0.0, or on the way back any other
set -eu

exe=/opt/holdfast/bin/holdfast

# The version of the agent that answers, in JSON: "agent":{"version":"2.0.0",...}
agent() { "$exe" version -o json | tr -d ' \n' | sed -n 's/.*"agent":{[^}]*"version":"\([^"]*\)".*/\1/p'; }

case $1 in
restart)
	for p in /proc/[0-9]*; do
		if [ "$(tr '\0' ' ' <"$p/cmdline" 2>/dev/null)" = "$exe agent --config /srv/host/agent.json " ]; then
			kill "${p#/proc/}"
			echo "agent ${p#/proc/} is told to end"
		fi
	done
	;;
runs)
	for i in 1 2 3 4 5 6 7 8 9 10; do
		have=$(agent || true)
		case $2,$have in
		*,) ;;
		2.0.0,2.0.0) exit 0 ;;
		2.0.0,* | *,2.0.0) ;;
		*) exit 0 ;;
		esac
		sleep 1
	done
	echo "the agent is ${have:-away}, want $2" >&2
	exit 1
	;;
esac
