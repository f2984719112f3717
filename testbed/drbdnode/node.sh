#!/usr/bin/env bash
# Makes the kernel and the initramfs of a small host with the real DRBD, and prints the
# directory they are in: node.sh [CACHE]
#   vmlinuz  initrd.gz
# With HOLDFAST_DRBD_MODULE=DIR the host has the DRBD 9 that was built for this kernel, in place of
# the kernel's own 8.4: DIR has drbd.ko, drbd_transport_tcp.ko and, where the build made one, handshake.ko.
# The kernel and its modules are those of packaging/testroot; drbd-utils is fetched and not
# installed. Made once for this script and each root, and kept in CACHE, by default
# /var/cache/holdfast-lab.
set -euo pipefail
cache=${1:-/var/cache/holdfast-lab}
module=${HOLDFAST_DRBD_MODULE:-}
fail() {
  echo "no host with DRBD: $1" >&2
  exit 1
}
base=$("$(dirname "$0")/../../packaging/testroot/root.sh" "$cache") || fail "there is no root to make it of"

# build is run with every command checked; what it says is in drbd.log.
build() {
  local root=$base/root made=$1 d=$1/initrd f m
  mkdir -p "$made/deb" "$d"/{bin,dev,proc,sys,etc/drbd.d,run,tmp,mnt,root,lib64,usr/sbin,var/lib/drbd,var/run,var/lock}
  (cd "$made/deb" && apt-get -qq -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 download drbd-utils && dpkg-deb -x drbd-utils_*.deb .)
  cp "$base/vmlinuz" "$made/"
  cp "$root/bin/busybox" "$d/bin/"
  for m in $("$d/bin/busybox" --list); do [ -e "$d/bin/$m" ] || ln -s busybox "$d/bin/$m"; done
  rm "$d/bin/umount" "$d/bin/mount"
  for f in /sbin/drbdadm /sbin/drbdsetup /sbin/drbdmeta /lib/drbd/drbdadm-84 /lib/drbd/drbdsetup-84; do
    mkdir -p "$d${f%/*}"
    cp -L "$made/deb$f" "$d$f"
  done
  ln -s /sbin/drbdadm /sbin/drbdsetup /sbin/drbdmeta "$d/usr/sbin/"
  mkdir -p "$d/usr/lib" && ln -s ../../lib/drbd "$d/usr/lib/drbd"
  for f in /sbin/mke2fs /sbin/e2fsck /bin/mount /bin/umount; do cp -L "$root$f" "$d$f"; done
  ln -s mke2fs "$d/sbin/mkfs.ext4"
  cp "$root/etc/mke2fs.conf" "$d/etc/"
  # Those of drbd-utils need the C library only, which these need, too.
  for f in /sbin/mke2fs /sbin/e2fsck /bin/mount /bin/umount; do chroot "$root" ldd $f; done | grep -o '/[^ ]*' | sort -u | while read -r f; do
    mkdir -p "$d${f%/*}"
    cp -L "$root$f" "$d$f"
  done
  for m in virtio_pci virtio_blk virtio_net virtio_rng ext4 drbd softdog tcp_diag; do
    chroot "$root" modprobe --show-depends --set-version "$(ls "$root/lib/modules")" $m | sed -n 's/^insmod //p'
  done | awk '!seen[$1]++' | while read -r m _; do
    cp "$root$m" "$d/"
    echo "insmod /${m##*/}"
  done >"$d/modules"
  if [ -n "$module" ]; then # it needs of the kernel what 8.4 needs
    cp "$module/drbd.ko" "$d/"
    for f in handshake drbd_transport_tcp; do
      [ -e "$module/$f.ko" ] || continue
      cp "$module/$f.ko" "$d/"
      echo "insmod /$f.ko" >>"$d/modules"
    done
  fi
  printf 'include "drbd.d/*.res";\n' >"$d/etc/drbd.conf"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$d/etc/passwd"
  cat >"$d/init" <<-'END'
	#!/bin/busybox sh
	export PATH=/sbin:/bin HOME=/root
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t devtmpfs dev /dev
	while read -r do what; do $do $what; done </modules
	for w in $(cat /proc/cmdline); do case $w in node=*) id=${w#node=} ;; esac; done
	hostname "n$id"
	ip link set lo up
	ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
	ip addr add "10.97.1.$id/24" dev eth1 && ip link set eth1 up
	while :; do /node serve; done
	END
  chmod +x "$d/init"
  (cd "$d" && find . | "$root/bin/busybox" cpio -o -H newc | gzip -1) >"$made/initrd.gz"
  rm -r "$d" "$made/deb"
}

[ "$(id -u)" -eq 0 ] || fail "this is not root"
exec 9>"$cache/drbd.lock"
flock 9
made=$cache/drbd-$({ declare -f build; echo "$base"; [ -z "$module" ] || cat "$module"/*.ko; } | sha256sum | cut -c1-12)
if [ ! -d "$made" ]; then
  find "$cache" -maxdepth 1 -name 'drbd-*' -type d \( -mtime +31 -o -name '*-part' \) -exec rm -rf --one-file-system {} +
  mkdir "$made-part"
  (set -e; build "$made-part") >"$cache/drbd.log" 2>&1 & # here set -e counts, in a condition not
  wait $! || fail "$cache/drbd.log: $(tail -n 1 "$cache/drbd.log")"
  mv "$made-part" "$made"
fi
echo "$made"
