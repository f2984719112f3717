package bench

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
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// TestMain lets the test binary be the process of a store's member.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "store-member" {
		os.Exit(memberMain(os.Args[2]))
	}
	os.Exit(m.Run())
}

func memberMain(file string) int {
	c, err := etcdstore.LoadMember(file)
	if err == nil {
		err = etcdstore.RunMember(context.Background(), c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	renewEvery  = 2 * time.Second
	renewWarm   = 4 * time.Second
	renewRun    = 20 * time.Second
	renewRounds = 3
	// renewConns is how many connections all hosts share. In truth each has its own;
	// the handshakes and idle connections are not measured here.
	renewConns = 50
	// recordBytes is about the size of a host's record.
	recordBytes = 400
	leaseTTL    = 6 // s
)

// TestRenewals compares two ways by which a host can prove that it lives: our
// transaction, and a keepalive of a lease with a linearizable read through the
// same member in the same raft term.
func TestRenewals(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	r := newRig(t)
	for _, n := range []int{100, 1000, 3000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) { r.compare(t, n) })
	}
}

// compare measures both ways in turn.
func (r *rig) compare(t *testing.T, n int) {
	hosts := r.hosts(t, n)
	ways := []way{{"transaction", transact, nil, nil}, {"keepalive and read", keepalive, r.grant, r.revoke}}
	sums := make([]sum, len(ways))
	for range renewRounds {
		for i, w := range ways {
			r.measure(t, w, hosts, &sums[i])
		}
	}
	for i, w := range ways {
		sums[i].report(t, w.name, n)
	}
}

// way is one of the two.
type way struct {
	name          string
	renew         func(ctx context.Context, h *host) error
	before, after func(t *testing.T, hosts []*host)
}

// host is one that renews.
type host struct {
	*conn
	key    string
	value  []byte
	rev    int64
	lease  clientv3.LeaseID
	stream pb.Lease_LeaseKeepAliveClient
	took   []time.Duration // in the window
	failed int
}

// conn is one connection to one member.
type conn struct {
	store *etcdstore.Client
	etcd  *clientv3.Client
}

// transact is a renewal as the agent does it.
func transact(ctx context.Context, h *host) error {
	rev, ok, err := h.store.Txn(ctx, []store.Cmp{{Key: h.key, Rev: h.rev}}, []store.Op{{Key: h.key, Value: h.value}})
	if err == nil && ok {
		h.rev = rev
		return nil
	}
	kv, _, again := h.store.Get(ctx, h.key)
	h.rev = kv.ModRev
	return errors.Join(errors.New("not renewed"), err, again)
}

// keepalive counts only when the member has read through the majority after it, in
// the same term: a leader that was deposed answers keepalives from memory.
func keepalive(ctx context.Context, h *host) error {
	if err := h.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(h.lease)}); err != nil {
		return err
	}
	kept, err := h.stream.Recv()
	if err != nil {
		return err
	}
	if kept.TTL <= 0 { // it came too late, the lease is gone
		return errors.Join(errors.New("lease expired"), h.grant(ctx))
	}
	read, err := h.etcd.Get(ctx, "/holdfast/bench/"+h.key, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if kept.Header.RaftTerm != read.Header.RaftTerm || kept.Header.MemberId != read.Header.MemberId {
		return fmt.Errorf("keepalive proves nothing: %v, then %v", kept, read.Header)
	}
	return nil
}

// window collects what happens while it is open.
type window struct {
	mu   sync.Mutex
	open bool
}

func (w *window) set(open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = open
}

func (w *window) is() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// measure lets all hosts renew by one way, and adds what it took.
func (r *rig) measure(t *testing.T, w way, hosts []*host, s *sum) {
	t.Helper()
	if w.before != nil {
		w.before(t, hosts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var win window
	var wg sync.WaitGroup
	for _, h := range hosts {
		h.took, h.failed = nil, 0
		wg.Go(func() { h.run(ctx, w, &win) })
	}
	clock.Sleep(t.Context(), renewWarm)
	before, began := r.usage(t), time.Now()
	win.set(true)
	clock.Sleep(t.Context(), renewRun)
	win.set(false)
	after, took := r.usage(t), time.Since(began)
	cancel()
	wg.Wait()
	if w.after != nil {
		w.after(t, hosts)
	}
	s.add(hosts, before, after, took)
}

// run renews until ctx ends, each renewEvery, or at once when that is over.
func (h *host) run(ctx context.Context, w way, win *window) {
	next := time.Now().Add(rand.N(renewEvery))
	for {
		if !clock.Sleep(ctx, time.Until(next)) {
			return
		}
		began := time.Now()
		if next = next.Add(renewEvery); next.Before(began) {
			next = began
		}
		call, cancel := context.WithTimeout(ctx, leaseTTL*time.Second)
		err := w.renew(call, h)
		cancel()
		switch {
		case !win.is() || ctx.Err() != nil:
		case err != nil:
			h.failed++
		default:
			h.took = append(h.took, time.Since(began))
		}
	}
}

// sum is what the runs of one way have shown.
type sum struct {
	rate, cpu, disk, p50, p99, load series
	failed                          int
}

func (s *sum) add(hosts []*host, before, after usage, took time.Duration) {
	var all series
	for _, h := range hosts {
		s.failed += h.failed
		for _, d := range h.took {
			all = append(all, float64(d.Microseconds())/1000)
		}
	}
	if len(all) == 0 {
		return
	}
	all = all.sorted()
	n := float64(len(all))
	s.rate = append(s.rate, n/took.Seconds())
	s.cpu = append(s.cpu, (after.cpu-before.cpu)/n*1000)
	s.disk = append(s.disk, (after.disk-before.disk)/n)
	s.p50, s.p99 = append(s.p50, all[len(all)/2]), append(s.p99, all[len(all)*99/100])
	s.load = append(s.load, after.load)
}

func (s *sum) report(t *testing.T, name string, n int) {
	t.Helper()
	if len(s.rate) == 0 {
		result(t, "renewal by %s, %d hosts: none of them succeeded, %d failed", name, n, s.failed)
		return
	}
	result(t, "renewal by %s, %d hosts over %d connections, one each %s (%.0f a second asked), %d runs of %s in "+
		"turn: %s a second, members' processor time per 1000 %s s, written to disk by all members per renewal %s "+
		"bytes, p50 %s ms, p99 %s ms, %d failed; load %s",
		name, n, renewConns, renewEvery, float64(n)/renewEvery.Seconds(), len(s.rate), renewRun, s.rate, s.cpu, s.disk,
		s.p50, s.p99, s.failed, s.load)
}

// rig is three members in processes of their own, with mutual TLS on loopback.
type rig struct {
	members []*exec.Cmd
	urls    []string
	tls     *tls.Config
	conns   []*conn
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA("bench", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f := etcdstore.TLSFiles{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	pair, err := ca.Issue("bench", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil, time.Hour)
	if err = errors.Join(err, ca.WriteCert(f.CA)); err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(f.Cert, f.Key); err != nil {
		t.Fatal(err)
	}
	r := &rig{}
	if _, r.tls, err = pki.Load(f.CA, f.Cert, f.Key); err != nil {
		t.Fatal(err)
	}
	initial := map[string]string{}
	for i := range 3 {
		initial[fmt.Sprint("h", i)] = freeURL(t)
	}
	for name, peer := range initial {
		r.start(t, dir, etcdstore.MemberConfig{
			Name: name, Cluster: "bench", DataDir: filepath.Join(dir, name), Initial: initial, TLS: &f,
			ListenPeer: peer, PeerURL: peer, ListenClient: freeURL(t), LogFile: filepath.Join(dir, name+".log"),
		})
	}
	for i := range renewConns {
		r.connect(t, r.urls[i%len(r.urls)])
	}
	return r
}

func freeURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// start starts a member, which dies with the test.
func (r *rig) start(t *testing.T, dir string, c etcdstore.MemberConfig) {
	t.Helper()
	c.ClientURL = c.ListenClient
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, c.Name+".json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "store-member", file)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	r.members, r.urls = append(r.members, cmd), append(r.urls, c.ClientURL)
}

func (r *rig) connect(t *testing.T, at string) {
	t.Helper()
	st, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{at}, TLS: r.tls, Prefix: "/holdfast/bench/",
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{at}, TLS: r.tls, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(st.Close(), etcd.Close()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	r.conns = append(r.conns, &conn{st, etcd})
}

// hosts makes n hosts with a record each.
func (r *rig) hosts(t *testing.T, n int) []*host {
	t.Helper()
	out := make([]*host, n)
	for i := range out {
		out[i] = &host{conn: r.conns[i%len(r.conns)], key: fmt.Sprintf("state/hosts/h%d", i), value: []byte(strings.Repeat("r", recordBytes))}
	}
	each(t, out, func(ctx context.Context, h *host) error {
		rev, _, err := h.store.Txn(ctx, nil, []store.Op{{Key: h.key, Value: h.value}})
		h.rev = rev
		return err
	})
	return out
}

func (h *host) grant(ctx context.Context) error {
	l, err := h.etcd.Grant(ctx, leaseTTL)
	if err == nil {
		h.lease = l.ID
	}
	return err
}

// grant gives every host a lease, and a stream to keep it by.
func (r *rig) grant(t *testing.T, hosts []*host) {
	each(t, hosts, func(ctx context.Context, h *host) error {
		if err := h.grant(ctx); err != nil {
			return err
		}
		var err error
		h.stream, err = pb.NewLeaseClient(h.etcd.ActiveConnection()).LeaseKeepAlive(t.Context())
		return err
	})
}

// revoke ends the leases, so that their end costs nothing in the next run.
func (r *rig) revoke(t *testing.T, hosts []*host) {
	each(t, hosts, func(ctx context.Context, h *host) error {
		_, err := h.etcd.Revoke(ctx, h.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			err = nil // it expired
		}
		return errors.Join(err, h.stream.CloseSend())
	})
}

// each does something for all hosts, some at a time.
func each(t *testing.T, hosts []*host, do func(context.Context, *host) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i := range renewConns {
		wg.Go(func() {
			for j := i; j < len(hosts); j += renewConns {
				if err := do(ctx, hosts[j]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// usage is what the members have used since their start, together, and the load.
type usage struct{ cpu, disk, load float64 }

func (r *rig) usage(t *testing.T) (u usage) {
	t.Helper()
	for _, m := range r.members {
		proc := fmt.Sprintf("/proc/%d/", m.Process.Pid)
		_, rest, _ := strings.Cut(read(t, proc+"stat"), ") ")
		f := strings.Fields(rest)
		u.cpu += (number(t, f[11]) + number(t, f[12])) / 100 // utime, stime of proc(5), in 1/100 s
		_, rest, _ = strings.Cut(read(t, proc+"io"), "\nwrite_bytes: ")
		line, _, _ := strings.Cut(rest, "\n")
		u.disk += number(t, line)
	}
	u.load = number(t, strings.Fields(read(t, "/proc/loadavg"))[0])
	return u
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
