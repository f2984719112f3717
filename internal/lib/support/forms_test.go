package support

import (
	"slices"
	"strings"
	"testing"
)

// inLines are forms of a secret X, one a line, and inBlocks those of several lines with one behind them that has none.
const inLines = `'password' => 'X'
Password => X
password := "X"
{"password" : {"value":"X"}}
map[Authorization:[Basic X] Host:[h1]]
level=info password: a X
msg: password: a X
node.session.auth.password_in = X
discovery.sendtargets.auth.password_in = X
DBPASS=X
SSHPASS=X
MYSQLPASS=X
RABBITPWD=X
ROOTPW=X
root_pw=X
adminpw: X
novapass=X
REDISCLI_AUTH=X
psk=X
PreSharedKey = X
pre-shared-key X
pre-shared-key: X
fernet_key = X
secret_key_base: X
host_password_hash=X
passwords: [X, yX]
password_list=["X", "yX"]
password[0]=X
$cfg['Servers'][1]['password'] = 'X';
os.environ["DB_PASSWORD"] = "X"
etcdctl --user root:X get a
ETCDCTL_USER=root:X
etcdctl --user=root:X
ctsql sys/X@127.0.0.1:1611
sqlplus sys/X@db
sqlplus -s sys/X@//db:1521/o
gsql -W X -d postgres
gsql -d x -WX
docker login -u a -p X
docker login -u a -p X reg.example
htpasswd -b f u X
htpasswd -nbB u X
useradd -p 'X' op
usermod -p X op
openssl enc -k X -in a
smbclient -U user%X //h/s
smbclient //h/s -U 'user%X y'
mysql "-pX"
mysql -uroot '-pX' -e x
mysql\x20-pX
mysql\x20-uroot\x20-pX
echo X | sudo -S ls
echo 'X' | sudo -S -u root ls
printf 'root:%s\n' X | chpasswd
snmpwalk -v2c -c X 10.0.0.1
rocommunity X
rocommunity X 10.0.0.0/8
com2sec notConfigUser default X
com2sec readonly 10.0.0.0/8 X
Nov 28 h1 snmpd[3]: line 3: rocommunity X
root:X@/dbname
connect root:X@/dbname
https://X@git.example/a
git clone https://X:x-oauth-basic@github.com/a
ssh root:X@host
scp f root:X@h1:/tmp
IDENTIFIED VIA unix_socket OR mysql_native_password USING 'X'
ALTER USER a IDENTIFIED VIA ed25519 USING 'yX' OR mysql_native_password USING 'X'
ALTER USER a IDENTIFIED WITH mysql_native_password AS 'X'
requirepass X
masterauth X
config set requirepass X
userPassword: {SSHA}X
x {SSHA}X y
u:$apr1$ab$X
token ghp_X1234567890
set_password vnc X
(qemu) set_password spice X
change vnc password X
<secret type='iscsi' value='X'/>
2026-01-01T00:00:00 1 [Note] A temporary password is generated for root@localhost: X
new password for root: X
initial password "X"
The initial password is "X".
the generated password is X.
密码是X
密码为 X
初始密码为：X
密码 是 “X”
口令=X
{"name":"DB_PASSWORD","value":"X"}
<param name="password" value="X"/>
('password', 'X')
| adminPass | X |
| admin_password | X            |
password="""X"""
password='it'\''sX'
{"a":"{\"password\": [\"yX\",\"X\"]}","b":"c"}
&{User:root Password:X Host:h1}
{User:root Password:a X Host:h1}
export PGPASSWORD=X psql -h h1
PGPASSWORD="X y" psql
['mysql', '-uroot', '-pX']
["docker","login","-p","X"]
["etcdctl","--user","root:X"]
{"cmd":"etcdctl --user root:X get a","host":"h"}
mongo -u a -p X --host h
redis-cli -a X ping
redis-cli -h h -aX ping
zip -P X a b
7z x -pX a
plink -pw X root@h
sshpass -pX ssh h
curl -u "op:X" https://h
curl --user=op:X https://h
machine h1 login op password X
auth_pass X
    auth_pass X
rootpw --iscrypted X
Set-Cookie: sid=X; Path=/
Y-Auth-Token: X
{"Y-Auth-Token":["X"]}
password%3DX&a=b
GET /?token=X&user=op HTTP/1.1
'admin' password set to X
password changed to 'X'
AWS_SECRET_ACCESS_KEY=X
JDBC: jdbc:mysql://h/db?user=root&password=X&useSSL=false
passwd --stdin root <<< X
chpasswd <<< 'root:X'
user 'a' identified by "X"
password\u003dX
[b'password', b'X']
password: !vault X
password: 'X
password="a b X
nmcli dev wifi connect s password X
nmcli c mod x wifi-sec.psk X
PASSWORD='a"y"X'
eyJhbGciOiJI.eyJzdWIiOiIxMjM.X
['ms_recovery.sh', '10.0.0.2', 'yX', 'X']`

// alone are forms that are known by their lines only.
var alone = []string{
	"password X\nnext: 1",
	"Nov 28 10:00:01 h1 a[3]: password: |\nNov 28 10:00:02 h1 a[3]:   X\nNov 28 10:00:02 h1 a[3]: next: 1",
}

var inBlocks = []string{
	"password: |\n  X\nnext: 1",
	"password: >-\n  a b\n  X\nnext: 1",
	"a:\n  password: |\n    X\n  next: 1",
	"passwords:\n- X\n- yX\nnext: 1",
	"tokens:\n  - X\n  - yX\nnext: 1",
	"tokens:\n  a: X\n  b:\n    c: X\nnext: 1",
	"- password: |\n    X\n  next: 1",
	"{\n  \"passwords\": [\n    \"X\",\n    \"yX\"\n  ],\n  \"next\": 1\n}",
	"{\n\t\"password\": {\n\t\t\"value\": \"X\"\n\t},\n\t\"next\": 1\n}",
	"password:\nX\nnext: 1",
	"Enter password:\n  X\nnext: 1",
	"passwords = [\n  'X',\n]\nnext: 1",
	"password: \"a\n  X\"\nnext: 1",
	"tool --password \\\n  X\nnext: 1",
	"password: |  # c\n  X\n\n  yX\nnext: 1",
	"secrets: !!seq\n- X\nnext: 1",
	"$a['passwords'] = array(\n  'X',\n);\nnext: 1",
}

// TestForms: of a secret in each form nothing is left, and what is no part of it stays.
func TestForms(t *testing.T) {
	r := NewRedactor(nil)
	const secret = "Hunter2-x"
	for form := range strings.SplitSeq(inLines, "\n") {
		text := "10:00:01 before\n" + strings.ReplaceAll(form, "X", secret) + "\n10:00:02 behind"
		got := string(r.Pass([]byte(text)))
		if strings.Contains(got, "Hunter") || strings.Contains(got, "2-x") || !strings.Contains(got, removed) {
			t.Errorf("%s\nbecomes %s", text, got)
		}
		if !strings.HasPrefix(got, "10:00:01 before\n") || !strings.HasSuffix(got, "\n10:00:02 behind") {
			t.Errorf("%s\ntakes more: %s", text, got)
		}
	}
	for _, form := range slices.Concat(inBlocks, alone) {
		text := strings.ReplaceAll(form, "X", secret)
		got := string(r.Pass([]byte(text)))
		if strings.Contains(got, "Hunter") || strings.Contains(got, "2-x") || !strings.Contains(got, "next") {
			t.Errorf("%s\nbecomes %s", text, got)
		}
	}
}

// ordinary are lines without secrets.
const ordinary = `2026-01-01T10:00:00 h1 holdfast[7]: the agent of h2 (10.0.0.2:7400) answers
Failed password for root from 10.0.0.1 port 22 ssh2
Access denied for user 'root'@'localhost' (using password: YES)
nova-compute[3]: req-1234 instance 6f1c8c1e-1111-2222-3333-444455556666: state=active
password_file=/etc/a
systemd[1]: systemd-ask-password-console.service: Deactivated
"AllowResetRootPassword": true, "a": 1
"credentials_file": "/etc/a",
pam_unix(sshd:auth): authentication failure; logname= uid=0
sshd: root@pts/0
git@github.com:org/repo.git
qemu+ssh://root@h1/system
mysql://root@h1/db
12: veth0@if11: <BROADCAST>
mysql -uroot -h h1 -P 3306
ssh -p 22 root@h1
docker run -p 80:80 x
level=info msg="token expired" host=h1
getty@tty1.service
postgresql@14-main.service: started
bypass: on, compass=1
Nov 28 10:00:00 h1 CRON[3]: pam_unix(cron:session): session opened for user root(uid=0) by root(uid=0)
its password is wrong, and a password is not set
default_authentication_plugin=mysql_native_password
id: 6f1c8c1e-1111-2222-3333-444455556666
root     123  0.0 /usr/sbin/mysqld --port=3306
net: eth0 carrier lost
fence_ipmilan: power of h2 is off
2026-01-01 10:00:00+00:00 [Warning] Aborted connection 5 to db: 'nova' user: 'nova' host: '10.0.0.1'
the passwords of both nodes are the same:
<secret type='ceph' uuid='1-2'/>
{"time":"2026-01-01T10:00:00Z","level":"WARN","msg":"the key of h2 is not readable","guest":"vm1","token_type":"x"}
mon.h1@0(leader) e3 handle_auth_request
ceph: keyring /etc/ceph/ceph.client.admin.keyring
libvirtd[7]: End of file while reading data: Input/output error
rabbit@h1: partition: [rabbit@h2]
{"password":"","user":"op"}
pwd is /root; key_buffer_size=128M
[Note] Plugin 'caching_sha2_password' is active`

// TestOrdinaryLines: times, identifiers, names of hosts and what else is no secret stay.
func TestOrdinaryLines(t *testing.T) {
	r := NewRedactor(nil)
	for line := range strings.SplitSeq(ordinary, "\n") {
		if got := string(r.Pass([]byte(line))); got != line {
			t.Errorf("%s\nbecomes %s", line, got)
		}
	}
}
