package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestBudget: shares of one and of all, first come, first served, and nobody waits behind a caller whose own
// share is full.
func TestBudget(t *testing.T) {
	b := &budget{share: share{each: 2, all: 3}, by: map[string]*own{}}
	gone, end := context.WithCancel(t.Context())
	end()
	enter := func(name string) (in, alone bool) { return b.enter(gone, name) } // it does not wait
	for _, name := range []string{"a", "a"} {
		if in, _ := b.enter(t.Context(), name); !in {
			t.Fatal("within the shares")
		}
	}
	if in, alone := enter("a"); in || !alone {
		t.Errorf("more than the share of one: in %v, by its own %v", in, alone)
	}
	waits := make(chan struct{})
	go func() {
		defer close(waits)
		b.enter(t.Context(), "a")
	}()
	try.Until(t, "a call to wait", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.waiting) == 1
	})
	if in, _ := b.enter(t.Context(), "b"); !in {
		t.Error("another one waits behind a caller whose share is full")
	}
	if in, alone := enter("c"); in || alone {
		t.Errorf("more than the share of all: in %v, by its own %v", in, alone)
	}
	b.leave("a")
	<-waits
	for _, name := range []string{"a", "a", "b"} {
		b.leave(name)
	}
	if b.under != 0 || len(b.by) != 0 || len(b.waiting) != 0 {
		t.Errorf("left behind: %+v", b)
	}
	b.by["d"] = &own{under: 2, waiting: maxWaiting}
	if in, alone := b.enter(t.Context(), "d"); in || !alone {
		t.Error("one more waits than may")
	}
}

// TestEveryClassHasShares of every kind of caller, and none of one caller are more than those of all.
func TestEveryClassHasShares(t *testing.T) {
	for _, shares := range []map[class]share{guestShares(), peerShares(), localShares()} {
		for c := brief; c <= errand; c++ {
			if s := shares[c]; s.each < 1 || s.all < s.each {
				t.Errorf("class %d: %+v", c, s)
			}
		}
	}
	for procedure := range requests {
		if _, known := rights[procedure]; !known {
			t.Errorf("%s is not in the API", procedure)
		}
	}
	for procedure := range classes {
		if _, known := rights[procedure]; !known {
			t.Errorf("%s is not in the API", procedure)
		}
	}
}

// impatient serves with times that a test can wait for, and returns the address.
func impatient(t *testing.T, ca *servertest.Authority) (*Server, *servertest.Fake, string) {
	t.Helper()
	ready := make(chan string, 1)
	s, fake := limitedServer(t, ca, servertest.ListenLog(func(at string) { ready <- at }))
	s.budgets.wait, s.calls = 50*time.Millisecond, patience{body: 100 * time.Millisecond, take: 100 * time.Millisecond}
	serve(t, s)
	return s, fake, <-ready
}

// TestNobodyIsStarved: hosts that run guests only take what is theirs, and neither what is another one's nor
// what members, operators and root need.
func TestNobodyIsStarved(t *testing.T) {
	ca := servertest.NewAuthority(t)
	s, fake, addr := impatient(t, ca)
	as := func(name string) *api.Client {
		return dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, name), ca.Pool))
	}
	waits := fake.Hang()
	events := func(c *api.Client) error {
		_, _, err := c.Events(try.Context(t), 0, 1)
		return err
	}
	thief := as("g1")
	each, all := guestShares()[brief].each, guestShares()[brief].all
	ended := make(chan error, all)
	for range each {
		go func() { ended <- events(thief) }()
		<-waits
	}
	wantKind(t, events(thief), fail.Unavailable, "too many calls at once by g1: at most 4 of this kind")
	if _, err := as("g2").Version(try.Context(t)); err != nil {
		t.Errorf("another host: %v", err)
	}
	for _, name := range []string{"g2", "g3"} {
		c := as(name)
		for range each {
			go func() { ended <- events(c) }()
			<-waits
		}
	}
	wantKind(t, events(as("g4")), fail.Unavailable, "at most 12 of this kind by hosts that run guests only")
	for _, c := range []*api.Client{as("node2"), as("admin"), dial(t, "unix:"+s.opts.Socket, nil)} {
		if _, err := c.Version(try.Context(t)); err != nil {
			t.Errorf("%s: %v", c.Target(), err)
		}
	}
	// The store is lost, so that those calls end.
	fake.Update(func(s *cluster.Status) { s.Connected = false })
	for range all {
		<-ended
	}
	if err := events(as("g4")); err != nil {
		t.Errorf("when those have ended: %v", err)
	}
}

// httpAs is a client that speaks HTTP/2, and may do what ours do not.
func httpAs(t *testing.T, ca *servertest.Authority, name string) *http.Transport {
	t.Helper()
	tr := &http.Transport{
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, name)}, RootCAs: ca.Pool, MinVersion: tls.VersionTLS13},
	}
	tr.Protocols.SetHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// post makes a call by hand.
func post(t *testing.T, tr *http.Transport, addr, procedure string, body io.Reader, header ...string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(try.Context(t), http.MethodPost, "https://"+addr+procedure, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/proto")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return tr.RoundTrip(r)
}

// TestBodiesAreBounded: also of calls that everybody may make, as sent and as unpacked.
func TestBodiesAreBounded(t *testing.T) {
	ca := servertest.NewAuthority(t)
	_, _, addr := impatient(t, ca)
	tr := httpAs(t, ca, "g1")
	for what, call := range map[string]func() (*http.Response, error){
		"sent": func() (*http.Response, error) {
			return post(t, tr, addr, apiv1connect.ClusterServiceGetStatusProcedure, io.LimitReader(zeros{}, 1<<20))
		},
		"unpacked": func() (*http.Response, error) {
			return post(t, tr, addr, apiv1connect.ClusterServiceGetStatusProcedure, bytes.NewReader(packed(t)[:8<<10]), "Content-Encoding", "gzip")
		},
	} {
		resp, err := call()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusTooManyRequests || !strings.Contains(string(body), "resource_exhausted") {
			t.Errorf("%s: %s %q, %v", what, resp.Status, body, err)
		}
	}
}

// TestWhoSendsNothingIsNotWaitedFor: a call whose body does not come ends, and gives back what it has.
func TestWhoSendsNothingIsNotWaitedFor(t *testing.T) {
	ca := servertest.NewAuthority(t)
	s, _, addr := impatient(t, ca)
	body, w := io.Pipe()
	defer w.Close()
	resp, err := post(t, httpAs(t, ca, "g1"), addr, apiv1connect.ClusterServiceGetStatusProcedure, body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("it was answered")
	}
	wantNoCalls(t, s.budgets.guests[brief])
}

// TestWhoTakesNothingIsNotWaitedFor: an answer that nobody reads is given up, though the connection lives.
func TestWhoTakesNothingIsNotWaitedFor(t *testing.T) {
	ca := servertest.NewAuthority(t)
	s, fake, addr := impatient(t, ca)
	fake.Update(func(s *cluster.Status) {
		for range 2000 {
			s.Hosts = append(s.Hosts, cluster.HostStatus{Host: cluster.Host{Name: cluster.HostID(strings.Repeat("x", 200))}})
		}
	})
	tr := httpAs(t, ca, "g1")
	resp, err := post(t, tr, addr, apiv1connect.ClusterServiceGetStatusProcedure, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	wantNoCalls(t, s.budgets.guests[brief])
	if _, err := io.Copy(io.Discard, resp.Body); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is not the agent that ended the answer: %v", err)
	}
	other, err := post(t, tr, addr, apiv1connect.ClusterServiceGetVersionProcedure, http.NoBody)
	if err != nil {
		t.Fatalf("the next call: %v", err)
	}
	other.Body.Close()
}

func wantNoCalls(t *testing.T, b *budget) {
	t.Helper()
	try.Until(t, "the call to end", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.under == 0
	})
}

// TestStreamsMayBeSilent: what is told of a stream now and then comes, however long nothing was to be told.
func TestStreamsMayBeSilent(t *testing.T) {
	w := &slowWriter{}
	rec := &budgetShare{w, http.NewResponseController(w), time.Hour}
	if _, err := rec.Write(make([]byte, 3*takeBytes)); err != nil {
		t.Fatal(err)
	}
	if w.written != 3*takeBytes || w.within != 3 || !w.deadline.IsZero() {
		t.Errorf("%+v", w)
	}
}

// TestStreamsOutlastThePatience: what sends once a second goes on, with HTTP/2 and HTTP/1.1, and the connection
// serves the next call.
func TestStreamsOutlastThePatience(t *testing.T) {
	need.Seconds(t)
	ca := servertest.NewAuthority(t)
	_, _, addr := impatient(t, ca)
	for _, two := range []bool{true, false} {
		tr := httpAs(t, ca, "g1")
		tr.Protocols.SetHTTP2(two)
		tr.Protocols.SetHTTP1(!two)
		resp, err := post(t, tr, addr, apiv1connect.ClusterServiceWatchStatusProcedure,
			bytes.NewReader(make([]byte, 5)), "Content-Type", "application/connect+proto")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // one at once, one after a beat
			head := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, head); err != nil || head[0] != 0 {
				t.Fatalf("HTTP/2 %v: %v, %v", two, head, err)
			}
			if _, err := io.CopyN(io.Discard, resp.Body, int64(binary.BigEndian.Uint32(head[1:]))); err != nil {
				t.Fatal(err)
			}
		}
		resp.Body.Close()
		for range 2 { // on one connection
			resp, err := post(t, tr, addr, apiv1connect.ClusterServiceGetStatusProcedure, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("HTTP/2 %v: %s, %v", two, resp.Status, err)
			}
			resp.Body.Close()
		}
	}
}

// slowWriter notes deadlines.
type slowWriter struct {
	http.ResponseWriter
	deadline        time.Time
	written, within int
}

func (w *slowWriter) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if !w.deadline.IsZero() {
		w.within++
	}
	w.written += len(p)
	return len(p), nil
}
