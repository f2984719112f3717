package etcdstore

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
)

// Two members lose the first network between them, then the second, then the first
// again: writes go on within what a lease of 6 s with a renewal each 2 s allows.
// Packets vanish, and nobody is told. Without a second path nothing would be written.
func TestTwoMembersWithASecondPath(t *testing.T) {
	need.Drill(t, "P3: two members lose either network between them, and write on within what a lease allows",
		need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	const bound = 4 * time.Second
	hosts := nettest.New(t, 2)
	hosts.Second(t, 0, 1)
	c := startTwo(t, hosts)
	var clients []*Client
	for i, m := range c.members {
		clients = append(clients, openOn(t, hosts, i, m.conf.ClientURL, c.client))
	}
	both := func(within time.Duration) {
		t.Helper()
		for _, cl := range clients {
			written(t, c, cl, within)
		}
	}
	both(0)
	for _, cut := range []struct {
		name string
		cut  func()
		heal func()
	}{
		{"the first path", func() { hosts.CutFrom(t, 0); hosts.CutFrom(t, 1) }, func() { hosts.Heal(t, 0); hosts.Heal(t, 1) }},
		{"the second path", func() { hosts.CutSecond(t, 0); hosts.CutSecond(t, 1) }, func() { hosts.HealSecond(t, 0); hosts.HealSecond(t, 1) }},
		{"the first path, in one direction", func() { hosts.CutFrom(t, 0) }, func() { hosts.Heal(t, 0) }},
	} {
		for range 2 { // with one leader, and where that has changed with the other one
			settled(t, c, clients)
			cut.cut()
			began := time.Now()
			both(bound)
			t.Logf("%s cut: both wrote again after %s", cut.name, time.Since(began).Round(time.Millisecond))
			cut.heal()
			both(bound)
		}
	}
	hosts.CutSecond(t, 0)
	hosts.CutSecond(t, 1)
	hosts.CutFrom(t, 0)
	hosts.CutFrom(t, 1)
	if err := tryWrite(t, clients[0], 3*time.Second); err == nil {
		t.Error("a member of two wrote without the other one")
	}
	hosts.HealSecond(t, 0)
	hosts.HealSecond(t, 1)
	both(0)
}

// settled waits until both members have written for a while: connections that were
// made over the path that is left are there.
func settled(t *testing.T, c *cluster, clients []*Client) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, cl := range clients {
			written(t, c, cl, 0)
		}
	}
	leaderOn(t, c, clients)
}

// startTwo starts a member on each of two hosts, with TLS and a second path.
func startTwo(t *testing.T, hosts *nettest.Net) *cluster {
	t.Helper()
	ca, err := pki.NewCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ca.WriteCert(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	url := func(i, port int) string { return fmt.Sprintf("https://%s:%d", hosts.Addr(i), port) }
	c := &cluster{}
	for i := range 2 {
		name := fmt.Sprintf("h%d", i+1)
		files := TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
		p, err := ca.Issue(name, []netip.Addr{hosts.Addr(i)}, nil, time.Hour) // not the second address
		if err == nil {
			err = p.Write(files.Cert, files.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, c.client, err = pki.Load(files.CA, files.Cert, files.Key); err != nil {
			t.Fatal(err)
		}
		m := &member{
			file: filepath.Join(dir, name+".json"), log: filepath.Join(dir, name+".log"),
			conf: MemberConfig{
				Name: name, Cluster: "two", DataDir: filepath.Join(dir, name), LogFile: filepath.Join(dir, name+".log"), LogLevel: "info",
				Initial:    map[string]string{"h1": url(0, 2380), "h2": url(1, 2380)},
				ListenPeer: url(i, 2380), PeerURL: url(i, 2380), ListenClient: url(i, 2379), ClientURL: url(i, 2379), TLS: &files,
				Second: &SecondPath{Own: hosts.SecondAddr(i), Peer: hosts.Addr(1 - i), There: hosts.SecondAddr(1 - i)},
			},
		}
		m.write(t)
		cmd := m.command(t)
		if err := hosts.Start(i, cmd); err != nil {
			t.Fatal(err)
		}
		m.cmd = cmd
		t.Cleanup(func() { m.end(t, unix.SIGKILL) })
		c.members = append(c.members, m)
	}
	return c
}
