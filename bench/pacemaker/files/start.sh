# Starts one of the cluster's daemons on a host of the laboratory: "corosync" or
# "pacemaker". Everything that both keep is below $P, the host's own disk, and
# mounted over the machine's folders, which only this host sees.
set -eu
P=/srv/host/pacemaker
until [ -e $P/ready ]; do sleep 0.1; done
case $1 in
corosync)
  mkdir -p /run/lock /run/crm /run/corosync /run/resource-agents /run/heartbeat/rsctmp
  chmod 1755 /run/resource-agents
  chown hacluster:haclient /run/crm
  chmod 750 /run/crm
  chmod 1777 /dev/shm
  mkdir -p $P/lib $P/lib/blackbox $P/lib/cib $P/lib/cores $P/lib/pengine $P/corosync-lib $P/log
  chown -R hacluster:haclient $P/lib
  chown hacluster:haclient $P/log
  chmod -R u=rwX,g=rX,o= $P/lib
  mount --bind $P/lib /var/lib/pacemaker
  mount --bind $P/corosync-lib /var/lib/corosync
  mount --bind $P/log /var/log/pacemaker
  mount --bind $P/etc /etc/corosync
  mount -t overlay -o lowerdir=$P/sbin:/usr/sbin overlay /usr/sbin
  mount -t overlay -o lowerdir=$P/ocf:/usr/lib/ocf/resource.d overlay /usr/lib/ocf/resource.d
  : >/run/pacemaker-mounted
  exec corosync -f
  ;;
pacemaker)
  until [ -e /run/pacemaker-mounted ]; do sleep 0.05; done
  until corosync-cmapctl -g totem.cluster_name >/dev/null 2>&1; do sleep 0.1; done
  # As resource-agents-deps.target orders it on a real host.
  until virsh -q -c qemu:///system uri >/dev/null 2>&1; do sleep 0.1; done
  export PCMK_logfacility=none PCMK_logfile=/var/log/pacemaker/pacemaker.log
  exec pacemakerd
  ;;
esac
