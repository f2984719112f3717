#!/usr/bin/env bash
# Makes a Debian system with systemd, sshd, MariaDB and the real DRBD, and prints the directory it
# is in: system.sh [CACHE]
#   disk.img  vmlinuz  initrd.gz
# It is the root of packaging/testroot with more packages. The initramfs puts what is in its
# directory extra over the disk's root, and goes on from there. Made once for this script and each
# root, and kept in CACHE, by default /var/cache/holdfast-lab. Nobody may change it: work on an overlay.
set -euo pipefail
cache=${1:-/var/cache/holdfast-lab}
fail() {
  echo "no system with DRBD: $1" >&2
  exit 1
}
base=$("$(dirname "$0")/../../packaging/testroot/root.sh" "$cache") || fail "there is no root to make it of"
packages=(udev openssh-server mariadb-server mariadb-backup drbd-utils iputils-ping)

# build is run with every command checked; what it says is in system.log.
build() {
  local made=$1 root=$1/root d=$1/initrd m
  cp -a --reflink=auto "$base/root" "$root"
  cp "$base/vmlinuz" "$made/"
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no daemon is started
  chmod +x "$root/usr/sbin/policy-rc.d"
  unshare --mount --pid --fork --kill-child sh -euc 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -euc "$1"' "$root" "
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends ${packages[*]} >/dev/null
    systemctl -q disable mariadb.service drbd.service libvirtd.service libvirt-guests.service
    systemctl -q mask libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer
    : >/etc/machine-id
    rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/*
    apt-get clean"
  mkdir -p "$d"/{bin,dev,proc,new,extra}
  cp "$root/bin/busybox" "$d/bin/"
  for m in virtio_pci virtio_blk ext4; do
    chroot "$root" modprobe --show-depends --set-version "$(ls "$root/lib/modules")" $m | sed -n 's/^insmod //p'
  done | awk '!seen[$1]++' | while read -r m _; do
    cp "$root$m" "$d/"
    echo "insmod /${m##*/}"
  done >"$d/modules"
  cat >"$d/init" <<-'END'
	#!/bin/busybox sh
	busybox mount -t proc proc /proc
	busybox mount -t devtmpfs dev /dev
	while read -r do what; do busybox $do $what; done </modules
	busybox mount -t ext4 /dev/vdb /new
	busybox cp -a /extra/. /new/
	busybox umount /proc
	exec busybox switch_root /new /sbin/init
	END
  chmod +x "$d/init"
  # What the rig needs: an address on each card, a watchdog, and a way in for commands.
  mkdir -p "$d"/extra/etc/{modules-load.d,systemd/system/multi-user.target.wants}
  echo softdog >"$d/extra/etc/modules-load.d/watchdog.conf"
  cat >"$d/extra/etc/systemd/system/network.service" <<-'END'
	[Unit]
	DefaultDependencies=no
	After=systemd-udevd.service systemd-remount-fs.service
	Wants=network.target
	Before=network.target network-online.target
	[Service]
	Type=oneshot
	RemainAfterExit=yes
	ExecStart=udevadm wait --timeout=300 /sys/class/net/eth0 /sys/class/net/eth1
	ExecStart=/link
	END
  cat >"$d/extra/link" <<-'END'
	#!/bin/sh -eu
	for w in $(cat /proc/cmdline); do case $w in link=*) link=${w#link=} ;; esac; done
	ip link set lo up
	ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
	ip addr add "$link" dev eth1 && ip link set eth1 up
	END
  chmod +x "$d/extra/link"
  cat >"$d/extra/etc/systemd/system/node.service" <<-'END'
	[Unit]
	After=network.target
	[Service]
	Environment=HOME=/root
	ExecStart=/node serve
	Restart=always
	KillMode=process
	END
  for m in network node; do ln -s "../$m.service" "$d/extra/etc/systemd/system/multi-user.target.wants/$m.service"; done
  (cd "$d" && find . | "$root/bin/busybox" cpio -o -H newc | gzip -1) >"$made/initrd.gz"
  truncate -s 6G "$made/disk.img"
  mkfs.ext4 -q -m 0 -d "$root" "$made/disk.img"
  rm -r --one-file-system "$d" "$root"
}

[ "$(id -u)" -eq 0 ] || fail "this is not root"
exec 9>"$cache/system.lock"
flock 9
made=$cache/system-$({ declare -f build; echo "$base" "${packages[@]}"; } | sha256sum | cut -c1-12)
if [ ! -d "$made" ]; then
  find "$cache" -maxdepth 1 -name 'system-*' -type d \( -mtime +31 -o -name '*-part' \) -exec rm -rf --one-file-system {} +
  mkdir "$made-part"
  (set -e; build "$made-part") >"$cache/system.log" 2>&1 & # here set -e counts, in a condition not
  wait $! || fail "$cache/system.log: $(tail -n 1 "$cache/system.log")"
  mv "$made-part" "$made"
fi
echo "$made"
