#!/bin/sh
# Carries out what the module agentd asks of its host: a small daemon below
# /srv/host/platform/agentd.
#   ctl.sh stop | start | install VERSION | running [VERSION] | commit VERSION
#   ctl.sh backup DIR | rollback DIR | done PHASE FROM TO
set -eu

here=/srv/host/platform/agentd

fail() {
	echo "$*" >&2
	exit 1
}

# A pid of an earlier boot may be somebody else's by now.
pid() {
	p=$(cat $here/pid 2>/dev/null) || return 1
	tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q "$here/agentd" || return 1
	echo "$p"
}

wait_for() { # TEXT COMMAND...
	what=$1
	shift
	n=0
	until "$@"; do
		n=$((n + 1))
		[ $n -lt 100 ] || fail "$what: not within 10 s"
		sleep 0.1
	done
}

gone() { ! pid >/dev/null; }

stop() {
	p=$(pid) || return 0
	kill "$p"
	wait_for "the daemon does not end" gone
}

# In a session of its own, and with none of the caller's outputs: it must outlive
# the step that starts it.
start() {
	gone || return 0
	setsid env -u HOLDFAST_STEP $here/agentd </dev/null >>$here/log 2>&1 &
	wait_for "the daemon does not start" pid
}

running() {
	pid >/dev/null || fail "agentd does not run"
	[ $# -eq 0 ] || [ "$(cat $here/version)" = "$1" ] || fail "agentd is $(cat $here/version), want $1"
}

# replace puts a program and its version in place.
replace() { # PROGRAM VERSION
	mkdir -p $here
	cp "$1" $here/agentd.new
	chmod 755 $here/agentd.new
	mv $here/agentd.new $here/agentd
	echo "$2" >$here/version
}

case $1 in
stop) stop ;;
start) start ;;
install) replace "$(dirname "$0")/agentd" "$2" ;;
running)
	shift
	running "$@"
	;;
commit) echo "$2" >$here/committed ;;
backup)
	mkdir -p "$2"
	cp $here/version "$2/version"
	cp -p $here/agentd "$2/agentd"
	;;
rollback) replace "$2/agentd" "$(cat "$2/version")" ;;
done)
	case $2 in
	stop) gone ;;
	start) running ;;
	install) [ "$(cat $here/version)" = "$4" ] ;;
	rollback) [ "$(cat $here/version)" = "$3" ] ;;
	*) fail "of $2 nothing is to be seen afterwards" ;;
	esac
	;;
*) fail "$1 is not known" ;;
esac
