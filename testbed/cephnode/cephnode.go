// Package cephnode is a Ceph cluster for tests: one monitor and one OSD that keeps
// its data in memory, of Debian's packages, without systemd. It takes 2 s to come up
// and forgets everything when it ends. Who uses it runs the two daemons, which stay in
// the foreground, and ends them.
package cephnode

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
)

// Names in every such cluster.
const (
	Pool  = "mngt"
	Image = "mnvm.img"
	User  = "holdfast" // with the rights that an operator is told to give
)

// stepLimit bounds one step of the cluster's beginning.
const stepLimit = 30 * time.Second

// Node is the cluster.
type Node struct {
	Dir   string                // for its files; made by Prepare
	Addr  netip.Addr            // of both daemons
	Start func(*exec.Cmd) error // starts a command where the address is; nil: here
}

// needs are the programs and the Debian packages they are in.
var needs = [][2]string{
	{"ceph-mon", "ceph-mon"}, {"ceph-osd", "ceph-osd"}, {"ceph", "ceph-common"}, {"rbd", "ceph-common"}, {"rados", "ceph-common"},
	{"ceph-authtool", "ceph-common"}, {"monmaptool", "ceph-common"},
}

// Missing lists the programs that this machine does not have, each with its remedy.
func Missing() (all []string) {
	for _, n := range needs {
		if _, err := exec.LookPath(n[0]); err != nil {
			all = append(all, fmt.Sprintf("%s (apt-get install %s)", n[0], n[1]))
		}
	}
	return all
}

func (n Node) path(elem ...string) string { return filepath.Join(append([]string{n.Dir}, elem...)...) }

// Conf is the configuration of the daemons and of the cluster's administrator.
func (n Node) Conf() string { return n.path("ceph.conf") }

// Keyring is that of User.
func (n Node) Keyring() string { return n.path("keyring.client." + User) }

// conf keeps everything below Dir. The two times of paxos make a cluster of one
// monitor quick: it takes every change at once.
const conf = `[global]
fsid = %[1]s
mon host = [v2:%[2]s:3300,v1:%[2]s:6789]
mon initial members = a
keyring = %[3]s/keyring.$name
admin socket =
pid file =
log file = %[3]s/log/$name.log
log to stderr = false
err to stderr = false
run dir = %[3]s
crash dir = %[3]s/log
ms bind ipv6 = false
public network = %[2]s/32
cluster network = %[2]s/32
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon data avail crit = 1
mon data avail warn = 2
mon osd min down reporters = 1
paxos propose interval = 0.05
paxos min wait = 0.02
[mon]
mon data = %[3]s/mon
mon cluster log file = %[3]s/log/cluster.log
[osd]
osd data = %[3]s/osd
osd objectstore = memstore
memstore device bytes = 268435456
osd numa auto affinity = false
[client]
log file =
`

// Mon and OSD are the daemons' command lines. The OSD is to be started after AddOSD.
func (n Node) Mon() []string { return []string{"ceph-mon", "-f", "-i", "a", "-c", n.Conf()} }
func (n Node) OSD() []string { return []string{"ceph-osd", "-f", "-i", "0", "-c", n.Conf()} }

// Prepare writes what the monitor needs.
func (n Node) Prepare(ctx context.Context) error {
	for _, d := range []string{"log", "mon", "osd"} {
		if err := os.MkdirAll(n.path(d), 0o700); err != nil {
			return fmt.Errorf("prepare ceph: %w", err)
		}
	}
	fsid := uuid()
	if err := os.WriteFile(n.Conf(), fmt.Appendf(nil, conf, fsid, n.Addr, n.Dir), 0o600); err != nil {
		return fmt.Errorf("prepare ceph: %w", err)
	}
	admin, mon := n.path("keyring.client.admin"), n.path("keyring.mon.")
	for _, argv := range [][]string{
		{"ceph-authtool", "-C", mon, "-g", "-n", "mon.", "--cap", "mon", "allow *"},
		{"ceph-authtool", "-C", admin, "-g", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *",
			"--cap", "mgr", "allow *"},
		{"ceph-authtool", mon, "--import-keyring", admin},
		{"monmaptool", "--create", "--addv", "a", fmt.Sprintf("[v2:%[1]s:3300,v1:%[1]s:6789]", n.Addr), "--fsid", fsid, n.path("monmap")},
		{"ceph-mon", "--mkfs", "-i", "a", "--monmap", n.path("monmap"), "--keyring", mon, "-c", n.Conf()},
	} {
		if _, err := n.Run(ctx, "", argv...); err != nil {
			return fmt.Errorf("prepare ceph: %w", err)
		}
	}
	return nil
}

func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// AddOSD waits for the monitor, and prepares the OSD.
func (n Node) AddOSD(ctx context.Context) error {
	id := uuid()
	_, err := n.again(ctx, "", "ceph", "--connect-timeout", "2", "quorum_status")
	var key string
	if err == nil {
		key, err = n.Run(ctx, "", "ceph-authtool", "--gen-print-key")
		key = strings.TrimSpace(key)
	}
	if err == nil {
		_, err = n.Run(ctx, fmt.Sprintf(`{"cephx_secret":%q}`, key), "ceph", "osd", "new", id, "-i", "-")
	}
	if err == nil {
		_, err = n.Run(ctx, "", "ceph-authtool", "-C", n.path("keyring.osd.0"), "-n", "osd.0", "-a", key)
	}
	if err == nil {
		_, err = n.Run(ctx, "", "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", id, "-c", n.Conf())
	}
	if err != nil {
		return fmt.Errorf("prepare ceph's OSD: %w", err)
	}
	return nil
}

// Fill waits for the OSD, and makes pool, user and an image of so many MiB.
func (n Node) Fill(ctx context.Context, mib int) error {
	for _, argv := range [][]string{
		{"ceph", "osd", "pool", "create", Pool, "8", "8"},
		{"ceph", "osd", "pool", "application", "enable", Pool, "rbd"},
		{"ceph", "auth", "get-or-create", "client." + User, "mon", "profile rbd", "osd", "profile rbd pool=" + Pool, "-o", n.Keyring()},
		{"rbd", "create", "--size", fmt.Sprintf("%dM", mib), Pool + "/" + Image},
	} {
		if _, err := n.again(ctx, "", argv...); err != nil {
			return fmt.Errorf("fill ceph: %w", err)
		}
	}
	return os.Chmod(n.Keyring(), 0o600)
}

// again repeats a step that a cluster which comes up may refuse.
func (n Node) again(ctx context.Context, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	for {
		out, err := n.Run(ctx, stdin, argv...)
		if err == nil || !clock.Sleep(ctx, 100*time.Millisecond) {
			return out, err
		}
	}
}

// Run runs a command as the cluster's administrator and returns its output.
func (n Node) Run(ctx context.Context, stdin string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+n.Conf(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := n.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), errors.Join(err, ctx.Err()), strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

func (n Node) start(cmd *exec.Cmd) error {
	if n.Start == nil {
		return cmd.Start()
	}
	return n.Start(cmd)
}
