#!/bin/sh
# PID 1 of the test guest. It serves /status over HTTP with a boot id and a
# counter, and writes the same line to its disk, so that an observer can tell
# which incarnation runs, whether it stands still, and whose disk it has.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /proc /sys /run /tmp /mnt /var/run /var/log /var/lock /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devpts pts /dev/pts
exec >/dev/console 2>&1

while read -r m; do insmod "/modules/$m.ko" || echo "no module $m"; done </modules/order

# A disk is the seed when its ISO 9660 label is cidata; the first other one is data.
seed= data= i=0
while [ $i -lt 20 ] && [ -z "$data" ]; do
  for d in /dev/vd? /dev/sr?; do
    [ -b "$d" ] || continue
    if [ "$(dd if="$d" bs=1 skip=32808 count=6 2>/dev/null | tr A-Z a-z)" = cidata ]; then seed=$d
    elif [ -z "$data" ]; then case $d in /dev/vd*) data=$d;; esac; fi
  done
  [ -n "$data" ] || sleep 0.05
  i=$((i+1))
done

arg() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
ip link set lo up
hostname guest
iid=
if [ -n "$seed" ]; then
  mount -t iso9660 -o ro "$seed" /mnt
  iid=$(sed -n 's/^instance-id: *//p' /mnt/meta-data | tr -d '"')
  name=$(sed -n 's/^local-hostname: *//p' /mnt/meta-data | tr -d '"')
  [ -n "$name" ] && hostname "$name"
  [ -f /mnt/network-config ] && /bin/netconf /mnt/network-config
  if [ -f /mnt/user-data ]; then
    pw=$(sed -n 's/^password: *//p' /mnt/user-data | tr -d '"')
    [ -n "$pw" ] && echo "root:$pw" | chpasswd
  fi
  umount /mnt
fi
addr=$(arg lab.ip)
if [ -n "$addr" ] && ! ip -4 addr show | grep -q 'scope global'; then
  ip link set eth0 up
  ip addr add "$addr" dev eth0
  gw=$(arg lab.gw)
  [ -n "$gw" ] && ip route add default via "$gw"
fi

mkdir -p /dev/virtio-ports
for p in /sys/class/virtio-ports/*; do
  [ -r "$p/name" ] && ln -sf "/dev/${p##*/}" "/dev/virtio-ports/$(cat "$p/name")"
done
ga=/dev/virtio-ports/org.qemu.guest_agent.0
[ -e $ga ] && qemu-ga -m virtio-serial -p $ga -t /run -l /var/log/qga.log </dev/null &

read -r boot </proc/sys/kernel/random/boot_id
prev=
[ -n "$data" ] && prev=$(dd if="$data" bs=512 count=1 2>/dev/null | tr -d '\000' | head -n 1 | sed 's/ *$//')
host=$(hostname)
printf '%-254s\n' "boot=$boot n=0 up=0 host=$host iid=$iid prev=[$prev]" >/www/status
httpd -p 80 -h /www
read -r up _ </proc/uptime
echo "LAB-READY up=$up boot=$boot seed=$seed data=$data prev=[$prev]"

beat() {
  # A pause without a child process: nothing is ever written to the pipe.
  mkfifo /run/never
  exec 3<>/run/never
  n=0
  while :; do
    n=$((n+1))
    read -r up _ </proc/uptime
    # One write in place of the last one, which a reader sees whole: programs cost
    # much under emulation.
    printf '%-254s\n' "boot=$boot n=$n up=$up host=$host iid=$iid prev=[$prev]" 1<>/www/status
    if [ -n "$data" ]; then
      printf '%-511s\n' "boot=$boot n=$n" 1<>"$data"
      dd if=/dev/null of="$data" count=0 conv=notrunc,fsync 2>/run/dd.err
    fi
    read -r -t 0.2 _ <&3
  done
}
beat &
while :; do wait; sleep 3600; done
