package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// both are what a host answers operators and other agents.
type both interface {
	Upgrades
	Agents
}

// runUpgrades serves a fake of upgrades on a unix socket until the test ends.
func runUpgrades(t *testing.T, up both) *running {
	t.Helper()
	return run(t, func(s *Server) { s.opts.Upgrade, s.opts.Agents = up, up })
}

func newUpgrades() *servertest.Upgrades {
	return servertest.NewUpgrades(&servertest.Jobs{Now: testTime()})
}

// largeBundle is an unsigned bundle of some MiB.
func largeBundle(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	noise := make([]byte, 5<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	manifest := "name: app\nversion: \"1.1.0\"\nupgradeFrom:\n- {version: \"1.0.*\", modes: [rolling]}\n" +
		"modules:\n- name: app\n  files: [data/]\n  actions:\n    install: {fileTree: {source: data, target: /opt/app}}\n"
	for name, text := range map[string][]byte{"manifest.yaml": []byte(manifest), "data/noise": noise} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c, err := bundle.CompressionOf("app.tar") // the quickest
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Build(t.Context(), dir, &out, bundle.BuildOptions{Compression: c}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBundleThereAndBack(t *testing.T) {
	r := runUpgrades(t, newUpgrades())
	text := largeBundle(t)
	b, err := r.PutBundle(try.Context(t), bytes.NewReader(text), request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	want := request.BundleInfo{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(text)), Name: "app", Version: "1.1.0", Unsigned: true}
	if b != want {
		t.Errorf("put %+v, want %+v", b, want)
	}
	for _, offset := range []int{0, 4<<20 + 7, len(text)} {
		f, size, err := r.GetBundle(try.Context(t), b.SHA256, int64(offset))
		if err != nil || size != b.Size {
			t.Fatalf("size %d, %v; want %d", size, err, b.Size)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, text[offset:]) {
			t.Errorf("from %d on: %d bytes, %v; want %d", offset, len(got), err, len(text)-offset)
		}
	}
	for sha, offset := range map[string]int64{"none": 0, b.SHA256: b.Size + 1} {
		f, _, err := r.GetBundle(try.Context(t), sha, offset)
		if err == nil {
			_, err = io.ReadAll(f)
			err = errors.Join(err, f.Close())
		}
		wantKind(t, err, fail.Invalid, "")
	}
}

func TestBundleRefused(t *testing.T) {
	r := runUpgrades(t, newUpgrades())
	text := largeBundle(t)
	// The agent answers before it has read most of it.
	_, err := r.PutBundle(try.Context(t), bytes.NewReader(text), request.Trust{})
	wantKind(t, err, fail.Invalid, "not signed")
	_, err = r.PutBundle(try.Context(t), strings.NewReader(""), request.Trust{AllowUnsigned: true})
	wantKind(t, err, fail.Invalid, "the file is empty")
	_, err = r.PutBundle(try.Context(t), bytes.NewReader(text[:4<<20]), request.Trust{AllowUnsigned: true})
	wantKind(t, err, fail.Invalid, "truncated")
	_, err = r.PutBundle(try.Context(t), bytes.NewReader(text), request.Trust{Keys: []string{"no key"}})
	wantKind(t, err, fail.Invalid, "public key")
}

// broken reads a text, then fails.
type broken struct {
	io.Reader
	err error
}

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = b.err
	}
	return n, err
}

// ended tells when PutBundle has returned, and of what.
type ended struct {
	*servertest.Upgrades
	put chan error
}

func (e ended) PutBundle(ctx context.Context, file io.Reader, trust request.Trust) (request.BundleInfo, error) {
	b, err := e.Upgrades.PutBundle(ctx, file, trust)
	e.put <- err
	return b, err
}

// TestReaderBreaks: what was cut off is never taken for the whole, also when the
// reader says it with io's own word for it.
func TestReaderBreaks(t *testing.T) {
	e := ended{newUpgrades(), make(chan error, 1)}
	r := runUpgrades(t, e)
	text := largeBundle(t)
	for _, cause := range []error{errors.New("the disk is broken"), io.ErrUnexpectedEOF} {
		_, err := r.PutBundle(try.Context(t), broken{bytes.NewReader(text[:3<<20]), cause}, request.Trust{AllowUnsigned: true})
		wantKind(t, err, fail.Invalid, cause.Error())
		select {
		case err := <-e.put:
			if err == nil {
				t.Error("the agent has taken half a bundle in")
			}
		case <-try.Context(t).Done():
			t.Fatal("the agent goes on reading")
		}
	}
}

// cut is a fake whose bundle breaks when it is read, or never goes on.
type cut struct {
	*servertest.Upgrades
	open func() io.ReadCloser
}

func (c cut) OpenBundle(string, int64) (io.ReadCloser, int64, error) { return c.open(), 1 << 30, nil }

func TestBundleOfTheAgentBreaks(t *testing.T) {
	c := cut{newUpgrades(), func() io.ReadCloser {
		return io.NopCloser(broken{strings.NewReader(strings.Repeat("x", 2*api.Chunk+1)), io.ErrUnexpectedEOF})
	}}
	r := runUpgrades(t, c)
	f, _, err := r.GetBundle(try.Context(t), "any", 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	wantKind(t, errors.Join(err, f.Close()), fail.Failed, "unexpected EOF")
	if len(got) > 2*api.Chunk+1 {
		t.Errorf("%d bytes came", len(got))
	}
}

// TestAgentStopsInTheMiddle: neither a bundle that is brought nor one that is
// fetched ends as if it were whole.
func TestAgentStopsInTheMiddle(t *testing.T) {
	source, feed := io.Pipe()
	c := cut{newUpgrades(), func() io.ReadCloser { return source }}
	r := runUpgrades(t, c)

	file, rest := io.Pipe()
	put := make(chan error, 1)
	go func() {
		_, err := r.PutBundle(try.Context(t), file, request.Trust{AllowUnsigned: true})
		put <- err
	}()
	text := largeBundle(t)
	if _, err := rest.Write(text[:1<<20]); err != nil {
		t.Fatal(err)
	}
	fed := make(chan error, 1)
	go func() {
		_, err := feed.Write(make([]byte, 2*api.Chunk))
		fed <- err
	}()
	f, _, err := r.GetBundle(try.Context(t), "any", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, make([]byte, api.Chunk)); err != nil {
		t.Fatal(err)
	}
	if err := <-fed; err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if err := feed.CloseWithError(errors.New("the agent is gone")); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(f); errors.Join(err, f.Close()) == nil {
		t.Error("half a bundle has come as if it were the whole")
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := rest.Write(text[1<<20:])
		wrote <- err
	}()
	wantKind(t, <-put, fail.Unavailable, "can not reach the agent")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("all of the bundle was read by nobody: %v", err)
	}
	_, _, err = r.GetBundle(try.Context(t), "any", 0)
	wantKind(t, err, fail.Unavailable, "can not reach the agent")
}

// rawUpgrades is a client that sends what an api.Client never would.
func rawUpgrades(t *testing.T, socket string) apiv1connect.UpgradeServiceClient {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return apiv1connect.NewUpgradeServiceClient(&http.Client{Transport: tr}, "http://agent")
}

// TestRequestsThatAreNone: a client of an earlier version begins nothing by mistake.
func TestRequestsThatAreNone(t *testing.T) {
	r := runUpgrades(t, newUpgrades())
	c := rawUpgrades(t, r.socket)
	_, errPlan := c.PlanUpgrade(try.Context(t), &apiv1.PlanUpgradeRequest{})
	_, errCheck := c.CheckUpgrade(try.Context(t), &apiv1.CheckUpgradeRequest{})
	_, errRun := c.RunUpgrade(try.Context(t), &apiv1.RunUpgradeRequest{})
	for _, err := range []error{errPlan, errCheck, errRun} {
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "upgrade request: there is none") {
			t.Errorf("got %v, want one that says that there is no request", err)
		}
	}
	st, err := c.PutBundle(try.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.CloseAndReceive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a stream without a message: got %v, want an invalid argument", err)
	}
}

func TestUpgradeCalls(t *testing.T) {
	up := newUpgrades()
	r := runUpgrades(t, up)
	b, err := r.PutBundle(try.Context(t), bytes.NewReader(largeBundle(t)), request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	req := request.Request{Bundle: b.SHA256, Options: upgrade.Options{Mode: manifest.Rolling,
		MaxUnavailable: upgrade.Limit{Percent: 30}, Window: upgrade.Window{From: 60, To: 120}}}
	p, err := r.PlanUpgrade(try.Context(t), req)
	if err != nil || p.To != "1.1.0" || len(p.Hosts) != 3 {
		t.Fatalf("plan %+v, %v", p, err)
	}
	rep, err := r.CheckUpgrade(try.Context(t), req)
	if err != nil || len(rep.Findings) != 2 || !rep.Ended.Equal(testTime()) {
		t.Errorf("check %+v, %v", rep, err)
	}
	_, err = r.ReportUpgrade(try.Context(t))
	wantKind(t, err, fail.Refused, "no upgrade has run")
	up.SetReport(check.Report{Findings: []check.Finding{{Level: check.Fail, Text: "no space"}}})
	begun, err := r.RunUpgrade(try.Context(t), req)
	if err != nil || begun.Job != nil || begun.Report == nil || begun.Report.Findings[0].Text != "no space" ||
		!reflect.DeepEqual(begun.Plan, p) {
		t.Errorf("begun in spite of a failed check: %+v, %v", begun, err)
	}
	up.SetReport(rep)
	if begun, err = r.RunUpgrade(try.Context(t), req); err != nil || begun.Job == nil || begun.Job.State != "active" || begun.Report != nil {
		t.Fatalf("run: %+v, %v", begun, err)
	}
	_, err = r.RunUpgrade(try.Context(t), req)
	wantKind(t, err, fail.Refused, "only one upgrade at a time")
	wantKind(t, r.AdmitHost(try.Context(t), "node9", false), fail.Invalid, "node9")
	if err := r.AdmitHost(try.Context(t), "node2", true); err != nil {
		t.Error(err)
	}
	u, err := r.Upgrade(try.Context(t))
	if err != nil || u.Job == nil || u.Job.ID != begun.Job.ID || u.Bundle == nil || *u.Bundle != b {
		t.Errorf("upgrade %+v, %v", u, err)
	}
	up.Show(&request.Standing{Hosts: []request.HostStanding{}})
	if u, err = r.Upgrade(try.Context(t)); err != nil || u.Hosts == nil || u.Job != nil || u.Bundle != nil {
		t.Errorf("no upgrade at all: %+v, %v; want an empty list of hosts", u, err)
	}
	for _, asked := range up.Asked() {
		if !reflect.DeepEqual(asked, req) {
			t.Errorf("asked %+v, want %+v", asked, req)
		}
	}
	f, err := r.GatherFacts(try.Context(t), fact.Wanted{SHA256: b.SHA256, Request: fact.Request{Host: "node1", Commands: []string{"tar"}}})
	if err != nil || f.Host != "node1" || f.Commands["tar"] != "/bin/tar" {
		t.Errorf("facts %+v, %v", f, err)
	}
	if err := r.SendGuest(try.Context(t), "u1", "vm1", "node2", "10.0.0.0/8"); err != nil ||
		!reflect.DeepEqual(up.Sent(), []string{"vm1 to node2 over 10.0.0.0/8"}) {
		t.Errorf("sent %v, %v", up.Sent(), err)
	}
	wantKind(t, r.SendGuest(try.Context(t), "", "vm1", "node2", ""), fail.Invalid, "vm1")
}

// TestUpgradeCallersWithoutRights asks everything with a certificate that names
// nobody.
func TestUpgradeCallersWithoutRights(t *testing.T) {
	ca := servertest.NewAuthority(t)
	up := newUpgrades()
	ready := make(chan string, 1)
	s, err := New(servertest.New(servertest.Three(testTime())), Options{
		Socket: filepath.Join(try.ShortDir(t), "s"), Listen: "127.0.0.1:0",
		Log: servertest.ListenLog(func(at string) { ready <- at }), Upgrade: up, Agents: up,
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	var addr string
	select {
	case addr = <-ready:
	case <-try.Context(t).Done():
		t.Fatal("the server does not listen")
	}
	c := dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, ""), ca.Pool))
	ctx := try.Context(t)
	var errs []error
	note := func(_ any, err error) { errs = append(errs, err) }
	note(c.PutBundle(ctx, bytes.NewReader(largeBundle(t)), request.Trust{AllowUnsigned: true}))
	note(c.GatherFacts(ctx, fact.Wanted{}))
	note(nil, c.SendGuest(ctx, "u1", "vm1", "node2", ""))
	note(c.PlanUpgrade(ctx, request.Request{}))
	note(c.CheckUpgrade(ctx, request.Request{}))
	note(c.RunUpgrade(ctx, request.Request{}))
	note(c.Upgrade(ctx))
	note(nil, c.AdmitHost(ctx, "node1", false))
	note(c.ReportUpgrade(ctx))
	f, _, err := c.GetBundle(ctx, "any", 0)
	if err == nil {
		_, err = io.ReadAll(f)
		err = errors.Join(err, f.Close())
	}
	for i, err := range append(errs, err) {
		if !strings.Contains(err.Error(), "no common name") {
			t.Errorf("call %d", i)
		}
		wantKind(t, err, fail.Denied, "no common name")
	}
	if len(up.Asked())+len(up.Sent()) > 0 {
		t.Error("a refused caller was obeyed")
	}
}

// TestWhatNeedsAQuorumIsRefusedBefore: without one, no host is asked, nobody waits, and it is said why.
func TestWhatNeedsAQuorumIsRefusedBefore(t *testing.T) {
	r := runUpgrades(t, newUpgrades())
	r.fake.Update(func(s *cluster.Status) { s.Connected, s.StoreError = false, "no leader" })
	ctx := try.Context(t)
	_, errPlan := r.PlanUpgrade(ctx, request.Request{})
	_, errCheck := r.CheckUpgrade(ctx, request.Request{})
	_, errRun := r.RunUpgrade(ctx, request.Request{})
	_, errReport := r.ReportUpgrade(ctx)
	for _, err := range []error{errPlan, errCheck, errRun, errReport} {
		wantKind(t, err, fail.Refused, "reaches no quorum of the store: no leader")
	}
}
