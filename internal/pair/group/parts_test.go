package group

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/host/vip"
	"holdfast/internal/pair"
	"holdfast/internal/testbed/nettest"
	"holdfast/internal/testbed/try"
	"holdfast/internal/vipaddr"
)

// TestAnAddressIsAMember: added, kept and taken off again; another machine that has it is told of.
func TestAnAddressIsAMember(t *testing.T) {
	n := nettest.New(t, 2)
	for i := range 2 {
		try.Until(t, "a carrier", func() bool { return strings.Contains(n.Host(i).IP(t, "link", "show", "eth0"), "state UP") })
	}
	v, err := vipaddr.Parse("10.77.0.50/24")
	try.Must(t, err)
	var said strings.Builder
	a := &Address{Name: "webip", Restarts: 3, VIP: vip.New(v, []netip.Addr{netip.MustParseAddr("10.77.0.2")}, slog.New(slog.DiscardHandler)), Log: slog.New(slog.NewTextHandler(&said, nil))}
	if s := a.Spec(); s != (pair.Member{Name: "webip", Restarts: 3}) {
		t.Errorf("%+v", s)
	}
	on := func(f func(ctx context.Context) error) {
		t.Helper()
		try.Must(t, n.Host(0).Do(func() error { return f(try.Context(t)) }))
	}
	state := func(want pair.State) {
		t.Helper()
		on(func(ctx context.Context) error {
			if got := a.State(ctx); got != want {
				t.Errorf("state %d, want %d", got, want)
			}
			return nil
		})
	}
	state(pair.Down)
	on(func(context.Context) error { a.Keep(); return nil }) // nothing to keep
	if a.end != nil {
		t.Error("an address that is not here is kept")
	}
	on(a.VIP.Add) // as an agent before this one has left it
	state(pair.Up)
	on(func(ctx context.Context) error { return a.Stop(ctx, true) })
	state(pair.Down)
	on(func(ctx context.Context) error { return a.Stop(ctx, false) }) // again
	a.Rest()
}

// systemctl stands for systemd's: a file has the state of the unit.
func systemctl(t *testing.T) (program, state string) {
	t.Helper()
	dir := t.TempDir()
	program, state = filepath.Join(dir, "systemctl"), filepath.Join(dir, "state")
	try.Must(t, os.WriteFile(program, []byte(`#!/bin/sh
state=`+state+`
echo "$*" >>`+dir+`/calls
case "$*" in
*show*--property=ActiveState*) cat $state ;;
*kill*) [ "$(cat $state)" = inactive ] && exit 1; echo failed >$state ;;
*start*) echo active >$state ;;
*stop*) [ "$(cat $state)" = stuck ] && exit 1; echo inactive >$state ;;
esac
`), 0o755))
	try.Must(t, os.WriteFile(state, []byte("inactive\n"), 0o600))
	return program, state
}

func TestAUnitIsAMember(t *testing.T) {
	program, file := systemctl(t)
	u := &Unit{Name: "web", Unit: "web.service", Restarts: 2, Systemctl: program}
	ctx := try.Context(t)
	for said, want := range map[string]pair.State{
		"active": pair.Up, "reloading": pair.Up, "inactive": pair.Down, "failed": pair.Down,
		"activating": pair.Failed, "deactivating": pair.Failed, "": pair.StateUnknown, "else": pair.StateUnknown,
	} {
		try.Must(t, os.WriteFile(file, []byte(said+"\n"), 0o600))
		if got := u.State(ctx); got != want {
			t.Errorf("%q: state %d, want %d", said, got, want)
		}
	}
	try.Must(t, os.WriteFile(file, []byte("inactive\n"), 0o600))
	try.Must(t, u.Start(ctx))
	if u.State(ctx) != pair.Up {
		t.Error("it was started and does not run")
	}
	try.Must(t, u.Stop(ctx, false))
	try.Must(t, u.Stop(ctx, true)) // what is not there can not be killed, and is gone
	try.Must(t, u.Start(ctx))
	try.Must(t, u.Stop(ctx, true))
	if u.State(ctx) != pair.Down {
		t.Error("it was stopped and runs")
	}
	try.Must(t, os.WriteFile(file, []byte("stuck\n"), 0o600))
	if err := u.Stop(ctx, false); err == nil {
		t.Error("a stop that failed is told as done")
	}
	if s := (&Unit{Systemctl: "/nonexistent"}).State(ctx); s != pair.StateUnknown {
		t.Errorf("a unit that can not be asked about is %d", s)
	}
	calls, err := os.ReadFile(filepath.Join(filepath.Dir(file), "calls"))
	if err != nil || !strings.Contains(string(calls), "--no-ask-password kill --signal=SIGKILL -- web.service") {
		t.Errorf("calls %s, %v", calls, err)
	}
}

func TestAVoterStartsNothing(t *testing.T) {
	var v Voter
	ctx := t.Context()
	if g, err := v.Observe(ctx); err != nil || g.State != cluster.GuestAbsent {
		t.Errorf("%+v, %v", g, err)
	}
	if err := v.Start(ctx, cluster.GuestSpec{}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("a start: %v", err)
	}
	for what, err := range map[string]error{"check": v.Check(ctx, cluster.GuestSpec{}), "migrate": v.Migrate(ctx, "", false), "resume": v.Resume(ctx)} {
		if err == nil {
			t.Errorf("%s was allowed", what)
		}
	}
	for what, err := range map[string]error{"shutdown": v.Shutdown(ctx), "kill": v.Kill(ctx), "abort": v.AbortMigration(ctx), "close": v.Close()} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
