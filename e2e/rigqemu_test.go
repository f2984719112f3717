package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/drbdnode"
	"holdfast/testbed/lab"
	"holdfast/testbed/nettest"
	helper "holdfast/testbed/try"
)

// drbdRig is laboratory B: two emulated hosts n1 and n2 with the real DRBD,
// each with the program's agent and MariaDB; a third voter and the clients are on this machine, on hosts of
// their own of the same switch.
type drbdRig struct {
	t       *testing.T
	net     *nettest.Net
	node    [2]*drbdnode.Node
	exe     string // on this machine
	dir     string
	clients *pairClients
	third   *exec.Cmd // the voter's agent; nil: it has no power
	socket  string    // of the nodes' database
	log     string    // command on a node that shows what its agent says
	device  deviceOptions
	ca      pki.CA // of a laboratory whose databases replicate
}

// deviceOptions are what differs between the laboratories of kind B. Zero: data on DRBD.
type deviceOptions struct {
	replicated bool  // the databases replicate; there is no device for the data
	spare      int64 // bytes of a disk of each node besides, /dev/vdc; 0: none
}

// Hosts of the switch: the voter and the clients; the nodes have addresses beside theirs.
const (
	drbdVoter = iota
	drbdClient
	drbdHosts
)

// Paths on the nodes.
const (
	drbdExe    = "/usr/bin/holdfast"
	drbdHome   = "/srv"
	drbdSocket = "/run/database/socket"
	drbdVIP    = "10.77.0.100"
)

var drbdAddr = [2]string{"10.77.0.11", "10.77.0.12"}

// newB makes laboratory B without its nodes. socket and log are those of the rig.
func newB(t *testing.T, socket, log string) *drbdRig {
	t.Helper()
	needLab(t)
	if err := takeDown(); err != nil { // there is room for one laboratory
		t.Fatal(err)
	}
	exe, err := filepath.Abs(theProgram)
	helper.Must(t, err)
	return &drbdRig{t: t, net: nettest.New(t, drbdHosts), exe: exe, dir: helper.ShortDir(t), socket: socket, log: log}
}

// newDevice makes the laboratory.
func newDevice(t *testing.T, o deviceOptions) *drbdRig {
	t.Helper()
	r := newB(t, drbdSocket, "tail -n 40 /srv/agent.log; tail -n 15 /srv/data/pair/database.log")
	r.device = o
	helper.Must(t, os.Symlink(filepath.Dir(r.exe), filepath.Join(r.dir, "bin")))
	memory, home := 704, int64(256<<20)
	if o.spare > 0 {
		memory = 1024 // with a second device and a second file system
	}
	files := []string{r.exe, "/usr/sbin/mariadbd", "/usr/bin/mariadb", "/usr/share/mysql/english", "/usr/share/mysql/charsets", r.template()}
	if o.replicated {
		var err error
		r.ca, err = pki.NewCA("laboratory b", time.Hour) // a copy goes from agent to agent
		helper.Must(t, err)
		home *= 2 // the database, and a second copy while it is made anew
		for _, tool := range install.DatabaseTools() {
			files = append(files, "/usr/bin/"+tool)
		}
	}
	r.node = drbdnode.Make(t, drbdnode.Options{
		Pkg: "holdfast/testbed/drbdnode", Memory: memory, Disk: 128 << 20, Home: home, Spare: o.spare, Files: files,
		Taps: [2]*os.File{r.net.Tap(t, "t1"), r.net.Tap(t, "t2")},
	})
	for i := range r.node {
		r.start(i)
	}
	for _, d := range []string{"data", "run"} {
		helper.Must(t, os.Mkdir(filepath.Join(r.dir, d), 0o700))
	}
	r.voter()
	t.Cleanup(func() {
		r.noVoter()
		if t.Failed() {
			b, err := os.ReadFile(r.voterLog())
			t.Logf("the voter's log: %v: %s", err, b[max(0, len(b)-3000):])
		}
	})
	return r
}

// template is an empty database that the nodes begin with.
func (r *drbdRig) template() string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "template")
	drbdnode.EmptyDatabase(r.t, dir)
	return dir
}

// installs stands for mariadb-install-db on the nodes.
const installs = `#!/bin/sh
for a; do case $a in --datadir=*) exec cp -a %s/. "${a#--datadir=}/" ;; esac; done
exit 1
`

// drbdLease is the lease of such a pair. Within longDown a node that took its end for a proof would serve: an emulated one
// needs half a minute for its start.
const (
	drbdLease = 18 * time.Second
	longDown  = drbdLease + 35*time.Second
)

// files are the configuration of the cluster and the settings of a host's agent.
func (r *drbdRig) files(host, addr, home string) (cl, settings []byte) {
	r.t.Helper()
	conf := config.Cluster{
		Node: []string{drbdAddr[0] + " n1", drbdAddr[1] + " n2", r.net.Addr(drbdVoter).String() + " n3"},
		Type: config.PairConf, ChronyServers: []string{"192.0.2.9"},
		// Emulated hosts are slow: three times what hosts have.
		TimingConf: config.Timings{
			Lease: config.Duration(drbdLease), Watchdog: config.Duration(14 * time.Second), Keepalive: config.Duration(2 * time.Second),
			Election: config.Duration(6 * time.Second), Heartbeat: config.Duration(time.Second), Detection: config.Duration(8 * time.Second),
		},
		Pair: &config.Pair{
			Nodes:    []string{"n1", "n2"},
			Patience: config.Duration(30 * time.Second),
			Database: &config.PairDatabase{OptionFile: "/etc/my.cnf", User: "root", Socket: drbdSocket},
			Group:    []config.PairMember{{VIP: drbdVIP + "/24"}},
		},
	}
	switch {
	case r.device.replicated:
		d := conf.Pair.Database
		d.Datadir = drbdHome + "/mysql"
		d.Admin = config.PairAccount{User: "holdfast", Credential: "file:" + drbdHome + "/admin"}
		d.Replication = config.PairAccount{User: "replication", Credential: "file:" + drbdHome + "/replication"}
	default:
		conf.Pair.Device = &config.PairDevice{Disk: "/dev/vda", Mount: "/mnt/pair"}
	}
	scheme := "http"
	if r.device.replicated {
		scheme = "https"
	}
	url := func(addr string, port int) string { return fmt.Sprintf("%s://%s:%d", scheme, addr, port) }
	n := config.Node{
		Host: host, Addr: addr, Cluster: "laboratory-b", DataDir: home + "/data", RunDir: home + "/run",
		ConfigFile: home + "/cluster.json", Driver: "libvirt",
		Libvirt: config.Libvirt{Socket: "/run/no-libvirt"},
		Store: config.Store{Member: &config.Member{
			ListenPeer: url(addr, 2380), PeerURL: url(addr, 2380), ListenClient: url(addr, 2379),
			ClientURL: url(addr, 2379), Initial: map[string]string{},
		}},
		Watchdog: config.Watchdog{Device: "/dev/watchdog0"}, Undersized: true,
	}
	if r.device.replicated {
		n.API.Listen = net.JoinHostPort(addr, strconv.Itoa(lab.APIPort))
		n.TLS = config.TLS{CA: home + "/ca.pem", Cert: home + "/host.pem", Key: home + "/host.key"}
	}
	if host == "n3" {
		n.Watchdog.Device = config.NoWatchdog
	} else {
		n.RunDir = "/run/holdfast" // empty after a boot
	}
	for i, a := range []string{drbdAddr[0], drbdAddr[1], r.net.Addr(drbdVoter).String()} {
		n.Store.Endpoints = append(n.Store.Endpoints, url(a, 2379))
		n.Store.Member.Initial[fmt.Sprintf("n%d", i+1)] = url(a, 2380)
	}
	settings, err := json.Marshal(n)
	helper.Must(r.t, err)
	return conf.JSON(), settings
}

// start starts the agent of a node that has booted.
func (r *drbdRig) start(i int) {
	r.t.Helper()
	n := r.node[i]
	cl, settings := r.files(n.Name(), drbdAddr[i], drbdHome)
	template, data := filepath.Join(r.dir, "template"), ""
	if r.device.replicated {
		data = template
	}
	n.Run("sh", "-c", `set -e
		mkdir -p /srv /mnt/pair /run/holdfast /usr/bin
		head -c 1048576 /dev/vdb | tr -d '\0' | grep -q . || mkfs.ext4 -q /dev/vdb
		mount /dev/vdb /srv
		ip addr add "$1/24" dev eth1
		[ -e "$2" ] || ln -s "$6" "$2"
		printf '%s' "$5" >/usr/bin/mariadb-install-db && chmod +x /usr/bin/mariadb-install-db
		printf '[mysqld]\ninnodb_buffer_pool_size=24M\ninnodb_log_file_size=4M\ninnodb_data_file_path=ibdata1:6M:autoextend\nperformance_schema=OFF\nskip_name_resolve\ntmpdir=/tmp\npid-file=/run/pid\n' >/etc/my.cnf
		[ -z "$7" ] || [ -e /srv/mysql ] || cp -a "$7" /srv/mysql
		(umask 077; echo "an admin's password" >/srv/admin; echo "a replica's password" >/srv/replication)
		printf '%s' "$3" >/srv/cluster.json
		printf '%s' "$4" >/srv/agent.json`,
		"sh", drbdAddr[i], drbdExe, string(cl), string(settings), fmt.Sprintf(installs, template), r.exe, data)
	r.certify(n.Name(), drbdAddr[i], func(name string, text []byte) {
		n.Run("sh", "-c", `umask 077; printf '%s' "$2" >"/srv/$1"`, "sh", name, string(text))
	})
	r.agentAgain(i)
}

// certify writes the certificates of a host that has one, by put.
func (r *drbdRig) certify(host, addr string, put func(name string, text []byte)) {
	r.t.Helper()
	if !r.device.replicated {
		return
	}
	p, err := r.ca.Issue(host, []netip.Addr{netip.MustParseAddr(addr), netip.MustParseAddr("127.0.0.1")}, []string{"localhost"}, time.Hour)
	helper.Must(r.t, err)
	put("ca.pem", r.ca.CertPEM())
	put("host.pem", p.CertPEM)
	put("host.key", p.KeyPEM)
}

// agentAgain starts the agent of a node that has its files. What it says is on the console, too, which is left of a node that was reset.
func (r *drbdRig) agentAgain(i int) {
	r.t.Helper()
	r.node[i].Run("sh", "-c", `export PATH=$PATH:/usr/sbin:/usr/bin
		(setsid /usr/bin/holdfast agent --insecure --config /srv/agent.json 2>&1 | setsid tee -a /srv/agent.log >/dev/console) </dev/null >/dev/null 2>&1 &`)
}

// voter starts the agent of the third voter on this machine.
func (r *drbdRig) voter() {
	r.t.Helper()
	cl, settings := r.files("n3", r.net.Addr(drbdVoter).String(), r.dir)
	helper.Must(r.t, os.WriteFile(filepath.Join(r.dir, "cluster.json"), cl, 0o600))
	helper.Must(r.t, os.WriteFile(filepath.Join(r.dir, "agent.json"), settings, 0o600))
	r.certify("n3", r.net.Addr(drbdVoter).String(), func(name string, text []byte) {
		helper.Must(r.t, os.WriteFile(filepath.Join(r.dir, name), text, 0o600))
	})
	log, err := os.OpenFile(r.voterLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	helper.Must(r.t, err)
	defer log.Close()
	// It and the member of the store, a child in a session of its own, have a table of processes
	// of their own, and end with its first one.
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", r.exe, "agent", "--insecure",
		"--config", filepath.Join(r.dir, "agent.json"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	helper.Must(r.t, r.net.Start(drbdVoter, cmd))
	r.third = cmd
}

func (r *drbdRig) voterLog() string { return filepath.Join(r.dir, "agent.log") }

// noVoter takes the power of the third voter away.
func (r *drbdRig) noVoter() {
	if r.third == nil {
		return
	}
	_ = r.third.Process.Kill() // it may have ended
	_ = r.third.Wait()         // it was killed
	r.third = nil
}

// until waits for a state, and says in the end what it was.
func (r *drbdRig) until(t *testing.T, what string, ok func() (string, bool)) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	for ; ; time.Sleep(300 * time.Millisecond) {
		said, done := ok()
		if done {
			return
		}
		if ctx.Err() != nil {
			for _, n := range r.node {
				if !n.On() {
					t.Logf("%s is off: %s", n.Name(), n.Said())
					continue
				}
				t.Logf("%s: %s", n.Name(), n.Run("sh", "-c", "cat /proc/drbd; "+r.log))
			}
			t.Fatalf("waited for %s: %s", what, said)
		}
	}
}

// more waits until so many more rows were acknowledged.
func (r *drbdRig) more(t *testing.T, n int) {
	t.Helper()
	want := r.clients.acknowledged() + n
	r.until(t, fmt.Sprintf("%d more rows to be acknowledged", n), func() (string, bool) {
		have := r.clients.acknowledged()
		return fmt.Sprintf("%d are missing", want-have), have >= want
	})
}

// status asks the third voter while there is one: on an emulated node each program that asks takes
// seconds of its processor. Else it asks the agent of a node that is on.
func (r *drbdRig) status() (st pairState, err error) {
	if r.third != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		st.PairStatus, err = askAt(filepath.Join(r.dir, "run/holdfast.sock"),
			func(c *api.Client) (cluster.PairStatus, error) { return c.Pair(ctx) })
		if err == nil && len(st.Nodes) == 2 {
			st.Health, st.Why = st.PairStatus.Health()
			return st, nil
		}
	}
	err = errors.New("no node is on")
	for _, n := range r.node {
		if !n.On() {
			continue
		}
		out, _ := n.Try(drbdExe, "pair", "status", "-o", "json") // the exit code is about the pair
		st = pairState{}
		if err = json.Unmarshal([]byte(out), &st); err == nil && len(st.Nodes) == 2 {
			return st, nil
		}
	}
	return st, err
}

// healthy waits until one of the nodes serves, and the other one could take over. It gives their numbers.
func (r *drbdRig) healthy(t *testing.T) (active, standby int) {
	t.Helper()
	r.until(t, "a healthy pair", func() (string, bool) {
		st, err := r.status()
		a := st.Active()
		if a != nil && string(a.Host) == r.node[1].Name() {
			active, standby = 1, 0
		} else {
			active, standby = 0, 1
		}
		return fmt.Sprintf("%s, %v, %v", st.Health, st.Why, err), err == nil && st.Health == cluster.Healthy && a != nil
	})
	return active, standby
}

// boot switches a node on that is off, with its agent.
func (r *drbdRig) boot(i int) {
	r.t.Helper()
	r.node[i].Crash() // what is left of one that was reset
	r.node[i].Boot()
	r.node[i].Wait()
	r.start(i)
}

// begin begins the pair with the first node, and has clients write. Nothing is promised before: a node that a busy machine
// lets stand still for longer than its watchdog waits is switched on again.
func (r *drbdRig) begin() {
	r.t.Helper()
	r.until(r.t, "the pair to begin", func() (string, bool) {
		for i, n := range r.node {
			if !n.On() {
				r.t.Logf("%s was reset before the pair began; console: %s", n.Name(), n.Said())
				r.boot(i)
			}
		}
		out, code, err := r.node[0].Ask(drbdExe, "pair", "begin")
		return fmt.Sprint(out, err), err == nil && (code == 0 || strings.Contains(out, "set up already"))
	})
	r.healthy(r.t)
	r.table(0)
}

// table makes the table of the clients on the node that serves, and the clients.
func (r *drbdRig) table(active int) {
	r.t.Helper()
	r.node[active].Run("/usr/bin/mariadb", "--no-defaults", "--socket="+r.socket, "-e",
		"CREATE DATABASE app; CREATE TABLE app.log (id BIGINT PRIMARY KEY) ENGINE=InnoDB; CREATE USER app@'%' "+
			"IDENTIFIED BY 'app'; GRANT SELECT, INSERT ON *.* TO app@'%'")
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return r.net.Dial(ctx, drbdClient, addr) }
	r.clients = pairClientsAt(r.t, dial, []netip.Addr{netip.MustParseAddr(drbdVIP)},
		map[string]string{"h1": drbdAddr[0], "h2": drbdAddr[1]}, 2*time.Second, 5*time.Second)
}
