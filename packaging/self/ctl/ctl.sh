#!/bin/sh
# The agent of this host, for an upgrade of Holdfast by Holdfast.
#   ctl.sh ready            it runs from where the new program goes, its service
#                           manager restarts it alone, the new one takes its settings
#   ctl.sh restart          it is ended, and started again by its service manager
#   ctl.sh runs WANT NEW    it answers and is the program that is installed: NEW when
#                           WANT is NEW, on the way back any other
set -eu

exe=${HOLDFAST_EXE:-/opt/holdfast/bin/holdfast}
unit=holdfast.service
# Seconds. The module's timeout is 2 minutes: what is wrong is told before.
within=${HOLDFAST_WITHIN:-80} pause=${HOLDFAST_PAUSE:-1} answer=${HOLDFAST_ANSWER:-10}

fail() {
	echo "$*" >&2
	exit 1
}

# Seconds since this host was started: the wall clock may jump.
now() { cut -d. -f1 /proc/uptime; }

# The arguments of a process, one on each line.
args() { { tr '\0' '\n' <"/proc/$1/cmdline"; } 2>/dev/null || true; }

# The agents that run on this host, by their process ids. They are told by what they
# were started as: the program itself may have been replaced since.
agents() {
	for p in $(grep -lszxF -- "$exe" /proc/[0-9]*/cmdline); do
		p=${p#/proc/} p=${p%/cmdline}
		case $(args "$p" | tr '\n' ' ') in
		*' --check '*) ;;
		"$exe agent "*) echo "$p" ;;
		esac
	done
}

# Whether systemd is the service manager. Others start an agent again that has ended.
managed() { systemctl is-active --quiet "$unit" 2>/dev/null; }

# The settings file of an agent.
settings() {
	file=$(args "$1" | sed -n -e 's/^--config=//p' -e '/^--config$/{n;p;}' | head -n 1)
	echo "${file:-/etc/holdfast/agent.json}"
}

# The flag of an agent that was told to do without TLS.
insecure() { args "$1" | grep -xE -- '--insecure(=true)?' || true; }

# The run directory of an agent with a settings file: JSON or YAML.
run_dir() {
	dir=$(sed -n -e '/^[[:space:]]*#/d' -e "s/^\(.*[^A-Za-z_]\)\{0,1\}run_dir[\"']\{0,1\}[[:space:]]*:[[:space:]]*//p" "$1" 2>/dev/null | head -n 1)
	case $dir in
	\"*) dir=${dir#?} dir=${dir%%\"*} ;;
	\'*) dir=${dir#?} dir=${dir%%\'*} ;;
	*) dir=${dir%%[[:space:],\}]*} ;;
	esac
	echo "${dir:-/run/holdfast}"
}

ready() {
	pid=$(agents | head -n 1)
	[ -n "$pid" ] || fail "no agent runs as $exe agent: only one that does is replaced with what is there"
	if managed; then
		[ "$(systemctl show -p MainPID --value "$unit")" = "$pid" ] || fail "the agent, process $pid, is not the one of $unit"
		mode=$(systemctl show -p KillMode --value "$unit")
		[ "$mode" = process ] || fail "$unit has KillMode=$mode, want process: a restart would end the store's member and the holder of the watchdog"
	fi
	bin/holdfast agent --check $(insecure "$pid") --config "$(settings "$pid")"
}

restart() {
	if managed; then
		systemctl --no-ask-password restart "$unit"
		echo "$unit is restarted"
		return
	fi
	old=$(agents)
	[ -n "$old" ] || fail "no agent runs as $exe agent"
	for p in $old; do
		kill "$p" && echo "agent $p is told to end"
	done
	end=$(($(now) + within))
	while :; do
		new=$(agents)
		for p in $old; do
			case " $(echo $new) " in *" $p "*) new= ;; esac
		done
		[ -z "$new" ] || return 0
		[ "$(now)" -lt "$end" ] || break
		sleep "$pause"
	done
	fail "the agent was ended ($(echo $old)), and nothing has started it again"
}

# A version out of what `holdfast version -o json` says: of "client", this program, or
# of "agent", the one that runs.
version() { printf %s "$said" | tr -d ' \n' | sed -n 's/.*"'"$1"'":{[^}]*"version":"\([^"]*\)".*/\1/p'; }

runs() {
	end=$(($(now) + within))
	while :; do
		pid=$(agents | head -n 1)
		said=$(timeout -k 1 "$answer" "$exe" version -o json --socket "$(run_dir "$(settings "$pid")")/holdfast.sock" || true)
		installed=$(version client) runs=$(version agent)
		forward=no new=no
		[ "$1" != "$2" ] || forward=yes
		[ "$installed" != "$2" ] || new=yes
		[ -z "$runs" ] || [ "$runs" != "$installed" ] || [ $forward != $new ] || return 0
		[ "$(now)" -lt "$end" ] || break
		sleep "$pause"
	done
	fail "the agent is ${runs:-away}, the installed program ${installed:-not to be run}, want $1"
}

case ${1-} in
ready | restart | runs) "$@" ;;
*) fail "want ready, restart, or runs WANT NEW" ;;
esac
