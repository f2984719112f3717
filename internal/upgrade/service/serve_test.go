package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/upgrade/survey"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func TestBundlesAreOpened(t *testing.T) {
	r := newRig(t, storetest.NewMem(), "h1", nil)
	text := makeBundle(t, "2.0.0", 5000, nil)
	b, err := r.PutBundle(limited(t), bytes.NewReader(text), request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 17, b.Size} {
		f, size, err := r.OpenBundle(b.SHA256, offset)
		if err != nil || size != b.Size {
			t.Fatalf("from %d on: %d bytes, %v", offset, size, err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, text[offset:]) {
			t.Errorf("from %d on: %d bytes, %v", offset, len(got), err)
		}
	}
	for _, offset := range []int64{-1, b.Size + 1, 1 << 62} {
		_, _, err := r.OpenBundle(b.SHA256, offset)
		wantKind(t, err, fail.Refused, "offset")
	}
	for _, sha := range []string{"", "none", strings.Repeat("a", 64), strings.ToUpper(b.SHA256), "../" + b.SHA256,
		b.SHA256 + ".hfb", b.SHA256[:63] + "/"} {
		_, _, err := r.OpenBundle(sha, 0)
		wantKind(t, err, fail.Invalid, "this host does not have it")
	}
	// A file that has changed on disk is not given away, and nobody is to blame for asking.
	if err := os.Truncate(filepath.Join(r.cache.Dir, b.SHA256+".hfb"), 10); err != nil {
		t.Fatal(err)
	}
	var said *fail.Error
	if _, _, err = r.OpenBundle(b.SHA256, 0); err == nil || errors.As(err, &said) {
		t.Errorf("got %v", err)
	}
}

// cutter passes TCP connections on to a server. It breaks each of the first ones
// when the server has sent as many bytes as is set for it.
type cutter struct {
	l    net.Listener
	to   string
	wg   sync.WaitGroup
	mu   sync.Mutex
	cuts []int64
	n    int // connections so far
	open []net.Conn
}

func newCutter(t *testing.T, to string, cuts ...int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l, to: to, cuts: cuts}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		for _, conn := range c.open {
			_ = conn.Close() // it may be closed already
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return // the test is over
		}
		c.wg.Go(func() { c.pass(in) })
	}
}

func (c *cutter) pass(in net.Conn) {
	out, err := net.DialTimeout("tcp", c.to, 5*time.Second)
	if err != nil {
		_ = in.Close() // the client sees it
		return
	}
	c.mu.Lock()
	limit := int64(1) << 40
	if c.n < len(c.cuts) {
		limit = c.cuts[c.n]
	}
	c.n++
	c.open = append(c.open, in, out)
	c.mu.Unlock()
	end := func() {
		_, _ = in.Close(), out.Close() // twice is an error that says nothing
	}
	c.wg.Go(func() {
		defer end()
		_, _ = io.Copy(out, in) // it ends with the connection
	})
	_, _ = io.CopyN(in, out, limit)    // as above
	_ = in.(*net.TCPConn).CloseWrite() // what was sent arrives; the client closes its end then
}

// opened notes from where on a bundle is asked for.
type opened struct {
	*Service
	mu      sync.Mutex
	offsets []int64
}

func (o *opened) OpenBundle(sha string, offset int64) (io.ReadCloser, int64, error) {
	o.mu.Lock()
	o.offsets = append(o.offsets, offset)
	o.mu.Unlock()
	return o.Service.OpenBundle(sha, offset)
}

// SendGuest is the drain's.
func (o *opened) SendGuest(context.Context, string, string, cluster.HostID, string) error {
	return errors.ErrUnsupported
}

func (o *opened) Awaits(context.Context, cluster.HostID, string) error { return errors.ErrUnsupported }

func (o *opened) asked() []int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.offsets)
}

// serveTLS serves the API of a host on the loopback interface until the test ends.
func serveTLS(t *testing.T, ca *servertest.Authority, host string, agents server.Agents) (addr string) {
	t.Helper()
	ready := make(chan string, 1)
	dir := try.ShortDir(t)
	s, err := server.New(servertest.New(cluster.Status{}), server.Options{
		Socket: filepath.Join(dir, "s"), Listen: "127.0.0.1:0", Log: servertest.ListenLog(func(at string) { ready <- at }), Agents: agents,
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, host)}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case addr = <-ready:
	case <-limited(t).Done():
		t.Fatal("the server does not listen")
	}
	return addr
}

// dials calls other agents as this program does.
func dials(conf *tls.Config) func(cluster.HostID, string) (Peer, error) {
	return func(host cluster.HostID, target string) (Peer, error) { return api.DialHost(host, target, conf, nil) }
}

// TestBundlesTravel from agent to agent, over TLS, and go on after a break.
func TestBundlesTravel(t *testing.T) {
	need.Seconds(t)
	mem, ca := storetest.NewMem(), servertest.NewAuthority(t)
	a := newRig(t, mem, "h1", nil)
	b := newRig(t, mem, "h2", func(p *Parts) { p.Dial = dials(api.ClientTLS(ca.PeerCert(t, "h2"), ca.Pool)) })
	text := makeBundle(t, "2.0.0", 3<<20, nil)
	put, err := a.PutBundle(limited(t), bytes.NewReader(text), request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	up := &opened{Service: a.Service}
	c := newCutter(t, serveTLS(t, ca, "h1", up), 2<<20)

	if err := b.bring(limited(t), put.SHA256); err == nil || !strings.Contains(err.Error(), "no host that answers has it") {
		t.Errorf("nobody has it: %v", err)
	}
	has := bare("h1")
	has.API, has.Bundles = "https://"+c.l.Addr().String(), []string{strings.Repeat("b", 64), put.SHA256}
	b.report(has, bare("h2"))
	if err := b.bring(limited(t), put.SHA256); err != nil {
		t.Fatal(err)
	}
	got, err := b.cache.Get(put.SHA256)
	if err != nil || got.Size != put.Size || got.Signed {
		t.Errorf("%v, %+v", err, got)
	}
	if at := up.asked(); len(at) != 2 || at[0] != 0 || at[1] <= 0 || at[1] >= 2<<20 {
		t.Errorf("it was asked for from %v on, of %d bytes: not resumed", at, put.Size)
	}
	if err := b.bring(limited(t), put.SHA256); err != nil || len(up.asked()) != 2 {
		t.Errorf("what is there is fetched again: %v, %v", err, up.asked())
	}
	m, err := b.manifest(limited(t), put.SHA256)
	if err != nil || m.Version != "2.0.0" {
		t.Errorf("%v, %+v", err, m)
	}

	// An offset behind the end is told as one that the bundle cache knows.
	if _, _, err := b.fetch(limited(t), b.holders(put.SHA256)[0], put.SHA256, put.Size+1); err == nil ||
		!strings.Contains(err.Error(), "offset") {
		t.Errorf("got %v", err)
	}
	// Facts of another host come the same way.
	f, err := b.factsOf(limited(t), survey.HostRef{Name: "h1"}, fact.Wanted{})
	if err != nil || f.Host != "h1" {
		t.Errorf("%v, facts of %q", err, f.Host)
	}
	for host, says := range map[cluster.HostID]string{"h9": "no host h9 reports", "h3": "set api.listen"} {
		b.report(bare("h3"))
		if _, err := b.factsOf(limited(t), survey.HostRef{Name: host}, fact.Wanted{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestBundlesComeFromStrangersNever: neither from an agent of another authority, nor
// to one.
func TestBundlesComeFromStrangersNever(t *testing.T) {
	mem, ca, other := storetest.NewMem(), servertest.NewAuthority(t), servertest.NewAuthority(t)
	a := newRig(t, mem, "h1", nil)
	put := a.bundle("2.0.0")
	has := bare("h1")
	has.API, has.Bundles = "https://"+serveTLS(t, ca, "h1", &opened{Service: a.Service}), []string{put.SHA256}
	for what, conf := range map[string]*tls.Config{
		"a strange server": api.ClientTLS(ca.PeerCert(t, "h2"), other.Pool), "a strange client": api.ClientTLS(other.PeerCert(t, "h2"), ca.Pool),
	} {
		b := newRig(t, mem, "h2", func(p *Parts) { p.Dial = dials(conf) })
		b.report(has)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // it is tried again
		err := b.bring(ctx, put.SHA256)
		cancel()
		if err == nil {
			t.Errorf("%s: it was fetched", what)
		}
		if have, err := b.cache.Have(); len(have) != 0 || err != nil {
			t.Errorf("%s: %v, %v", what, have, err)
		}
	}
}

// TestAgentOfAnEarlierVersion: one that does not know a call is named with the reason, so
// that the check before a run fails.
func TestAgentOfAnEarlierVersion(t *testing.T) {
	mem, ca := storetest.NewMem(), servertest.NewAuthority(t)
	b := newRig(t, mem, "h2", func(p *Parts) { p.Dial = dials(api.ClientTLS(ca.PeerCert(t, "h2"), ca.Pool)) })
	old := bare("h1")
	earlier := httptest.NewUnstartedServer(http.NotFoundHandler())
	earlier.TLS, earlier.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "h1")}, MinVersion: tls.VersionTLS13}, true
	earlier.StartTLS()
	defer earlier.Close()
	old.API = earlier.URL
	b.report(old, bare("h2"))
	rep, err := b.CheckUpgrade(limited(t), request.Request{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rep.Findings, func(f check.Finding) bool { return f.Check == "facts" && f.Host == "h1" })
	if i < 0 || rep.Findings[i].Level != check.Fail || !strings.Contains(rep.Findings[i].Text, "is of another version") {
		t.Errorf("findings %+v", rep.Findings)
	}
	wantKind(t, b.BringGuest(limited(t), "h1", evacuate.Move{UUID: "u", VM: "vm1"}, ""), fail.Failed, "is of another version")
}

func TestHoldersAreHostsThatAnswer(t *testing.T) {
	r := newRig(t, storetest.NewMem(), "h1", nil)
	sha := strings.Repeat("a", 64)
	has := func(h cluster.HostID, api string, bundles ...string) report.Record {
		rec := bare(h)
		rec.API, rec.Bundles = api, bundles
		return rec
	}
	r.report(has("h1", "https://192.0.2.1:1", sha), has("h2", "", sha), has("h3", "https://192.0.2.3:1"),
		has("h4", "https://192.0.2.4:1", sha), has("h5", "https://192.0.2.5:1", sha))
	r.silence("h5")
	got := r.holders(sha)
	if len(got) != 1 || got[0].Host != "h4" || got[0].API != "https://192.0.2.4:1" {
		t.Errorf("holders %+v", got)
	}
}

func TestFactsAreGathered(t *testing.T) {
	r := newRig(t, storetest.NewMem(), "h1", nil)
	b := r.bundle("2.0.0")
	staged, err := r.cache.Unpack(limited(t), b.SHA256, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(file, text string) string {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	installed := write(filepath.Join(dir, "app.ini"), "mine = 1\n")
	inside := write(filepath.Join(staged.Dir, "new.ini"), "inside = 1\n")
	outside := write(filepath.Join(filepath.Dir(staged.Dir), "secret.ini"), "secret = 1\n")
	up, err := filepath.Rel(staged.Dir, outside)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(sha, path string) fact.Config {
		t.Helper()
		f, err := r.GatherFacts(limited(t), fact.Wanted{SHA256: sha, Request: fact.Request{
			Host: "h9", Config: []fact.ConfigFile{{Installed: installed, Bundle: path, Format: "ini"}},
		}})
		if err != nil || f.Host != "h1" || len(f.Config) != 1 {
			t.Fatalf("%v: %+v", err, f)
		}
		return f.Config[0]
	}
	if c := ask(b.SHA256, filepath.Base(inside)); c.NotStaged || !slices.Contains(c.Bundle, "inside") || !slices.Contains(c.Names, "mine") {
		t.Errorf("configuration %+v", c)
	}
	for _, path := range []string{up, outside, "x/../" + up, "", inside} {
		if c := ask(b.SHA256, path); !c.NotStaged || slices.Contains(c.Bundle, "secret") {
			t.Errorf("%q is read: %+v", path, c)
		}
	}
	f, err := r.GatherFacts(limited(t), fact.Wanted{Request: fact.Request{Needs: []fact.Need{{Module: "web"}, {Module: "db", RPM: 1}}}})
	if err != nil || len(f.Met) != 2 || f.Met[0] != (fact.Met{Module: "web"}) || f.Met[1].Module != "db" {
		t.Errorf("%v: needs %+v", err, f.Met)
	}
	for _, sha := range []string{"", "..", strings.Repeat("a", 64)} {
		if c := ask(sha, filepath.Base(inside)); !c.NotStaged {
			t.Errorf("bundle %q: %+v", sha, c)
		}
	}
}
