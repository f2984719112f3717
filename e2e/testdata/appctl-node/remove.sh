#!/bin/bash
# remove.sh: takes away what node.sh has made.
here=$(cd "$(dirname "$0")" && pwd)
engine-process cms stop
engine-process cantian stop
engine-process ct_om stop
engine-process cantian_exporter stop
for p in $(ps -eo pid,args | awk '/cantian_daemon.sh/ && !/awk/ {print $1}'); do kill -9 "$p"; done
for f in "$here"/tools/*; do rm -f "/usr/local/bin/$(basename "$f")"; done
rm -rf /usr/local/lib/engine /opt/cantian /opt/backup_note /var/lib/engine-rpms /var/lib/engine-units
ln -sf dash /usr/bin/sh
umount /mnt/dbdata/remote /mnt /home /sys/fs/cgroup
rm -rf /srv/shared/engine
