package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// testTime is what the fake's status shows.
func testTime() time.Time { return time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC) }

// running is a server of a test and a client of it.
type running struct {
	*api.Client
	fake   *servertest.Fake
	socket string
	stop   func() error // ends the server; may be called again
}

// run serves a fake on a unix socket until the test ends.
func run(t *testing.T, edit func(*Server)) *running {
	t.Helper()
	r := &running{fake: servertest.New(servertest.Three(testTime())), socket: filepath.Join(try.ShortDir(t), "s")}
	s, err := New(r.fake, Options{Socket: r.socket, Log: slog.New(slog.DiscardHandler), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(s)
	}
	r.stop = serve(t, s)
	r.Client = dial(t, "unix:"+r.socket, nil)
	try.Until(t, "the server to answer", func() bool {
		_, err := r.Version(try.Context(t))
		return err == nil
	})
	return r
}

// serve runs a server until stop, at the latest until the test ends.
func serve(t *testing.T, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = s.Serve(ctx)
	}()
	stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
	})
	return stop
}

func dial(t *testing.T, target string, conf *tls.Config) *api.Client {
	t.Helper()
	c, err := api.Dial(target, conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// wantKind fails unless err is a fail.Error of a kind whose message holds text.
func wantKind(t *testing.T, err error, kind fail.Kind, text string) {
	t.Helper()
	var e *fail.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v (%T), want an error of kind %s", err, err, kind)
	}
	if e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Errorf("got %s %q, want %s with %q", e.Kind, e.Message, kind, text)
	}
}

func TestStatusAndVersion(t *testing.T) {
	r := run(t, nil)
	got, err := r.Status(try.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := servertest.Three(testTime()); !reflect.DeepEqual(got, want) {
		t.Errorf("status:\n got %+v\nwant %+v", got, want)
	}
	v, err := r.Version(try.Context(t))
	if err != nil || v.Version != "1.2.3" || v.API != "v1" || v.Go == "" {
		t.Errorf("version %+v, error %v", v, err)
	}
}

func TestRequests(t *testing.T) {
	r := run(t, nil)
	r.fake.Update(func(s *cluster.Status) { s.Want = cluster.Want{HandsOff: true} })
	steps := []struct {
		name string
		do   func() error
		want cluster.Want
	}{
		{"start", func() error { return r.Start(try.Context(t), "") }, cluster.Want{Run: true}},
		{"hands off", func() error { return r.Stop(try.Context(t), true, "") }, cluster.Want{Run: true, HandsOff: true}},
		{"stop", func() error { return r.Stop(try.Context(t), false, "k1") }, cluster.Want{HandsOff: true}},
		{"start again", func() error { return r.Start(try.Context(t), "") }, cluster.Want{Run: true}},
		{"stop under a used key", func() error { return r.Stop(try.Context(t), false, "k1") }, cluster.Want{Run: true}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := r.fake.Status().Want; !reflect.DeepEqual(got, step.want) {
			t.Errorf("after %s: want record %+v, want %+v", step.name, got, step.want)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range r.fake.Users() {
		if u != me.Username {
			t.Errorf("a request of %s is recorded as of %q", me.Username, u)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	r := run(t, nil)
	for _, key := range []string{"with blank", strings.Repeat("x", 65), "\x01"} {
		wantKind(t, r.Start(try.Context(t), key), fail.Invalid, "idempotency_key")
	}
	for _, c := range []struct {
		err  error
		kind fail.Kind
	}{
		{store.ErrRetry, fail.Unavailable},
		{store.ErrUnknown, fail.Unknown},
		{store.ErrDefinite, fail.Failed},
		{context.DeadlineExceeded, fail.Timeout},
	} {
		r.fake.Fail(fmt.Errorf("write the want record: %w", c.err))
		wantKind(t, r.Start(try.Context(t), ""), c.kind, "start it: write the want record")
	}
	r.fake.Update(func(s *cluster.Status) { s.Connected, s.StoreError = false, "no leader" })
	wantKind(t, r.Start(try.Context(t), ""), fail.Refused, "no leader")
}

// TestWithoutAQuorum: what only tells is answered by what a member knows, with its age; nobody blames the agent.
func TestWithoutAQuorum(t *testing.T) {
	r := run(t, nil)
	var age []time.Duration
	r.OnOld(func(d time.Duration) { age = append(age, d) })
	if _, _, err := r.Events(try.Context(t), 0, 10); err != nil || len(age) > 0 {
		t.Fatalf("with a quorum: %v, it is called old: %v", err, age)
	}
	r.fake.Update(func(s *cluster.Status) {
		s.Connected, s.StoreError, s.AsOf = false, "no leader", s.Time.Add(-15*time.Second)
	})
	if _, _, err := r.Events(try.Context(t), 0, 10); err != nil || len(age) != 1 || age[0] < 15*time.Second {
		t.Errorf("without: %v, ages %v", err, age)
	}
	r.fake.Update(func(s *cluster.Status) { s.AsOf = time.Time{} })
	if _, err := r.Status(try.Context(t)); err != nil || len(age) != 1 {
		t.Errorf("the status, which tells the age itself: %v, ages %v", err, age)
	}
	if _, _, err := r.Events(try.Context(t), 0, 10); err != nil || len(age) != 2 || age[1] != -1 {
		t.Errorf("of an age that nobody knows: %v, ages %v", err, age)
	}

	// A call that waits for the store when it is lost is answered, too.
	r.fake.Update(func(s *cluster.Status) { s.Connected, s.StoreError = true, "" })
	waits, done := r.fake.Hang(), make(chan error, 1)
	go func() {
		_, _, err := r.Events(try.Context(t), 0, 10)
		done <- err
	}()
	<-waits
	r.fake.Update(func(s *cluster.Status) { s.Connected, s.StoreError, s.AsOf = false, "no leader", s.Time })
	if err := <-done; err != nil || len(age) != 3 || age[2] < 0 {
		t.Errorf("it was lost meanwhile: %v, ages %v", err, age)
	}
	r.fake.Fail(fmt.Errorf("list the events: %w", store.ErrRetry))
	_, _, err := r.Events(try.Context(t), 0, 10)
	wantKind(t, err, fail.Unavailable, "no quorum of the store (no leader)")
}

func TestWatchStatus(t *testing.T) {
	r := run(t, nil)
	n := 0
	for s, err := range r.WatchStatus(try.Context(t)) {
		if err != nil {
			t.Fatal(err)
		}
		switch n++; n {
		case 1:
			r.fake.Update(func(s *cluster.Status) { s.Waiting = "for the test" })
			continue
		case 2: // the change, or a beat that came first
			if s.Waiting == "" {
				n--
				continue
			}
			continue
		}
		break // without a change: the beat
	}
	try.Until(t, "the watch to end at the server", func() bool { return r.fake.Watchers() == 0 })
}

func TestEvents(t *testing.T) {
	r := run(t, nil)
	var all []cluster.Event
	for i := range 5 {
		all = append(all, cluster.Event{Time: testTime(), Kind: cluster.EvStarted, Detail: fmt.Sprint(i)})
	}
	r.fake.Log(all...)
	for _, c := range []struct {
		after       int64
		limit       int
		first, last int
		next        int64
	}{{0, 2, 0, 2, 2}, {2, 0, 2, 5, 5}, {-1, 3, 2, 5, 5}, {5, 0, 5, 5, 5}} {
		got, next, err := r.Events(try.Context(t), c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		if want := all[c.first:c.last]; len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) || next != c.next {
			t.Errorf("events after %d, limit %d: got %v, next %d; want %v, %d", c.after, c.limit, got, next, want, c.next)
		}
	}
	_, _, err := r.Events(try.Context(t), -2, 0)
	wantKind(t, err, fail.Invalid, "after -2")
	_, _, err = r.Events(try.Context(t), 0, 1001)
	wantKind(t, err, fail.Invalid, "limit 1001")

	var got []cluster.Event
	for page, err := range r.WatchEvents(try.Context(t), 3) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.Events...)
		if len(got) == 3 {
			break
		}
		r.fake.Log(cluster.Event{Time: testTime(), Kind: cluster.EvReleased})
	}
	if len(got) != 3 || got[0].Detail != "3" || got[2].Kind != cluster.EvReleased {
		t.Errorf("watched events %v", got)
	}
}

func TestStreamEndsWithTheServer(t *testing.T) {
	r := run(t, nil)
	var last error
	begin := time.Now()
	for _, err := range r.WatchStatus(try.Context(t)) {
		last = err
		if err == nil && time.Since(begin) < time.Minute {
			begin = begin.Add(-time.Hour)
			go func() { _ = r.stop() }() // its error is looked at when the test ends
		}
	}
	wantKind(t, last, fail.Unavailable, "the agent is stopping")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestSocketMode(t *testing.T) {
	r := run(t, nil)
	info, err := os.Stat(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, want 0600", info.Mode())
	}
}

func TestSocketOfALivingAgent(t *testing.T) {
	r := run(t, nil)
	s, err := New(r.fake, Options{Socket: r.socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Serve(try.Context(t))
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another agent serves it (pid %d)", os.Getpid())) {
		t.Errorf("got %v, want an error that names the process", err)
	}
	if _, err := r.Version(try.Context(t)); err != nil {
		t.Errorf("the first agent was disturbed: %v", err)
	}
}

func TestSocketWithoutLock(t *testing.T) {
	path := filepath.Join(try.ShortDir(t), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := listenUnix(try.Context(t), path); err == nil || !strings.Contains(err.Error(), "another agent serves it (pid ") {
		t.Errorf("a served socket: got %v", err)
	}
}

func TestSocketOfADeadAgent(t *testing.T) {
	path := filepath.Join(try.ShortDir(t), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := listenUnix(try.Context(t), path)
	if err != nil {
		t.Fatalf("a left socket is not replaced: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}

func TestSocketPathIsAFile(t *testing.T) {
	path := filepath.Join(try.ShortDir(t), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(try.Context(t), path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file was touched: %q, %v", b, err)
	}
}

func TestNewRefusesOptions(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]Options{
		"no socket":     {Log: log},
		"no log":        {Socket: "s"},
		"no TLS":        {Socket: "s", Log: log, Listen: "127.0.0.1:0"},
		"no client CAs": {Socket: "s", Log: log, Listen: "127.0.0.1:0", TLS: &tls.Config{MinVersion: tls.VersionTLS13}},
	} {
		if _, err := New(nil, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCallersDeadline(t *testing.T) {
	r := run(t, nil)
	for range 20 { // whether the agent or the caller notices first is a matter of luck
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		var last error
		for _, err := range r.WatchStatus(ctx) {
			last = err
		}
		if ctx.Err() == nil {
			t.Errorf("the stream ended before its deadline: %v", last)
		}
		wantKind(t, last, fail.Unavailable, "gave no answer in time")
		cancel()
	}
}

// otherPair is what else a pair answers.
type otherPair = Pair

// patientPair tells how long it was given to make a partition.
type patientPair struct {
	otherPair
	given time.Duration
}

func (p *patientPair) AddPartition(ctx context.Context, _ string, _ cluster.PartitionOrder) error {
	end, _ := ctx.Deadline()
	p.given = time.Until(end)
	return nil
}

// TestAPartitionMayTakeLong: the agent waits for a file system as long as the client does.
func TestAPartitionMayTakeLong(t *testing.T) {
	p := &patientPair{}
	r := run(t, func(s *Server) { s.opts.Pair = p })
	if err := r.AddPartition(t.Context(), cluster.PartitionOrder{Name: "a", Disk: "/dev/sdb", Mount: "/a"}); err != nil {
		t.Fatal(err)
	}
	if p.given <= pairTime {
		t.Errorf("it is given %s, want more than other calls about a pair", p.given)
	}
}
