#!/bin/bash
# Carries out what the module db asks of a node of the Galera cluster. The
# configuration itself is a package, which Holdfast installs.
#   db.sh check FROM                the cluster is whole, this node has FROM
#   db.sh stop MODE | start MODE    MODE: offline or rolling
#   db.sh post-check MODE FROM TO   the node serves, with what its package says
#   db.sh done PHASE                what a step of a phase brings about is there
set -euo pipefail

etc=/etc/mysql/mariadb.conf.d
conf=$etc/70-galera-conf.cnf
node=$etc/90-node.cnf
home=/srv/host/db

fail() {
	echo "$*" >&2
	exit 1
}

ask() { timeout 10 mariadb -N -B -e "$1"; }

status() { ask "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'wsrep_$1'"; }

# setting NAME FILE reads a setting of a file.
setting() { sed -n "s/^$1 *= *//p" "$2"; }

# nodes are the addresses of all nodes.
nodes() { setting wsrep_cluster_address $node | sed 's,^gcomm://,,' | tr , '\n'; }

# position is this node's number among them, from 1. When all stop, the first node
# is the last one to stop and the first to start: so it has all that was written,
# and knows that it may begin the cluster anew.
position() { nodes | grep -nxF "$(setting wsrep_node_address $node)" | cut -d : -f 1; }

first() { [ "$(position)" = 1 ]; }

runs() { pidof mariadbd >/dev/null; }

installed() { dpkg-query -W -f '${Version}' galera-conf; }

# until_true SECONDS TEXT COMMAND...
until_true() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "$what"
		sleep 0.2
	done
}

synced() { [ "$(status local_state_comment 2>/dev/null)" = Synced ]; }

serves() { synced && [ "$(status cluster_status)" = Primary ] && [ "$(status ready)" = ON ]; }

whole() { [ "$(status cluster_size)" = "$(nodes | wc -l)" ]; }

check() {
	[ "$(installed)" = "$1" ] || fail "galera-conf is $(installed), want $1"
	runs || fail "mariadbd does not run"
	until_true 10 "the node is $(status cluster_status), $(status local_state_comment)" serves
	whole || fail "the cluster has $(status cluster_size) nodes of $(nodes | wc -l)"
	echo "whole: $(status cluster_size) nodes, $(status local_state_comment), at $(status last_committed)"
}

# turn tells whether all nodes behind this one have stopped. Nodes that stop at the
# same moment may leave no majority behind, and then none that may begin anew.
turn() { [ "$(status cluster_status)" = Primary ] && [ "$(status cluster_size)" -le "$(position)" ]; }
ended() { ! runs; }

stop() {
	if ! runs; then
		echo "stopped already"
		return
	fi
	if [ "$1" = rolling ]; then
		whole || fail "the cluster has $(status cluster_size) nodes of $(nodes | wc -l): no other one may stop"
	else
		until_true 100 "the nodes behind this one, which is number $(position), do not stop" turn
	fi
	echo "stops at $(status last_committed)"
	mariadb-admin shutdown
	until_true 60 "mariadbd does not end" ended
}

# begins waits for the node, as long as its process is there.
begins() {
	runs || fail "mariadbd ended: $(tail -n 5 $home/log)"
	serves
}

start() {
	if ! runs; then
		install -d -o mysql -g mysql /run/mysqld
		local how
		if [ "$1" = offline ] && first; then
			grep -q '^safe_to_bootstrap: 1$' $home/data/grastate.dat ||
				fail "this node was not the last one to stop, so another one may have more: $(tr '\n' ' ' <$home/data/grastate.dat)"
			how=--wsrep-new-cluster
		else
			how=$(galera_recovery)
		fi
		# In a session of its own, and with none of the caller's outputs: it must outlive
		# the step that starts it.
		setsid env -u HOLDFAST_STEP mariadbd ${how:+"$how"} </dev/null >>$home/log 2>&1 &
		until_true 10 "mariadbd does not start" runs
	fi
	until_true 120 "the node does not join" begins
	echo "$(status cluster_size) nodes, $(status local_state_comment), at $(status last_committed)"
}

# as_told compares what runs with the package's file.
as_told() {
	local name have want
	for name in max_connections innodb_flush_log_at_trx_commit; do
		have=$(ask "SELECT @@global.$name")
		want=$(setting $name $conf)
		[ "$have" = "$want" ] || fail "$name is $have, want $want"
	done
	want=$(sed -n 's/.*gcache.size=\([^;]*\);.*/\1/p' $conf)
	ask "SELECT @@global.wsrep_provider_options" | grep -q "gcache.size = $want;" || fail "gcache.size is not $want"
}

# Also on the way back, where the version before is right: what runs must be what
# the package says, whichever of the two it is.
post_check() {
	local have size=2
	have=$(installed)
	[ "$have" = "$2" ] || [ "$have" = "$3" ] || fail "galera-conf is $have, want $2 or $3"
	until_true 30 "the node is $(status cluster_status), $(status local_state_comment)" serves
	if [ "$1" = rolling ]; then
		size=$(nodes | wc -l)
	elif first; then
		size=1 # the others start when it is done
	fi
	[ "$(status cluster_size)" -ge "$size" ] || fail "the cluster has $(status cluster_size) nodes, want $size"
	as_told
	echo "galera-conf $have: $(status cluster_size) nodes, max_connections $(ask 'SELECT @@global.max_connections')"
}

case $1 in
check) check "$2" ;;
stop) stop "$2" ;;
start) start "$2" ;;
post-check) post_check "$2" "$3" "$4" ;;
done)
	case $2 in
	stop) ended ;;
	start) runs && serves ;;
	*) fail "of $2 nothing is to be seen afterwards" ;;
	esac
	;;
*) fail "$1 is not known" ;;
esac
