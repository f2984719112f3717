package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// TestCallsWithinTheProcess are as those over the network: by the caller's role, with errors and streams.
func TestCallsWithinTheProcess(t *testing.T) {
	fake := servertest.New(servertest.Three(testTime()))
	s, err := New(fake, Options{Socket: filepath.Join(try.ShortDir(t), "s"), Log: slog.New(slog.DiscardHandler)})
	try.Must(t, err)
	as := func(r cluster.Role) *api.Client {
		return api.Through("here", s.As(Caller{User: "the " + string(r), Role: r}))
	}
	for range 50 { // the answer is read to its end
		if got, err := as(cluster.Viewer).Status(t.Context()); err != nil || got.Cluster != "prod" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	wantKind(t, as(cluster.Viewer).Stop(t.Context(), false, ""), fail.Denied, "the viewer has the role viewer, and operator is needed")
	try.Must(t, as(cluster.Operator).Stop(t.Context(), false, ""))
	if _, err := as(cluster.Operator).BackUpStore(t.Context()); err == nil {
		t.Error("an operator may back up the store")
	}
	_, err = as(cluster.Admin).PeerStatus(t.Context())
	wantKind(t, err, fail.Denied, "only hosts may call")
	if got := fake.Users(); len(got) != 1 || got[0] != "the operator" {
		t.Errorf("%q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for st, err := range as(cluster.Viewer).WatchStatus(ctx) {
		switch n++; {
		case err != nil && ctx.Err() == nil:
			t.Fatal(err)
		case n == 1 && st.Want.Run:
			t.Errorf("%+v", st.Want)
		case n == 1:
			fake.Update(func(s *cluster.Status) { s.Coordinator = "node3" })
		case st.Coordinator == "node3":
			cancel()
		}
	}
	try.Until(t, "nobody watches", func() bool { return fake.Watchers() == 0 })

	hung := fake.Hang()
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, _, err := as(cluster.Operator).Events(ctx, 0, 1); done <- err }()
	<-hung
	cancel()
	var e *fail.Error
	if err := <-done; !errors.As(err, &e) || e.Kind != fail.Canceled {
		t.Errorf("%v", err)
	}
}

// TestAnAnswerComesToWhoIsStillSending: what is refused before all of it was sent is told, and the sender does not wait for ever.
func TestAnAnswerComesToWhoIsStillSending(t *testing.T) {
	up := servertest.NewUpgrades(&servertest.Jobs{Now: testTime()})
	s, err := New(servertest.New(servertest.Three(testTime())),
		Options{Socket: filepath.Join(try.ShortDir(t), "s"), Log: slog.New(slog.DiscardHandler), Jobs: up, Upgrade: up})
	try.Must(t, err)
	for role, kind := range map[cluster.Role]fail.Kind{cluster.Operator: fail.Invalid, cluster.Viewer: fail.Denied} {
		c := api.Through("here", s.As(Caller{User: "the " + string(role), Role: role}))
		_, err := c.PutBundle(t.Context(), endless{}, request.Trust{AllowUnsigned: true})
		wantKind(t, err, kind, "")
	}
}

// endless is a file that is no bundle, and has no end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestNoServiceIsUnknown: an agent that lacks a service says why, and not that it is of another version.
func TestNoServiceIsUnknown(t *testing.T) {
	s, err := New(servertest.New(servertest.Three(testTime())), Options{Socket: filepath.Join(try.ShortDir(t), "s"),
		Log: slog.New(slog.DiscardHandler)})
	try.Must(t, err)
	as := s.As(Caller{User: "anna", Role: cluster.Admin})
	for procedure := range rights {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, procedure, http.NoBody)
		r.Header.Set("Content-Type", "application/proto")
		resp, err := as.RoundTrip(r)
		try.Must(t, err)
		if resp.StatusCode == http.StatusNotFound {
			t.Errorf("%s is not known", procedure)
		}
		try.Must(t, resp.Body.Close())
	}
	_, err = api.Through("here", as).Jobs(t.Context())
	wantKind(t, err, fail.Refused, "this agent runs no hypervisor, and so has no jobs, upgrades, guests and screens")
}
