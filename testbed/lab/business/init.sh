#!/bin/sh
# PID 1 of a business guest. It does nothing until it is asked, so that many of
# them share a processor: pings, its status by HTTP, and libvirt's questions to
# the guest agent, of which it knows the few that an orderly power-off needs.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec >/dev/console 2>&1

while read -r m; do insmod "/modules/$m.ko" || echo "no module $m"; done </modules/order

read -r words </proc/cmdline
addr='' name=guest
for w in $words; do
  case $w in
    lab.ip=*) addr=${w#lab.ip=} ;;
    lab.name=*) name=${w#lab.name=} ;;
  esac
done
hostname "$name"
ip link set lo up
ip link set eth0 up
ip addr add "$addr" dev eth0

# A disk keeps what its last boot said of itself.
read -r boot </proc/sys/kernel/random/boot_id
: >/run/prev
if [ -b /dev/vda ]; then
  dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\000' | head -n 1 | sed 's/ *$//' >/run/prev
  printf '%-511s\n' "boot=$boot n=0" | dd of=/dev/vda bs=512 count=1 conv=notrunc,fsync 2>/dev/null
fi
httpd -p 80 -h /www
read -r up _ </proc/uptime
echo "LAB-READY up=$up boot=$boot name=$name prev=[$(cat /run/prev)]"

answer() {
  case $1 in
    *'"guest-sync-delimited"'*) id=${1##*\"id\":}; printf '\377{"return":%s}\n' "${id%%\}*}" ;;
    *'"guest-sync"'*) id=${1##*\"id\":}; echo "{\"return\":${id%%\}*}}" ;;
    *'"guest-ping"'*) echo '{"return":{}}' ;;
    *'"guest-shutdown"'*'"reboot"'*) sync; busybox reboot -f ;;
    *'"guest-shutdown"'*) sync; poweroff -f ;;
    *) echo '{"error":{"class":"CommandNotFound","desc":"a business guest does not know this"}}' ;;
  esac
}
for p in /sys/class/virtio-ports/*; do
  [ "$(cat "$p/name")" = org.qemu.guest_agent.0 ] && exec 3<>"/dev/${p##*/}"
done
# Nobody at the other end, such as while libvirtd restarts, reads as an end.
while :; do
  if read -r line <&3; then answer "$line" >&3; else sleep 1; fi
done
