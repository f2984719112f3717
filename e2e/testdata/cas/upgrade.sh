#!/bin/bash
# Stands in for the upgrade.sh of a package of CAS. As that does, it upgrades all hosts from
# the active manager, stops the services of a hot-standby pair and leaves them stopped, and
# ends with 0 whatever has happened. Releases before E0509 speak in another way than later
# ones. With a file "lies" in the package it says that all is well, and changes nothing.
#
# The hosts of the platform are folders in /srv/shared/cas/hosts, in place of ssh to them.
cas=/srv/shared/cas
version=$(cat ./version) || exit 0 # of the package: it must be run as ./upgrade.sh
old=
[[ $version > E0509 ]] || old=yes

if [ "$(cat $cas/active)" != "$(hostname)" ] || [ -e $cas/mysql-away ]; then
	[ -z "$old" ] || printf '%s\n' 'start: Job is already running: cron' "Log time: $(date '+%F %T')" '=====END====='
	echo "ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/var/run/mysql/mysql.sock' (2)"
	echo "Not find any CVKs, maybe current host is not alive CVM. Please check."
	exit 0
fi
if [ ! -e lies ]; then
	for host in $cas/hosts/*; do
		echo "V500R001B01D006 V5.0 $version Enterprise 45807." >"$host/version"
	done
	rm -f $cas/running/*
fi
if [ -n "$old" ]; then
	cat <<-END
		Stopping service...
		......
		success to stop resource service...
		Starting resource service...
		......
		success to start resource service...
		Log time: $(date '+%F %T').
		Upgrading finished. The current version is:
		V500R001B01D006 V5.0 $version Enterprise 45807.
		=====END=====
		The host kernels have been upgraded. Please restart the hosts before performing any other operations.
		The system is a stateful failover system, and the kernel has been upgraded. Please enable stateful failover after the CVM host reboots.
		To enable stateful failover, execute the cvm_resource_start.sh script.
	END
	exit 0
fi
report=/var/log/upgrade/postcheck-report_$(date +%Y%m%d%H%M%S).txt
mkdir -p /var/log/upgrade
{
	echo "[ -OK- ] Start all services on CVM... Done."
	echo "[ -OK- ] Upgrade CAS($version) is done!"
	echo "[INFO] Upgrade end time: $(date '+%F %T')."
	echo "[INFO] Begin to post-check status of CAS environment. Please wait...."
	echo "[ -OK- ] Single path of shared storage pools post-check... Done."
	for host in $cas/hosts/*; do
		echo "[ -OK- ] Host(${host##*/}) post-check... Done."
	done
	echo "[ -OK- ] Post-check status of CAS environment... Done."
} | tee "$report"
cat <<END
[WARN] Please see the post-check report for more detailed results: $report
[WARN] The kernel of system has been upgraded and this is stateful failover system. The following step must be execute:
1) Reboot the upgraded host manually before performing any other operations.
2) Enable stateful failover after the CVM host reboots. To enable stateful failover, execute the cvm_resource_start.sh script on master CVM.
END
