#!/bin/sh
# The network agent's stand-in: what it has written goes when it starts, and comes anew under
# another cookie, slowly.
#   ctl.sh restart VERSION | has VERSION
# Its flows are in /srv/host/flows, one a line. With /srv/host/cut the links of the host's business
# guests are down for a while as well, and with /srv/host/hang it does not end.
set -eu

here=/srv/host
virsh="virsh -q -c qemu:///system"

links() { # up | down
	for vm in $($virsh list --name | grep '^vm'); do
		mac=$($virsh domiflist "$vm" | awk '{ print $5 }')
		$virsh domif-setlink "$vm" "$mac" "$1"
	done
}

case $1 in
restart)
	ovs-ofctl -O OpenFlow14 del-flows br-int cookie=1/-1
	ovs-ofctl -O OpenFlow14 del-flows br-int cookie=2/-1
	if [ -e $here/cut ]; then
		links down
		sleep 12
		links up
		rm $here/cut
	fi
	sleep 3
	while read -r flow; do
		ovs-ofctl -O OpenFlow14 add-flow br-int "cookie=2,$flow"
		sleep 0.5
	done <$here/flows
	while [ -e $here/hang ]; do
		sleep 0.2
	done
	echo "Version: $2" >$here/network-version
	;;
has)
	grep -qx "Version: $2" $here/network-version
	;;
*)
	echo "ctl.sh $*: want restart VERSION or has VERSION" >&2
	exit 2
	;;
esac
