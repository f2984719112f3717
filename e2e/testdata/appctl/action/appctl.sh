#!/bin/bash
# The verbs of a stand-in for an appctl package, as docs/appctl.md has their contract: what
# they leave behind, in which order, and how they end. The engine is a few files and
# processes, see appctl-node.
set +x
HERE=$(dirname "$(readlink -f "$0")")
D=/opt/cantian
META=/mnt/dbdata/remote/metadata_meta
UP=$META/upgrade
STATUS=$UP/cluster_and_node_status
info() { echo "[INFO ] $*"; }
fail() {
	echo "[ERROR] $*"
	exit 1
}
version() { sed -n 's/^ *Version: *//p' "$1"; }
param() { sed -n 's/.*"'"$1"'": "\([^"]*\)".*/\1/p' "$HERE/../config/deploy_param.json"; }
note() { # FILE STATE WHO
	info "change upgrade status of $3 from '$(cat "$1" 2>/dev/null)' to '$2' success."
	echo "$2" >"$1"
}
from_file_mode() { sed -i 's/"dbstor"//; s/"logicrep"//' "$HERE/env.sh"; . "$HERE/env.sh"; }
nodes() { echo $(($(param cms_ip | tr -cd ';' | wc -c) + 1)); }
states() { cat $STATUS/node*_status.txt 2>/dev/null | sort | uniq -c | awk '{print $1 ":" $2}' | tr '\n' ' '; }
module_all() { # VERB MODULE...
	local verb=$1 m
	shift
	for m in "$@"; do
		[ -z "$m" ] || sh "$HERE/$m/$verb.sh" || fail "$verb $m failed"
	done
}

check_status() {
	. "$HERE/env.sh"
	local m on=0 off=0
	for m in "${START_ORDER[@]}"; do
		[ -n "$m" ] || continue
		if sh "$HERE/$m/check_status.sh"; then on=1; else off=1 && echo "[ERROR] $m is offline."; fi
	done
	if systemctl is-active cantian.timer && systemctl is-enabled cantian.timer; then on=1; else off=1; fi
	if pgrep -f "sh $D/common/script/cantian_daemon.sh" >/dev/null; then on=1; else off=1; fi
	[ $off = 1 ] || exit 0
	[ $on = 1 ] && exit 2
	exit 1
}

check_point() {
	local password
	read -r -s -p "please enter cantian_sys_pwd: " password
	echo
	rm -f $D/check_point.success
	sh $D/action/appctl.sh check_status || fail "the engine is offline, can not do check point."
	echo "$password" | su -s /bin/bash - cantian -c "sh $HERE/cantian/upgrade_checkpoint.sh" || fail "Check point failed"
	touch $D/check_point.success
	chmod 400 $D/check_point.success
}

stop() {
	local p unit
	touch $D/stop.enable
	. "$HERE/env.sh"
	for unit in cantian.timer cantian_logs_handler.timer; do systemctl stop $unit && systemctl disable $unit; done
	for p in $(pgrep -f "sh $D/common/script/cantian_daemon.sh"); do kill -9 "$p"; done
	module_all stop "${STOP_ORDER[@]}"
}

start() {
	local unit
	. "$HERE/env.sh"
	module_all start "${START_ORDER[@]}"
	pgrep -f "sh $D/common/script/cantian_daemon.sh" >/dev/null || setsid -f sh $D/common/script/cantian_daemon.sh </dev/null >/dev/null 2>&1 505>&- 506>&-
	for unit in cantian.timer cantian_logs_handler.timer; do systemctl start $unit && systemctl enable $unit; done
	rm -f $D/stop.enable
}

names() { grep -o '"[a-zA-Z_]*":' "$1" | grep -v install_type | sort; }

pre_upgrade() {
	local other
	[ "$(names "$HERE/config_params.json")" = "$(names $D/action/config_params.json)" ] || fail "new config_params.json different with source config_params.json"
	cp -f $D/config/deploy_param.json "$HERE/../config" || exit 1
	[ "$(param node_id)" != 0 ] || cp -f "$HERE/../config/deploy_param.json" $META
	[ "$(version "$HERE/../versions.yml")" != "$(version $D/versions.yml)" ] || fail "The target version is the same as the current version. No upgrade is required."
	other=$(ls $UP 2>/dev/null | grep '^upgrade' | grep -v "$(version "$HERE/../versions.yml")" | grep -v upgrade.lock)
	[ -z "$other" ] || fail "The cluster is being upgraded to another version: $other"
	cms stat | tail -n +2 | grep -qv ONLINE && fail "failed cms stat check."
	[ "$(df --output=avail $D | tail -1)" -ge $((5 << 20)) ] || fail "failed memory check."
	info "pass white list check"
}

backup() { # into $1
	[ ! -f "$1/backup_success" ] || return 0
	mkdir -p "$1"
	rm -rf "${1:?}"/*
	cp -rfp $D/action $D/repo $D/common $D/config $D/versions.yml "$1"
	cp -f /etc/systemd/system/cantian*.timer /etc/systemd/system/cantian*.service "$1/config"
	cp -rfp $D/cms/service "$1/cms_service"
	cp -rfp $D/cantian/server "$1/cantian_server"
	tail -n 2 /opt/backup_note >/opt/backup_note.new 2>/dev/null
	echo "$(version $D/versions.yml):$(date +%s%3N)" >>/opt/backup_note.new
	mv /opt/backup_note.new /opt/backup_note
	touch "$1/backup_success"
	chmod 400 "$1/backup_success"
}

replace() {
	local m
	chmod 400 "$HERE"/*.sh # the script that runs among them
	rm -f /etc/systemd/system/cantian*.service /etc/systemd/system/cantian*.timer
	cp -f "$HERE"/../config/*.service "$HERE"/../config/*.timer /etc/systemd/system/
	cp -rfp "$HERE"/. $D/action/
	cp -rfp "$HERE/../config" "$HERE/../common" $D/
	rm -rf $D/repo/*
	cp -rf "$HERE/../repo" $D/
	chmod 400 $D/repo/*
	rpm -ev cantian --nodeps
	rpm -ivh --replacepkgs "$HERE"/../repo/cantian-*.rpm --nodeps --force
	for m in "${UPGRADE_ORDER[@]}"; do [ -z "$m" ] || upgrade_module "$m"; done
	su -s /bin/bash - cantian -c "cat $HERE/../versions.yml" >/dev/null || fail "cantian can not read the package"
}

unpacked() { # the engine's programs, into $1
	local image=$D/image/cantian_connector/CantianKernel/Cantian-DATABASE-CENTOS-64bit/Cantian-RUN-CENTOS-64bit.tar.gz
	rm -rf "${1:?}"/*
	tar -xzf $image -C "$1" --strip-components 1
	chown -R cantian:cantian "$1"
}

upgrade_module() {
	case $1 in
	cms) unpacked $D/cms/service ;;
	cantian) unpacked $D/cantian/server ;;
	ct_om) rpm -e ct_om && rpm -ivh "$(ls "$HERE"/../repo/ct_om-*.rpm)" ;;
	esac || fail "$1 upgrade failed"
	info "$1 upgrade success"
}

array_answers() { # ADDRESS WHAT
	local yes
	[ -n "$1" ] || fail "storage array ip must be provided"
	ping -c 1 "$1" >/dev/null && return
	echo "[ERROR] try to ping storage array ip '$1', but failed"
	read -r -p "Continue $2 please input yes, otherwise exit:" yes
	echo
	[ "$yes" = yes ] || exit 1
}

check_local() {
	cms stat | tail -n +2 | grep -qv ONLINE && fail "local node failed cms stat check"
	info "local node post upgrade check finished"
}

upgrade() {
	local mode=$1 node choice old
	node=$(param node_id)
	old=$(version $D/versions.yml)
	from_file_mode
	[ "$(ls "$HERE/../repo" | wc -l)" = 2 ] || fail "We have to have only 2 rpm package,please check"
	if [ "$mode" = offline ]; then
		array_answers "$2" upgrade
		for m in "${START_ORDER[@]}"; do [ -z "$m" ] || ! sh $D/action/"$m"/check_status.sh || fail "$m is online, cantian status check failed"; done
	else
		mkdir -p $STATUS
		case $(cat $STATUS/cluster_status.txt 2>/dev/null) in prepared | commit) exit 0 ;; esac
		rm -f $UP/cantian_rollup_upgrade_commit_"$old".success
		ls $STATUS/node*_status.txt 2>/dev/null | grep -v "node${node}_" | xargs -r grep -L rollup_success | grep -q . && fail "there are currently one or more nodes in the 'rollup' state"
		note $STATUS/cluster_status.txt rollup cluster
		note $STATUS/node"${node}"_status.txt rollup node_"$node"
		if [ ! -e $UP/call_ctback_tool.success ]; then
			read -r -p "What's your choice, please input [1|2|3]:" choice
			[ "$choice" != 1 ] || exit 0
		fi
		(sh $D/action/appctl.sh stop) || fail "stop cantian failed"
		touch $UP/call_ctback_tool.success
	fi
	backup $D/upgrade_backup/cantian_upgrade_bak_"$old"
	replace
	(sh $D/action/appctl.sh start) || fail "start cantian after upgrade failed"
	check_local
	if [ "$mode" = rollup ]; then
		note $STATUS/node"${node}"_status.txt rollup_success node_"$node"
		[ "$(states)" != "$(nodes):rollup_success " ] || note $STATUS/cluster_status.txt prepared cluster
	fi
	rm -f $D/pre_upgrade_"$mode".success
	cp -fp "$HERE/../versions.yml" $D
	[ "$node" = 0 ] || rm -f $UP/upgrade_node*
}

rollback() {
	local mode=$1 node back b
	node=$(param node_id)
	back=${3:-$(tail -n 1 /opt/backup_note | cut -d: -f1)}
	b=$D/upgrade_backup/cantian_upgrade_bak_$back
	from_file_mode
	if [ "$mode" = offline ]; then
		array_answers "$2" rollback
		for m in "${START_ORDER[@]}"; do [ -z "$m" ] || ! sh $D/action/"$m"/check_status.sh || fail "process $m is still online, please execute stop first"; done
	else
		case $(cat $STATUS/cluster_status.txt 2>/dev/null) in rollup | rolldown | prepared) ;; *) fail "the cluster is not in a state to roll back" ;; esac
		note $STATUS/cluster_status.txt rolldown cluster
		ls $STATUS/node*_status.txt | grep -v "node${node}_" | xargs -r grep -lx 'rollup\|rolldown' | grep -q . && fail "there are currently one or more nodes in the 'rolldown' or the 'rollup' state"
		note $STATUS/node"${node}"_status.txt rolldown node"$node"
		(sh $D/action/appctl.sh stop) || fail "stop cantian failed"
	fi
	[ -f "$b/backup_success" ] || fail "version: $back backup file note complete, rollback failed;"
	rpm -ev cantian --nodeps
	rpm -ivh --replacepkgs "$b"/repo/cantian-*.rpm --nodeps --force
	rpm -e ct_om && rpm -ivh "$(ls "$b"/repo/ct_om-*.rpm)"
	rm -rf $D/cms/service/* $D/cantian/server/* $D/repo/*
	cp -rfp "$b"/cms_service/. $D/cms/service/
	cp -rfp "$b"/cantian_server/. $D/cantian/server/
	cp -rfp "$b/action" "$b/common" "$b/config" "$b/repo" "$b/versions.yml" $D/
	rm -f /etc/systemd/system/cantian*.service /etc/systemd/system/cantian*.timer
	cp -f "$b"/config/cantian*.service "$b"/config/cantian*.timer /etc/systemd/system/
	(sh $D/action/appctl.sh start) || fail "start cantian after rollback failed"
	check_local
	[ "$mode" = offline ] && rm -f $D/pre_upgrade_offline.success && return
	note $STATUS/node"${node}"_status.txt rolldown_success node"$node"
	case $(states) in
	*rolldown_success*:* | *:*:*) info "existing nodes have not been rollback successfully, details: $(states)" && exit 0 ;;
	esac
	note $STATUS/cluster_status.txt normal cluster
	rm -f $STATUS/node* $UP/call_ctback_tool.success $D/pre_upgrade_rollup.success
}

upgrade_commit() {
	local mode=$1 source flag v
	source=$(tail -n 1 /opt/backup_note | cut -d: -f1)
	flag=$UP/cantian_${mode}_upgrade_commit_$source.success
	[ ! -f "$flag" ] || { info "perform the upgrade commit operation has been successful" && exit 0; }
	if [ "$mode" = rollup ]; then
		case $(cat $STATUS/cluster_status.txt 2>/dev/null) in rollup | prepared | commit) ;; *) fail "the cluster status must be one of 'rollup prepared commit'" ;; esac
	elif [ "$(param node_id)" != 0 ]; then
		fail "Upgrade offline commit only allows operations at node 0. Please check."
	fi
	v=$(version "$HERE/../versions.yml")
	v=${v%.B*}
	su -s /bin/bash - cantian -c "cms upgrade -version ${v//./ } 0" || fail "calling cms tool to raise the version num failed"
	touch "$flag"
	chmod 600 "$flag"
	rm -rf $D/pre_upgrade_"$mode".success $STATUS $UP/call_ctback_tool.success $UP/upgrade_node*
	info "clear residual data success"
}

# run VERB ARGUMENT...: one call of a verb at a time, and the line that tells how it ended.
run() {
	local verb=$1
	shift
	exec 505<>"$HERE/.$verb.lock"
	flock -n 505 || { echo "[ERROR] $verb is executing, please check again later" && return 1; }
	if ("$verb" "$@") 505>&-; then
		info "Execute cantian-common $verb.sh return success. [Line:124, File:$HERE/appctl.sh]"
		return 0
	fi
	echo "[ERROR] Execute cantian-common $verb.sh return failed. [Line:120, File:$HERE/appctl.sh]"
	return 1
}

locked() { # the nodes of the cluster, one at a time
	mkdir -p $UP
	exec 506>$META/upgrade.lock
	flock -n 506 || { echo "[ERROR] Other node is upgrading/rollback, please check again later." && exit 1; }
}

verb=$1
shift
case $verb in
check_status | check_point | stop | start) run "$verb" ;;
pre_upgrade)
	rm -f $D/pre_upgrade_*.success $D/check_point.success
	run pre_upgrade "$@" || { touch "$D/pre_upgrade_$1.fail" && exit 1; }
	touch "$D/pre_upgrade_$1.success"
	chmod 400 "$D/pre_upgrade_$1.success"
	;;
upgrade)
	[ -f "$D/pre_upgrade_$1.success" ] || { echo "[ERROR] please do pre_upgrade first" && exit 1; }
	locked
	touch "$UP/upgrade_node$(param node_id).$(version "$HERE/../versions.yml")"
	run upgrade "$@" 506>&-
	;;
rollback)
	locked
	run rollback "$@" 506>&- || exit 1
	rm -f "$UP/upgrade_node$(param node_id).$(version "$HERE/../versions.yml")"
	;;
upgrade_commit)
	locked
	run upgrade_commit "$@" 506>&-
	exit 0 # as the vendor's does, whatever became of it
	;;
*)
	echo "Usage: appctl.sh {start|stop|check_status|check_point|pre_upgrade|upgrade|upgrade_commit|rollback}"
	exit 1
	;;
esac
