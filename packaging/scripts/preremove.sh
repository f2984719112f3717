#!/bin/sh
# Before the files of a package go. deb: remove, upgrade NEW, deconfigure ...; rpm: how
# many versions stay installed. Refuses a removal that would stop the management VM.
set -eu
exe=/opt/holdfast/bin/holdfast unit=holdfast.service settings=/etc/holdfast/agent.json

case ${1-} in
remove | deconfigure | 0) ;;
*) exit 0 ;;
esac
$exe retire --check
if [ -d /run/systemd/system ]; then
	systemctl stop $unit
fi
if ! $exe retire; then
	[ ! -d /run/systemd/system ] || ! systemctl is-enabled --quiet $unit || systemctl start $unit
	exit 1
fi
systemctl disable --quiet $unit
[ -e $settings ] || exit 0 # it was of no cluster
echo "holdfast: this host's agent has ended; the cluster still counts it as a member. /etc/holdfast, /var/lib/holdfast and /var/log/holdfast stay"
