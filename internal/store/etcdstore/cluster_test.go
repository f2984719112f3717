package etcdstore

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// segment is how much of its log a member allocates at once, in place of 64 MB, which tests copy again and again.
const segment = 4 << 20

// The test binary is the member's process too.
func TestMain(m *testing.M) {
	wal.SegmentSizeBytes = segment
	if len(os.Args) == 3 && os.Args[1] == "store-member" {
		os.Exit(memberMain(os.Args[2]))
	}
	if len(os.Args) == 5 && os.Args[1] == "full-disk" {
		os.Exit(diskMain(os.Args[2], os.Args[3], os.Args[4]))
	}
	if len(os.Args) == 4 && os.Args[1] == "go-alone" {
		os.Exit(aloneMain(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

func memberMain(file string) int {
	// A test that died must not leave this behind for ever.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c, err := LoadMember(file)
	if err == nil {
		c.Guard = &Guard{Secret: []string{testSecret}, Permits: testRules, Rates: testRates()} // of callers with certificates of no member
		err = RunMember(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// member is one member as a child process.
type member struct {
	conf MemberConfig
	file string
	cmd  *exec.Cmd
	log  string
}

// cluster is three members with mutual TLS, and what clients need.
type cluster struct {
	members []*member
	client  *tls.Config                                // of the first member's host
	issue   func(host string, ip netip.Addr) *TLSFiles // nil without TLS
	ca      pki.CA                                     // of startCluster
	only    *member                                    // clients ask it alone; nil: all
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newMembers makes the configurations of n members on a loopback address of
// their own, so that other programs hardly take the ports that are free now.
func newMembers(t *testing.T, n int, files func(host string, ip netip.Addr) *TLSFiles) []*member {
	t.Helper()
	ip := netip.AddrFrom4([4]byte{127, byte(1 + rand.N(250)), byte(1 + rand.N(250)), byte(1 + rand.N(250))})
	dir := t.TempDir()
	id := fmt.Sprintf("test-%d", rand.Uint32())
	initial := map[string]string{}
	var ms []*member
	for i := range n {
		name := fmt.Sprintf("h%d", i+1)
		tlsFiles := files(name, ip)
		scheme := "http"
		if tlsFiles != nil {
			scheme = "https"
		}
		peer, client := scheme+"://"+freeAddr(t, ip), scheme+"://"+freeAddr(t, ip)
		initial[name] = peer
		ms = append(ms, &member{
			file: filepath.Join(dir, name+".json"),
			log:  filepath.Join(dir, name+".log"),
			conf: MemberConfig{
				Name: name, Cluster: id, DataDir: filepath.Join(dir, name), Initial: initial, TLS: tlsFiles,
				ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client,
			},
		})
	}
	for _, m := range ms {
		m.write(t)
	}
	return ms
}

func plain(string, netip.Addr) *TLSFiles { return nil }

func freeAddr(t *testing.T, ip netip.Addr) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(ip, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *member) write(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(m.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// command is the member's process, not started. It dies with the test.
func (m *member) command(t *testing.T) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "store-member", m.file)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

func (m *member) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.cmd = m.command(t)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// end sends a signal and waits for the end; without a running process it does
// nothing.
func (m *member) end(t *testing.T, sig unix.Signal) {
	t.Helper()
	if m.cmd == nil {
		return
	}
	cmd := m.cmd
	m.cmd = nil
	if err := cmd.Process.Signal(sig); err != nil {
		t.Errorf("signal %s: %v", m.conf.Name, err)
	}
	err := cmd.Wait()
	if sig == unix.SIGTERM && err != nil {
		t.Errorf("%s ended by SIGTERM: %v", m.conf.Name, err)
	}
}

func (m *member) freeze(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// startCluster starts three members and waits until they serve. At the end of
// the test they are stopped and their ports are looked at.
func startCluster(t *testing.T, alter ...func(*MemberConfig)) *cluster {
	t.Helper()
	need.Real(t)
	ca, err := pki.NewCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	if err := ca.WriteCert(caFile); err != nil {
		t.Fatal(err)
	}
	files := func(host string, ip netip.Addr) *TLSFiles {
		p, err := ca.Issue(host, []netip.Addr{ip}, nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		f := TLSFiles{CA: caFile, Cert: filepath.Join(dir, host+".pem"), Key: filepath.Join(dir, host+"-key.pem")}
		if err := p.Write(f.Cert, f.Key); err != nil {
			t.Fatal(err)
		}
		return &f
	}
	c := &cluster{members: newMembers(t, 3, files), issue: files, ca: ca}
	for _, m := range c.members {
		for _, f := range alter {
			f(&m.conf)
		}
		m.write(t)
	}
	f := c.members[0].conf.TLS
	if _, c.client, err = pki.Load(f.CA, f.Cert, f.Key); err != nil {
		t.Fatal(err)
	}
	c.run(t)
	return c
}

// run starts the members and waits until each of them serves.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	need.Seconds(t)
	t.Cleanup(func() { c.stop(t) })
	for _, m := range c.members {
		m.start(t)
	}
	cl := c.open(t, "wait/")
	if _, _, err := cl.List(try.Context(t), ""); err != nil {
		c.fail(t, "cluster does not serve: %v", err)
	}
	a := c.admin(t)
	c.until(t, func() error {
		all, err := a.Status(try.Context(t))
		for _, m := range all {
			if !m.Reachable() {
				err = errors.Join(err, fmt.Errorf("%s: %s", m.Name, m.Error))
			}
		}
		return err
	})
}

// until waits until something ends without an error. When it does not, the members' logs are shown.
func (c *cluster) until(t *testing.T, do func() error) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() && err != nil {
			c.fail(t, "last: %v", err)
		}
	}()
	try.Until(t, "what is wanted of the members", func() bool { err = do(); return err == nil })
}

// fail ends the test with the members' logs.
func (c *cluster) fail(t *testing.T, format string, args ...any) {
	t.Helper()
	for _, m := range c.members {
		log, err := os.ReadFile(m.log)
		t.Logf("log of %s (%v): %s", m.conf.Name, err, log)
	}
	t.Fatalf(format, args...)
}

// stop ends all members and checks that their ports are free again. The first
// is the leader if there is one, which must hand over and end cleanly.
func (c *cluster) stop(t *testing.T) {
	t.Helper()
	for _, m := range c.members {
		if m.cmd != nil {
			m.freeze(t, unix.SIGCONT)
		}
	}
	if leader := c.findLeader(); leader != nil {
		began := time.Now()
		leader.end(t, unix.SIGTERM)
		t.Logf("leader ended %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	} else {
		t.Error("no leader at the end")
	}
	for _, m := range c.members {
		m.end(t, unix.SIGKILL)
		checkFree(t, m)
	}
}

func checkFree(t *testing.T, m *member) {
	t.Helper()
	for _, u := range []string{m.conf.ListenPeer, m.conf.ListenClient} {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", parsed.Host)
		if err != nil {
			t.Errorf("port is not free: %v", err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (c *cluster) endpoints() []string {
	var out []string
	for _, m := range c.members {
		if c.only != nil && c.only != m {
			continue
		}
		out = append(out, m.conf.ClientURL)
	}
	return out
}

// open makes a client that is closed at the end of the test.
func (c *cluster) open(t *testing.T, prefix string) *Client {
	t.Helper()
	cl, err := Open(Options{Endpoints: c.endpoints(), TLS: c.client, Prefix: prefix, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Close(); err != nil {
			t.Error(err)
		}
	})
	return cl
}

// leader finds the leading member.
func (c *cluster) leader(t *testing.T) *member {
	t.Helper()
	m := c.findLeader()
	if m == nil {
		c.fail(t, "no leader")
	}
	return m
}

// findLeader is nil when there is none for some time.
func (c *cluster) findLeader() *member {
	cl, err := Open(Options{Endpoints: c.endpoints(), TLS: c.client, Prefix: "/", Log: discard()})
	if err != nil {
		return nil
	}
	defer cl.Close()
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		for _, m := range c.members {
			if m.cmd == nil {
				continue
			}
			// In a cleanup the test's context is over.
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			s, err := cl.etcd.Status(ctx, m.conf.ClientURL)
			cancel()
			if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
				return m
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}
