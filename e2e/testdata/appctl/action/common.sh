#!/bin/bash
# What the modules of this package have in common. It is a stand-in: a module is a
# folder with its version and a file that says whether it runs. Each call is one
# line of /srv/host/appctl.log: the module, the verb, the arguments.
set -eu
ACTION=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
LOG=/srv/host/appctl.log
STATE=/srv/host/appctl
VERSION=$(sed -n 's/^ *Version: *//p' "$ACTION/../versions.yml")

fail() {
	echo "[ERROR] $*" >&2
	exit 1
}

log_call() { echo "$*" >>$LOG; }

# ask_password asks at the terminal, as the database's own scripts do.
ask_password() {
	local password
	[ -t 0 ] || fail "there is no terminal to ask for the password at"
	read -r -s -p "Enter the password of user sys: " password
	echo
	[ "$password" = "$(cat $STATE/password)" ] || fail "the password is wrong"
}

# module NAME VERB [ARGUMENT...]
module() {
	local here=$STATE/$1 verb=$2
	log_call "$@"
	shift 2
	case $verb in
	pre_upgrade) [ -e "$here/running" ] || fail "it does not run" ;;
	stop) rm -f "$here/running" ;;
	start) touch "$here/running" ;;
	upgrade_backup)
		[ ! -e "$1/version" ] || fail "$1 has a backup already"
		mkdir -p "$1"
		cp "$here/version" "$1/version"
		;;
	upgrade)
		[ ! -e "$here/running" ] || fail "it runs"
		[ -e "$2/version" ] || fail "$2 has no backup"
		echo "$VERSION" >"$here/version"
		;;
	post_upgrade)
		[ -e "$here/running" ] || fail "it does not run"
		;;
	rollback) cp "$2/version" "$here/version" ;;
	*) fail "verb $verb is not known" ;;
	esac
	echo "[INFO] $verb: success"
}
