#!/bin/bash
# The verbs of the whole package; with a verb of the modules, it calls them in the
# order of env.sh.
. "$(dirname "$(readlink -f "$0")")/common.sh"
. "$ACTION/env.sh"
verb=$1
case $verb in
check_status)
	log_call appctl "$@"
	for m in "${START_ORDER[@]}"; do
		[ -e "$STATE/$m/running" ] || fail "$m does not run"
	done
	echo "[INFO] check_status: success"
	exit
	;;
upgrade_commit)
	log_call appctl "$@"
	echo "$VERSION" >$STATE/committed
	echo "[INFO] upgrade_commit: success"
	exit
	;;
pre_upgrade) order=("${PRE_UPGRADE_ORDER[@]}") ;;
stop) order=("${STOP_ORDER[@]}") ;;
upgrade | upgrade_backup) order=("${UPGRADE_ORDER[@]}") ;;
start) order=("${START_ORDER[@]}") ;;
post_upgrade) order=("${POST_UPGRADE_ORDER[@]}") ;;
rollback) order=("${ROLLBACK_ORDER[@]}") ;;
*) fail "verb $verb is not known" ;;
esac
for m in "${order[@]}"; do
	"$ACTION/$m/appctl.sh" "$@"
done
