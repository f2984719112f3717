package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/install"
	"holdfast/internal/pair/precheck"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	testtry "holdfast/testbed/try"
)

// pairHosts are the two nodes, the arbiter, and a machine that is none of them. Each is a network
// namespace with a system of its own: this one's, below a layer in memory.
type pairHosts struct {
	net  *nettest.Net
	exe  string
	dir  string
	pids []int // of each host's first process
}

// pairSystem makes a host's system and runs sshd in it; $1 is its folder, $2 its name, $3 the
// program.
const pairSystem = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
[ ! -e sys/devices/virtual/dmi/id ] || mount -t tmpfs tmpfs sys/devices/virtual/dmi/id
mount -t tmpfs tmpfs run
mkdir -p vms run/sshd opt/holdfast/bin root/.ssh
mount -t tmpfs -o size=64g tmpfs vms
# A database and a service as they are before a set-up.
mkdir -p var/lib/mysql/app etc/systemd/system/multi-user.target.wants
printf '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n' | tee etc/systemd/system/tomcat.service >etc/systemd/system/mariadb.service
rm -f etc/systemd/system/multi-user.target.wants/mariadb.service
hostname "$2"
echo "$2" >etc/machine-id
cp "$3" opt/holdfast/bin/holdfast
cp "$3" opt/holdfast-under-test # what is mounted below / is not here
cat >etc/ssh/sshd_pair <<END
Port 22
HostKey /run/key
PermitRootLogin yes
PasswordAuthentication yes
UsePAM no
PidFile none
END
ssh-keygen -q -t ed25519 -N "" -f run/key
chroot . chpasswd
touch run/ready
exec chroot . /usr/sbin/sshd -D -e -f /etc/ssh/sshd_pair`

// pairPasswords are root's, of each host.
var pairPasswords = []string{"here", "a & # @ $ 'b' \"c\" d", `  x"y'$(z)&#@\  `}

func newPairHosts(t *testing.T) *pairHosts {
	t.Helper()
	need.Real(t, need.Root, built, need.Programs("openssh-server", "sshd"), need.Programs("openssh-client", "ssh-keygen"),
		need.Programs("util-linux", "nsenter", "lsblk", "flock"), need.Programs("nftables", "nft"), need.Programs("procps", "pkill"))
	exe, err := filepath.Abs(theProgram)
	testtry.Must(t, err)
	p := &pairHosts{net: nettest.New(t, 4), exe: "/opt/holdfast-under-test", dir: t.TempDir()}
	for i, name := range []string{"node1", "node2", "arbiter"} {
		dir := filepath.Join(p.dir, name)
		testtry.Must(t, os.Mkdir(dir, 0o700))
		cmd := exec.Command("/bin/sh", "-c", pairSystem, "sh", dir, name, exe)
		cmd.Stdin = strings.NewReader("root:" + pairPasswords[i] + "\n")
		log, err := os.Create(filepath.Join(p.dir, name+".log"))
		testtry.Must(t, err)
		cmd.Stdout, cmd.Stderr = log, log
		// The end of its first process ends all of a host, and that of the test ends this one.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
			Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID}
		testtry.Must(t, p.net.Start(i, cmd))
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if err := log.Close(); err != nil {
				t.Error(err)
			}
			if said, err := os.ReadFile(log.Name()); t.Failed() {
				t.Logf("%s: %v\n%s", name, err, said)
			}
		})
		p.pids = append(p.pids, cmd.Process.Pid)
	}
	for i := range p.pids {
		testtry.Until(t, "sshd answers", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c, err := p.net.Dial(ctx, 0, p.addr(i)+":22")
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	return p
}

func (p *pairHosts) addr(i int) string { return p.net.Addr(i).String() }

// command is one on a host.
func (p *pairHosts) command(t *testing.T, i int, argv ...string) *exec.Cmd {
	args := append([]string{"-t", strconv.Itoa(p.pids[i]), "-m", "-u", "-n", "-p", "-r", "-w", "--"}, argv...)
	cmd := exec.CommandContext(testtry.Context(t), "nsenter", args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// sh runs a script on a host.
func (p *pairHosts) sh(t *testing.T, i int, script string) string {
	t.Helper()
	out, err := p.command(t, i, "/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("on host %d: %v: %s", i, err, out)
	}
	return string(out)
}

// files are those that a host has and the machine has not, or others.
func (p *pairHosts) files(t *testing.T, i int) string {
	t.Helper()
	name := []string{"node1", "node2", "arbiter"}[i]
	out, err := exec.CommandContext(testtry.Context(t), "nsenter", "-t", strconv.Itoa(p.pids[i]), "-m", "find",
		filepath.Join(p.dir, name, "upper"), "!", "-type", "d").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// check runs the command on the first node. It returns what failed, all findings by check, and
// the exit code.
func (p *pairHosts) check(t *testing.T, more ...string) (failed []string, all map[string]string, code int) {
	t.Helper()
	args := []string{p.exe, "pair", "check", "-o", "json", "--peer", p.addr(1), "--known-hosts", "/run/known_hosts",
		"--password-file", "/run/peer", "--unmanaged-probe", "/bin/true"}
	for i := range p.pids {
		args = append(args, "--host-key", strings.Fields(p.sh(t, i, "ssh-keygen -lf /run/key.pub"))[1])
	}
	cmd := p.command(t, 0, append(args, more...)...)
	var said strings.Builder
	cmd.Stderr = &said
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var found []map[string]string
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, said.String())
	}
	all = map[string]string{}
	for _, f := range found {
		if len(f) != 4 || f["check"] == "" || f["finding"] == "" || f["result"] != precheck.Pass && f["remedy"] == "" {
			t.Errorf("want check, result, finding and remedy: %v", f)
		}
		if f["result"] == precheck.Fail && !slices.Contains(failed, f["check"]) {
			failed = append(failed, f["check"])
		}
		all[f["check"]] += f["result"] + " " + f["finding"] + "\n"
	}
	slices.Sort(failed)
	t.Logf("%s\n%v", said.String(), all)
	return failed, all, cmd.ProcessState.ExitCode()
}

// want runs the command and compares what failed.
func (p *pairHosts) want(t *testing.T, want, more []string) map[string]string {
	t.Helper()
	failed, all, code := p.check(t, more...)
	if !slices.Equal(failed, want) || (code != 0) != (len(want) > 0) || code > 1 {
		t.Errorf("failed: %q, exit code %d, want %q", failed, code, want)
	}
	return all
}

// TestPairCheck runs the checks of a pair on hosts with a real sshd.
func TestPairCheck(t *testing.T) {
	need.Drill(t, "the checks of a pair find what is wrong with two nodes, on hosts with a real sshd, and change nothing")
	p := newPairHosts(t)
	for i, name := range []string{"peer", "third"} {
		cmd := p.command(t, 0, "/bin/sh", "-c", "umask 077; cat >/run/"+name)
		cmd.Stdin = strings.NewReader(pairPasswords[i+1] + "\n")
		testtry.Must(t, cmd.Run())
	}
	third := []string{"--arbiter", "quorum:" + p.addr(2), "--arbiter-password-file", "/run/third"}
	pings := []string{"--arbiter", "ping:" + p.addr(2) + "," + p.addr(3)}
	size := []string{"--hosts", "4", "--vms", "20"}
	free := []string{"--vip", "10.77.0.50/24"}
	given := func(all ...[]string) []string { return slices.Concat(all...) }

	p.net.Second(t, 0, 1)
	second := func(addrs ...string) []string { return []string{"--second-path", strings.Join(addrs, ",")} }
	own, other := p.net.SecondAddr(0).String(), p.net.SecondAddr(1).String()

	before := p.files(t, 1)
	all := p.want(t, nil, given(free, size, third, second(own, other)))
	if after := p.files(t, 1); after != before {
		t.Errorf("the check has changed the other node: %s\nbefore: %s", after, before)
	}
	for check, part := range map[string]string{
		"bandwidth": "measured for a second in each direction", "database": "15 GB for 4 hosts and 20 VMs",
		"space":     "node2 (10.77.0.2): 68 of 68 GB",
		"guarantee": "safe", "arbiter": "arbiter (10.77.0.3) answers", "virtual address": "no machine answers", "machines": "3 different ones",
		"second path": "pass 10.78.0.1 on eth1 and 10.78.0.2 on eth1 reach each other in both directions",
	} {
		if !strings.Contains(all[check], part) {
			t.Errorf("%s: %q, want %q", check, all[check], part)
		}
	}

	// Two networks on one card are told, and no fault.
	for i := range 2 {
		h := p.net.Host(i)
		h.IP(t, "link", "add", "link", "eth0", "name", "eth0.7", "type", "macvlan", "mode", "bridge")
		h.IP(t, "addr", "add", fmt.Sprintf("10.79.0.%d/24", i+1), "dev", "eth0.7")
		h.IP(t, "link", "set", "eth0.7", "up")
	}
	all = p.want(t, nil, given(free, size, pings, second("10.79.0.1", "10.79.0.2")))
	for i := range 2 {
		p.net.Host(i).IP(t, "link", "del", "eth0.7")
	}
	if !strings.Contains(all["second path"], "warn node2 (10.77.0.2): eth0 and eth0.7 both lie on eth0") {
		t.Errorf("two networks on one card: %q", all["second path"])
	}
	if !strings.Contains(all["guarantee"], "best effort") || !strings.Contains(all["arbiter"], "answer both nodes") {
		t.Errorf("pings alone: %q", all)
	}

	// What the installation would refuse after the word is given, and warn of.
	p.sh(t, 0, `{ printf '\376\001\012\011'; head -c 60 /dev/zero; } >/var/lib/mysql/app/log.frm; systemctl -q enable tomcat.service`)
	p.sh(t, 1, `mv /usr/bin/mbstream /usr/bin/mbstream.away; systemctl -q enable mariadb.service; cp /etc/mysql/my.cnf /run/my.cnf
rm /etc/mysql/my.cnf; printf '[mysqld]\nbinlog-ignore-db=app\n' >/etc/mysql/my.cnf`)
	all = p.want(t, []string{"database tools", "database unit", "option file"}, given(free, size, third))
	for check, part := range map[string]string{
		"database tools": "fail node2 (10.77.0.2): missing: mbstream", "database unit": "fail node2 (10.77.0.2): mariadb.service is enabled",
		"option file": "binlog_ignore_db is \"app\"", "tables": "warn node1 (10.77.0.1): of engines without transactions: app.log (MyISAM)",
		"units": "warn node1 (10.77.0.1): tomcat.service is enabled",
	} {
		if !strings.Contains(all[check], part) {
			t.Errorf("%s: %q, want %q", check, all[check], part)
		}
	}
	p.sh(t, 1, `mv /usr/bin/mbstream.away /usr/bin/mbstream; systemctl -q disable mariadb.service; mv /run/my.cnf /etc/mysql/my.cnf`)

	// The nodes differ, and what they need is taken, too small or cut off.
	p.net.Host(3).IP(t, "addr", "add", "10.77.0.50/24", "dev", "eth0")
	p.sh(t, 1, `hostname node.2
printf '#!/bin/sh\necho "holdfast 0.9.0 (go, linux/amd64)"\n' >/opt/holdfast/bin/holdfast
mount -t tmpfs -o size=20g tmpfs /vms
nft 'add table ip cut; add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in tcp dport 2380 drop'`)
	all = p.want(t, []string{"database", "host name", "reach", "second path", "software", "space", "virtual address"},
		given(free, size, third, []string{"--db-size", "9"}, second(own, other)))
	for check, part := range map[string]string{
		"virtual address": "10.77.0.50 is in use: the machine with MAC ", "software": "node.2 (10.77.0.2) has 0.9.0", "host name": `"node.2"`,
		"space": "/vms has 21 GB: want at least 30", "database": "need 15", "reach": "port 2380 of 10.77.0.2 does not answer node1",
		"second path": "port 2380 of 10.78.0.2 does not answer node1",
	} {
		if !strings.Contains(all[check], part) {
			t.Errorf("%s: %q, want %q", check, all[check], part)
		}
	}
	p.sh(t, 1, "hostname node2; cp "+p.exe+" /opt/holdfast/bin/holdfast; umount /vms; nft delete table ip cut")
	p.net.Host(3).IP(t, "addr", "del", "10.77.0.50/24", "dev", "eth0")

	wrong := func(vip, arbiter, path string) []string {
		args := given(size, []string{"--vip", vip, "--arbiter", arbiter})
		if path != "" {
			args = append(args, second(own, path)...)
		}
		return args
	}
	for _, c := range []struct {
		name, vip, arbiter string
		path               string // the other node's address on a second path
		want               []string
		check, part        string
	}{
		{"a subnet that no interface is in; an arbiter that does not answer", "10.79.0.50/24", "quorum:10.77.0.99", "",
			[]string{"arbiter", "virtual address"}, "virtual address", "10.79.0.0/24"},
		{"a broadcast address; the arbiter is a node", "10.77.0.255/24", "quorum:" + p.addr(1), "",
			[]string{"arbiter", "virtual address"}, "arbiter", "is a node of the pair"},
		{"the other node's address; an address to ping that does not answer", p.addr(1) + "/24",
			"ping:" + p.addr(2) + ",10.77.0.98", "", []string{"arbiter", "virtual address"}, "arbiter", "no answer to pings"},
		{"another length than the interface has; the arbiter's password is wrong; a second path over the first one's interface",
			"10.77.0.50/16", "quorum:" + p.addr(2), p.addr(1), []string{"arbiter", "second path", "virtual address"},
			"second path", "10.77.0.2 is on eth0, as the first path is"},
		{"a disk that is none; a second path without its address", "10.77.0.50/24", "disk:/dev/null", "10.78.0.9",
			[]string{"arbiter", "second path"}, "second path", "node2 (10.77.0.2): no interface has the address 10.78.0.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if all := p.want(t, c.want, wrong(c.vip, c.arbiter, c.path)); !strings.Contains(all[c.check], c.part) {
				t.Errorf("%s: %q, want %q", c.check, all[c.check], c.part)
			}
		})
	}

	busy := p.command(t, 1, "flock", "/run/holdfast-install.lock", "/bin/sh", "-c", "echo held; exec sleep 600")
	out, err := busy.StdoutPipe()
	testtry.Must(t, err)
	testtry.Must(t, busy.Start())
	if !waitFor(out, "held") {
		t.Error("the lock was not taken")
	}
	all = p.want(t, []string{"busy"}, given(free, size, pings))
	if !strings.Contains(all["busy"], install.Busy) {
		t.Errorf("busy: %q", all["busy"])
	}
	p.sh(t, 1, "pkill -x sleep") // the host has processes of its own only
	if err := busy.Wait(); err == nil {
		t.Error("the holder of the lock has ended by itself")
	}
	if left := fmt.Sprint(p.sh(t, 1, "ls -d /var/lib/holdfast-install.* 2>/dev/null || true")); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
