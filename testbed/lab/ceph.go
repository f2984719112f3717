package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"

	"holdfast/internal/config"
	"holdfast/testbed/cephnode"
)

// cephImageMiB is the size of the guest's disk with DiskCeph.
const cephImageMiB = 64

// CephKeyring is the keyring of the hosts' user, as every host sees it, with DiskCeph.
const CephKeyring = HostDir + "/ceph.keyring"

// cephPorts are what the two daemons listen at.
const cephPorts = "3300, 6789, 6800-6899"

// ceph is the cluster with the guest's disk, on the switch.
func (p plan) ceph() cephnode.Node {
	return cephnode.Node{Dir: p.path("ceph"), Addr: p.switchAddr(), Start: func(c *exec.Cmd) error {
		ip, err := exec.LookPath("ip")
		if err != nil {
			return err
		}
		c.Path, c.Args = ip, append([]string{"ip", "netns", "exec", p.netns()}, c.Args...)
		return c.Start()
	}}
}

// cephConf is the part of the cluster's configuration about the guest's disk.
func (p plan) cephConf(cl *config.Cluster) {
	cl.Type, cl.ImageFolder = config.CephConf, ""
	cl.MonAddrs, cl.PoolName = []string{p.switchAddr().String()}, cephnode.Pool
	cl.Ceph = config.Ceph{User: cephnode.User, Credential: "file:" + CephKeyring}
}

// startCeph starts the cluster's two daemons, unless they are there, makes the guest's
// disk in it, and gives each host the keyring.
func (l *Lab) startCeph(ctx context.Context) error {
	s, err := loadState(l.p.Dir)
	if err != nil || s.Mon.alive() && s.OSD.alive() {
		return err
	}
	n, log := l.p.ceph(), l.p.path("ceph.log")
	err = steps(
		func() error { return n.Prepare(ctx) },
		func() error { return l.startHelper(ctx, monCommand, log, func(s *state) *Process { return &s.Mon }) },
		func() error { return l.listens(ctx, func(s *state) Process { return s.Mon }, "6789") },
		func() error { return n.AddOSD(ctx) },
		func() error { return l.startHelper(ctx, osdCommand, log, func(s *state) *Process { return &s.OSD }) },
		func() error { return n.Fill(ctx, cephImageMiB) },
	)
	if err != nil {
		return fmt.Errorf("start ceph: %w%s", err, tail(log))
	}
	ring, err := os.ReadFile(n.Keyring())
	if err != nil {
		return fmt.Errorf("start ceph: %w", err)
	}
	for _, h := range l.p.hosts() {
		if err := os.MkdirAll(l.p.disk(h, "srv"), 0o755); err != nil {
			return fmt.Errorf("start ceph: %w", err)
		}
		if err := os.WriteFile(l.HostPath(h, "ceph.keyring"), ring, 0o600); err != nil {
			return fmt.Errorf("start ceph: %w", err)
		}
	}
	return nil
}

// listens waits until one of the daemons takes connections.
func (l *Lab) listens(ctx context.Context, of func(*state) Process, port string) error {
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	return poll(ctx, patience, "ceph to listen", func() (bool, error) {
		if !of(s).alive() {
			return false, errors.New("the daemon has ended")
		}
		conn, err := l.Dial(ctx, "tcp", net.JoinHostPort(l.p.switchAddr().String(), port))
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
}

// monMain and osdMain become the two daemons.
func monMain(_ context.Context, dir string) error { return cephMain(dir, cephnode.Node.Mon) }
func osdMain(_ context.Context, dir string) error { return cephMain(dir, cephnode.Node.OSD) }

func cephMain(dir string, argv func(cephnode.Node) []string) error {
	if err := passGate(); err != nil {
		return err
	}
	l, err := Open(dir)
	if err != nil {
		return err
	}
	args := argv(l.p.ceph())
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return l.p.becomeInSwitch(path, args[1:]...)
}

// Ceph runs a command as the administrator of the cluster with the guest's disk, with
// DiskCeph.
func (l *Lab) Ceph(ctx context.Context, argv ...string) (string, error) {
	return l.p.ceph().Run(ctx, "", argv...)
}
