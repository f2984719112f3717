#!/usr/bin/env bash
# Makes a clean Debian root with systemd, libvirt, QEMU and rpm, for tests of the packages,
# and a disk and a kernel to boot it, and prints the directory they are in: root.sh [CACHE]
#   root/  disk.img  vmlinuz  initrd.gz
# They are made once for this script and each month, and kept in CACHE, by default
# /var/cache/holdfast-lab; that takes minutes. Nobody may change them: work on a copy.
set -euo pipefail
cache=${1:-/var/cache/holdfast-lab}
release=bookworm
# libvirt and QEMU are what a host has; rpm reads the other package; man checks the pages.
packages=(systemd-sysv dbus kmod iproute2 procps libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu
  qemu-system-x86 busybox-static rpm man-db bash-completion)
fail() {
  echo "no clean root: $1" >&2
  exit 1
}

# build is run with every command checked; what it says is in root.log.
build() {
  local mirror=http://deb.debian.org/debian dir=$1
  debootstrap --variant=minbase --include=ca-certificates $release "$dir" $mirror
  cat >"$dir/etc/apt/sources.list" <<-END
	deb $mirror $release main
	deb $mirror $release-updates main
	deb http://deb.debian.org/debian-security $release-security main
	END
  apt-config dump | grep -E '^Acquire::https?::Proxy' >"$dir/etc/apt/apt.conf.d/90proxy" || true
  cp -rL /etc/ssl/certs/. "$dir/etc/ssl/certs/" || true # what a proxy may need
  cp -L /etc/resolv.conf /etc/hosts "$dir/etc/"
  printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d" # no daemon is started
  chmod +x "$dir/usr/sbin/policy-rc.d"
  unshare --mount --pid --fork --kill-child sh -euc 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -euc "$1"' "$dir" "
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends ${packages[*]} >/dev/null
    cd /tmp
    # Not installed: nothing here boots by itself.
    apt-get -qq -o APT::Sandbox::User=root download \$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p')
    dpkg-deb --fsys-tarfile linux-image-*.deb | tar -C / --keep-directory-symlink -xf -
    depmod \$(ls /lib/modules)
    rm -rf linux-image-*.deb /usr/sbin/policy-rc.d /var/lib/apt/lists/*
    apt-get clean"
}

made=$cache/root-$({ declare -f build disk; echo "${packages[@]}"; date +%Y%m; } | sha256sum | cut -c1-12)
# disk makes a file system of the root, and an initramfs that mounts it.
disk() {
  local root=$1/root m d=$1/initrd
  cp "$root"/boot/vmlinuz-* "$1/vmlinuz"
  mkdir -p "$d"/{bin,dev,proc,new}
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
	busybox mount -t ext4 /dev/vda /new
	busybox umount /proc
	exec busybox switch_root /new /sbin/init
	END
  chmod +x "$d/init"
  (cd "$d" && find . | "$root/bin/busybox" cpio -o -H newc | gzip -1) >"$1/initrd.gz"
  truncate -s 1200M "$1/disk.img"
  mkfs.ext4 -q -m 0 -d "$root" "$1/disk.img"
  rm -r "$d"
}

[ "$(id -u)" -eq 0 ] || fail "this is not root"
command -v debootstrap >/dev/null || fail "there is no debootstrap"
mkdir -p "$cache"
exec 9>"$cache/root.lock"
flock 9
if [ ! -d "$made" ]; then
  # Those of other months; one of another checkout may be in use.
  find "$cache" -maxdepth 1 -name 'root-*' -type d \( -mtime +31 -o -name '*-part' \) -exec rm -rf --one-file-system {} +
  mkdir "$made-part"
  (set -e; build "$made-part/root"; disk "$made-part") >"$cache/root.log" 2>&1 & # here set -e counts, in a condition not
  wait $! || fail "$cache/root.log: $(tail -n 1 "$cache/root.log")"
  mv "$made-part" "$made"
fi
echo "$made"
