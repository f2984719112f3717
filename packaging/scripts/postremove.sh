#!/bin/sh
# After the files of a package are gone. deb: remove, purge, upgrade NEW ...; rpm: how many
# versions stay installed.
set -eu

case ${1-} in
remove | purge | 0) ;;
*) exit 0 ;;
esac
# Links that an installation may have made, by names of other tools.
for link in /usr/bin/zsha /usr/sbin/crm /usr/sbin/ms_resource_stop.sh /usr/sbin/ms_resource_start.sh /usr/sbin/ms_recovery.sh \
	/usr/sbin/ms_rm_sync_partition.sh /usr/sbin/drbd-overview; do
	[ "$(readlink $link || true)" != /opt/holdfast/bin/holdfast ] || rm $link
done
if [ "$1" = purge ]; then
	# Nothing that is mounted there: an image of the VM is shared with other hosts.
	rm -rf --one-file-system /etc/holdfast /var/lib/holdfast /var/log/holdfast ||
		echo "holdfast: not all of it could be removed; what is mounted there stays" >&2
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload
