#!/usr/bin/env bash
# Installs what tests need, on Debian 12 or a system like it: test-deps.sh test|drills
# It says first what it will install and how large that is. Does nothing when it is all
# there. Without root it says in one line what is missing and goes on: the tests that
# need it then say that they are left out.
set -euo pipefail
packages=(
  gcc libc6-dev make git # the race detector
  libvirt-daemon libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu
  qemu-system-x86 qemu-utils busybox-static openipmi
  iproute2 nftables iptables iputils-ping dpkg groff-base openssh-server
  mariadb-server-core mariadb-client mariadb-backup zstd
  openvswitch-switch                            # pins
  neutron-server neutron-common python3-pymysql # networks are rebuilt in it
  chromium # pages of the console
  prometheus # promtool tries the alerts
)
case ${1-} in
  test) ;;
  drills) packages+=(
    qemu-system-arm qemu-efi-aarch64 # a guest for arm64 hosts, emulated
    qemu-guest-agent debootstrap ipmitool python3-pyghmi
    sg3-utils # persistent reservations, to compare with
    tgt libvirt-daemon-driver-storage-iscsi-direct qemu-block-extra # a SAN in user space, and pools and disks on it
    ceph-mon ceph-osd ceph-common # images in a Ceph pool
    nova-common nova-api nova-conductor nova-scheduler nova-compute placement-common # they read aligned rows,
    glance-common glance-api cinder-common cinder-api cinder-scheduler cinder-volume # and are a whole platform
    rabbitmq-server neutron-openvswitch-agent neutron-dhcp-agent dnsmasq-base # agents on a host of it
    keystone # which tokens Neutron takes
  ) ;;
  *) echo "test-deps.sh: ${1-nothing}: want test or drills" >&2; exit 2 ;;
esac
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$p")
done
# The laboratory's guest is built once, from a kernel package that apt must know.
guest=/var/cache/holdfast-lab
apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
if [ ${#missing[@]} -eq 0 ]; then
  [ "$(id -u)" -ne 0 ] || [ -e $guest ] || "${apt[@]}" update
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  if sudo -n true 2>/dev/null; then exec sudo "$0" "$1"; fi
  echo "not installed, and this is not root: ${missing[*]}"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# No daemon is to be started on this machine: the laboratory starts its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
"${apt[@]}" update
echo "installing, which takes some minutes: ${missing[*]}"
# Two lines of apt's own: how much is fetched, and what it takes on the disk.
apt-get install --no-install-recommends --assume-no "${missing[@]}" 2>/dev/null | grep -E '^(Need to get|After this operation)' || true
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
