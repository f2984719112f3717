#!/usr/bin/env bash
# Installs what the tests and `holdfast demo --real` need, on Debian 12 or a
# system like it. Does nothing when it is all there; without root it says what
# is missing and goes on: the layers that need it then say that they skip.
set -euo pipefail
packages=(
  gcc libc6-dev make git            # the race detector
  libvirt-daemon libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu
  qemu-system-x86 qemu-utils qemu-guest-agent busybox-static
  qemu-system-arm qemu-efi-aarch64  # a guest for arm64 hosts, emulated (12 MB to fetch)
  iproute2 nftables iptables iputils-ping dpkg debootstrap openipmi ipmitool python3-pyghmi
  openssh-server # installations
  sg3-utils # persistent reservations, to compare with
  tgt libvirt-daemon-driver-storage-iscsi-direct qemu-block-extra # a SAN in user space, and pools and disks on it
  ceph-mon ceph-osd ceph-common # images in a Ceph pool (42 MB to fetch, 167 MB)
  mariadb-server-core mariadb-client mariadb-backup zstd
  openvswitch-switch # pins
  nova-common nova-api nova-conductor glance-common cinder-common python3-pymysql # they read aligned rows
  neutron-server neutron-common # networks are rebuilt in it
  rabbitmq-server neutron-openvswitch-agent # an agent on a host of it
  keystone                          # which tokens Neutron takes
)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$p")
done
# The laboratory's guest is built once, from a kernel package that apt must know.
guest=/var/cache/holdfast-lab
if [ ${#missing[@]} -eq 0 ]; then
  [ "$(id -u)" -ne 0 ] || [ -e $guest ] || apt-get -qq -o DPkg::Lock::Timeout=300 update
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  if sudo -n true 2>/dev/null; then exec sudo "$0"; fi
  echo "not installed, and this is not root: ${missing[*]}"
  exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# No daemon is to be started on this machine: the laboratory starts its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" >/dev/null
