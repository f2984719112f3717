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
	"holdfast/internal/lib/network"
	"holdfast/internal/pair"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// TestAnAddressIsAMember: added, kept and taken off again; another machine that has it is told of.
func TestAnAddressIsAMember(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	n := nettest.New(t, 2)
	for i := range 2 {
		try.Until(t, "a carrier", func() bool { return strings.Contains(n.Host(i).IP(t, "link", "show", "eth0"), "state UP") })
	}
	v, err := network.ParseVIP("10.77.0.50/24")
	try.Must(t, err)
	var said strings.Builder
	a := &Address{Name: "webip", Restarts: 3, VIP: vip.New(v, []netip.Addr{netip.MustParseAddr("10.77.0.2")},
		slog.New(slog.DiscardHandler)), Log: slog.New(slog.NewTextHandler(&said, nil))}
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
	on(func(context.Context) error { a.StartUpkeep(); return nil }) // nothing to keep
	if a.end != nil {
		t.Error("an address that is not here is kept")
	}
	on(a.VIP.Add) // as an agent before this one has left it
	state(pair.Up)
	on(func(ctx context.Context) error { return a.Stop(ctx, true) })
	state(pair.Down)
	on(func(ctx context.Context) error { return a.Stop(ctx, false) }) // again
	a.StopUpkeep()
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
*show*--property=ActiveState*) echo "ControlGroup=$(cat $state.group 2>/dev/null)"; echo "ActiveState=$(cat $state)" ;;
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

// TestAUnitIsAskedAboutWhenItChanges: while its control group is as it was, systemd is asked once in a while.
func TestAUnitIsAskedAboutWhenItChanges(t *testing.T) {
	program, file := systemctl(t)
	root := t.TempDir()
	u := &Unit{Name: "web", Unit: "web.service", Systemctl: program, Cgroups: root}
	ctx := try.Context(t)
	asked := 0
	look := func(what string, want pair.State, more int) {
		t.Helper()
		got := u.State(ctx)
		calls, err := os.ReadFile(filepath.Join(filepath.Dir(file), "calls"))
		try.Must(t, err)
		n := strings.Count(string(calls), "show")
		if got != want || n-asked != more {
			t.Errorf("%s: state %d after %d questions, want %d after %d", what, got, n-asked, want, more)
		}
		asked = n
	}
	is := func(state, group, events string) {
		try.Must(t, os.WriteFile(file, []byte(state+"\n"), 0o600))
		try.Must(t, os.WriteFile(file+".group", []byte(group), 0o600))
		dir := filepath.Join(root, group)
		try.Must(t, os.MkdirAll(dir, 0o755))
		if events != "" {
			try.Must(t, os.WriteFile(filepath.Join(dir, "cgroup.events"), []byte(events), 0o600))
		}
	}
	is("inactive", "", "")
	look("version 1 of control groups tells nothing", pair.Down, 1)
	look("again", pair.Down, 1)
	is("active", "/my.slice/web.service", "populated 1\nfrozen 0\n")
	look("nor does it of one that runs, at first", pair.Up, 1)
	try.Must(t, os.WriteFile(filepath.Join(root, "cgroup.controllers"), nil, 0o600))
	look("now it is known where its group is", pair.Up, 1)
	look("as it was", pair.Up, 0)
	is("deactivating", "/my.slice/web.service", "populated 1\nfrozen 0\n")
	look("an order of somebody else's is not seen at once", pair.Up, 0)
	u.last.at = u.last.at.Add(-askAgain)
	look("it is in a while", pair.Failed, 1)
	look("and is asked about again and again", pair.Failed, 1)
	is("activating", "/my.slice/web.service", "populated 0\nfrozen 0\n")
	look("its processes have ended", pair.Failed, 1)
	is("active", "/my.slice/web.service", "populated 0\nfrozen 0\n")
	look("one that runs without processes", pair.Up, 1)
	look("is asked about", pair.Up, 1)
	try.Must(t, os.RemoveAll(filepath.Join(root, "my.slice")))
	is("inactive", "", "")
	look("it has ended", pair.Down, 1)
	look("as it was", pair.Down, 0)
	is("active", "/my.slice/web.service", "populated 1\nfrozen 0\n")
	look("somebody starts it", pair.Up, 1)
	look("as it was", pair.Up, 0)
	try.Must(t, u.Stop(ctx, false))
	look("after an order it is asked", pair.Down, 2) // by the order itself, too: its group still has processes
	try.Must(t, os.Remove(program))
	u.forget()
	if u.State(ctx) != pair.StateUnknown {
		t.Error("systemd does not answer, and the unit's state is known")
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
	for what, err := range map[string]error{"check": v.Check(ctx, cluster.GuestSpec{}),
		"migrate": v.Migrate(ctx, "", false), "resume": v.Resume(ctx)} {
		if err == nil {
			t.Errorf("%s was allowed", what)
		}
	}
	for what, err := range map[string]error{"shutdown": v.Shutdown(ctx), "kill": v.Kill(ctx),
		"abort": v.AbortMigration(ctx), "close": v.Close()} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
