#!/bin/bash
# leaves.sh PACKAGE: puts what stands for the engine itself in place of the few scripts of a
# package that start, stop or ask the engine. All that deploys stays as it is.
set -eu
cd "$1"
for m in cms cantian ct_om cantian_exporter; do
	for verb in start stop check_status; do
		mkdir -p action/$m
		printf '#!/bin/bash\nengine-process %s %s\n' $m $verb >action/$m/$verb.sh
	done
done
printf '#!/bin/bash\nread -r password\n[ "$password" = "%s" ]\n' "Gauss@123 or so" >action/cantian/upgrade_checkpoint.sh
[ ! -e action/cantian/cantian_post_upgrade.py ] || echo 'import sys' >action/cantian/cantian_post_upgrade.py
printf '#!/bin/bash\nwhile :; do /usr/bin/sleep 3600; done\n' >common/script/cantian_daemon.sh
mkdir -p repo for_mysql_official
printf '#!/bin/bash\nCONNECTOR_PKG_PREFIX_NAME="connector.tgz"\n' >for_mysql_official/patch.sh
mkdir ../connector
touch ../connector/{libctc_proxy.so,ha_ctc_share.so,ha_ctc_noshare.so}
tar -czf ../connector.tgz -C .. connector
rm -r ../connector
: >repo/cantian-25.06.x86_64.rpm
: >repo/ct_om-25.06.x86_64.rpm
