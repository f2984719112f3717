#!/bin/sh
# What the module base asks of its host. The package itself is installed by
# Holdfast.
#   base.sh has VERSION
#   base.sh post-check FROM TO
#   base.sh done PHASE FROM TO
set -eu

fail() {
	echo "$*" >&2
	exit 1
}

installed() { dpkg-query -W -f '${Version}' platform-base; }

has() {
	have=$(installed)
	[ "$have" = "$1" ] || fail "platform-base is $have, want $1"
}

# Also on the way back, where the version before is right: what dpkg says and what
# lies on the disk must be one of the two, and the same.
post_check() {
	have=$(installed)
	[ "$have" = "$1" ] || [ "$have" = "$2" ] || fail "platform-base is $have, want $1 or $2"
	grep -qx "Version: $have" /usr/share/platform/VERSION || fail "platform-base is $have, its file says $(cat /usr/share/platform/VERSION)"
	[ "$have" != 1.1 ] || [ ! -e /srv/host/fail-post-check ] || fail "/srv/host/fail-post-check is there"
	echo "platform-base $have is well"
}

case $1 in
has) has "$2" ;;
post-check) post_check "$2" "$3" ;;
done)
	case $2 in
	install) has "$4" ;;
	rollback) has "$3" ;;
	*) fail "of $2 nothing is to be seen afterwards" ;;
	esac
	;;
*) fail "$1 is not known" ;;
esac
