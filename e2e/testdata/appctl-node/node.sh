#!/bin/bash
# node.sh PACKAGE NODE NODES VERSION: makes this host of the laboratory node NODE of NODES of
# an engine in VERSION, with the data in files, that was installed from the scripts of the
# unpacked PACKAGE. What stands for the engine itself and for tools of the platform (rpm,
# cms, tree, systemctl, ping, sleep and others) is beside this script; the deploy scripts are the
# package's. The shared file systems of the nodes are SHARED, by default in /srv/shared.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
package=$1 node=$2 nodes=$3 version=$4
shared=${SHARED:-/srv/shared/engine}
D=/opt/cantian

ln -sf bash /usr/bin/sh # scripts of the package are called by sh, and are for bash
/usr/bin/mountpoint -q /mnt || mount -t tmpfs tmpfs /mnt
/usr/bin/mountpoint -q /home || mount -t tmpfs tmpfs /home
# A host of the laboratory has no control groups: those that the engine makes are folders.
if [ ! -d /sys/fs/cgroup/memory ]; then
	mount -t tmpfs tmpfs /sys/fs/cgroup
	mkdir /sys/fs/cgroup/memory
fi
mkdir -p $shared/{metadata_meta,share_share/gcc_home,archive_archive} /mnt/dbdata/remote /mnt/dbdata/local/cantian/tmp/data/cfg
/usr/bin/mountpoint -q /mnt/dbdata/remote || mount --bind $shared /mnt/dbdata/remote
for user in cantian ctdba ctmgruser; do
	getent group $user >/dev/null || groupadd $user
	id $user >/dev/null 2>&1 || useradd -m -s /bin/bash -g $user $user
	install -d -o $user -g $user /home/$user
	echo 'export PATH=/usr/local/bin:/usr/bin:/bin' >/home/$user/.bashrc
done
getent group cantiangroup >/dev/null || groupadd cantiangroup
usermod -a -G cantiangroup cantian
usermod -a -G cantiangroup ctmgruser

# Tools. Programs of the engine have its names in the process table.
install -m 755 "$here"/tools/* /usr/local/bin/
install -d /usr/local/lib/engine
for p in cms cantiand; do install -m 755 /usr/bin/sleep /usr/local/lib/engine/$p; done
for m in requests paramiko; do
	python3 -c "import $m" 2>/dev/null || { install -d /usr/lib/python3/dist-packages/$m && touch /usr/lib/python3/dist-packages/$m/__init__.py; }
done
rm -rf $D /opt/backup_note /var/lib/engine-rpms /var/lib/engine-units
mkdir -p $D/{action,config,common,repo,image} $D/log/{deploy,cantian,cms,ct_om,cantian_exporter,logicrep,mysql} $D/{cms/service,cms/cfg,cantian/server,cantian/cfg} \
	$D/mysql/{install/mysql/lib,server} $D/ct_om/{log,service/ctmgr/scripts}
cp -a "$package"/action/. $D/action/
cp -a "$package"/common/. $D/common/
cp -a "$package"/config/. $D/config/
sed "s/Version: .*/Version: $version/" "$package"/versions.yml >$D/versions.yml
ips=10.0.0.1
for ((i = 2; i <= nodes; i++)); do ips="$ips;10.0.0.$i"; done
cat >$D/config/deploy_param.json <<J
{"deploy_user": "ctdba:ctdba", "node_id": "$node", "cms_ip": "$ips", "storage_dbstor_fs": "dbfs", "storage_share_fs": "share", "storage_archive_fs": "archive", "storage_metadata_fs": "meta", "share_logic_ip": "10.0.0.9", "archive_logic_ip": "10.0.0.9", "metadata_logic_ip": "10.0.0.9", "db_type": "1", "MAX_ARCH_FILES_SIZE": "300G", "mysql_in_container": "0", "mysql_metadata_in_cantian": true, "storage_logic_ip": "10.0.0.9", "deploy_mode": "file", "mes_ssl_switch": false, "cantian_in_container": "0", "deploy_policy": "default", "link_type": "0", "redo_num": "6", "redo_size": "5G", "cluster_id": "0", "mes_type": "TCP"}
J
sed -i 's/"dbstor"//; s/"logicrep"//' $D/action/env.sh # as the installation does in this mode
[ ! -e $D/action/modify_env.py ] || python3 $D/action/modify_env.py
short=${version%.B*}
engine-image "$short" $D/image
connector=$D/image/cantian_connector
mkdir -p $connector/for_mysql_official/mf_connector_mount_dir/{inspection,plugin,cantian_lib} $connector/cantian-connector-mysql/scripts
printf '#!/bin/bash\nexit 0\n' | tee $connector/for_mysql_official/patch.sh >$D/ct_om/service/ctmgr/scripts/start_ctmgr.sh
cp $D/ct_om/service/ctmgr/scripts/{start,stop}_ctmgr.sh
for d in cms/service cantian/server; do cp -a $D/image/Cantian-RUN-CENTOS-64bit/. $D/$d/; done
echo '{"start_status": "started", "db_create_status": "done", "ever_started": true}' >$D/cantian/cfg/start_status.json
echo '{}' >$D/cantian/cfg/cpu_config.json
touch $D/log/{deploy/deploy,cantian_exporter/cantian_exporter,ct_om/ct_om}.log
touch $D/cms/cfg/cms.ini /mnt/dbdata/local/cantian/tmp/data/cfg/cantiand.ini
for r in cantian ct_om; do
	echo old >$D/repo/$r-$short.x86_64.rpm
	echo $r-$short.x86_64 >>/var/lib/engine-rpms
done
mkdir -p /var/lib/engine-units
touch /var/lib/engine-units/cantian{,_logs_handler}.timer.{active,enabled}
cp $D/config/*.service $D/config/*.timer /etc/systemd/system/ 2>/dev/null || mkdir -p /etc/systemd/system
chown -R cantian:cantian $D/cms $D/cantian /mnt/dbdata/local
chown -R ctmgruser:cantiangroup $D/ct_om
chmod -R a+rX $D/ct_om $D/image
chmod 777 $D $D/log $D/log/* /mnt/dbdata/remote/*
echo "${short//.0/.}.0" >$shared/engine-version
: >$shared/ctsql-audit
chmod 666 $shared/engine-version $shared/ctsql-audit
for m in cms cantian ct_om cantian_exporter; do engine-process $m start; done
setsid sh $D/common/script/cantian_daemon.sh </dev/null >/dev/null 2>&1 &
