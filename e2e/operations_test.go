package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/need"
)

// another names a host that does not have the guest.
func another(r *rig, holder cluster.HostID) string {
	for _, h := range r.lab.Hosts() {
		if h != string(holder) {
			return h
		}
	}
	return ""
}

// TestLiveMigrationThereAndBack moves the guest under a ping of 20 ms.
func TestLiveMigrationThereAndBack(t *testing.T) { onLab(t, plain, liveMigrationThereAndBack) }

func liveMigrationThereAndBack(t testing.TB, r *rig) {
	for i := range runs(t, defaultRuns) {
		st := r.healthy(t)
		home := string(st.Owner.Host)
		before := r.answer(t)
		end := r.watching(t)
		for _, to := range []string{another(r, st.Owner.Host), home} {
			// The host that it has just left may not know for a moment what it still has of it.
			r.healthy(t)
			if out := r.command(t, home, "migrate", to); !strings.Contains(out, "running on "+to) {
				t.Errorf("migrate said %q", out)
			}
		}
		after := r.answer(t)
		w := end()
		w.oneHolder(t)
		if after.Boot != before.Boot || after.N < before.N {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if now := r.healthy(t).Owner; string(now.Host) != home || now.Epoch != st.Owner.Epoch {
			t.Errorf("owner %+v, was %+v", now, st.Owner)
		}
		t.Logf("run %d, there and back: %d pings of 20 ms lost of %d, longest gap %s", i+1, w.pings.Lost, w.pings.Sent, w.pings.Longest)
	}
}

// TestWrongWaysToCall: exit codes and reasons of calls that can not work.
func TestWrongWaysToCall(t *testing.T) { onLab(t, plain, wrongWaysToCall) }

func wrongWaysToCall(t testing.TB, r *rig) {
	h := r.lab.Hosts()[0]
	n, err := config.LoadNode(r.disk(h, "agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	foreign := r.certificates(t, h, "foreign", time.Hour)
	server := []string{"status", "--server", "https://" + n.API.Listen}
	for _, c := range []struct {
		code int
		want []string
		args []string
	}{
		{2, []string{"--colour", "holdfast status --help"}, []string{"status", "--colour"}},
		{2, []string{"--sinse", "holdfast events --help"}, []string{"events", "--sinse", "1h"}},
		{2, []string{"yesterday", "2006-01-02"}, []string{"events", "--since", "yesterday"}},
		{2, []string{"stauts", "--help"}, []string{"stauts"}},
		{2, []string{"--server needs --ca"}, server},
		{4, []string{"/nonexistent.sock", "no such file", "--socket"}, []string{"status", "--socket", "/nonexistent.sock"}},
		{4, []string{"connection refused"}, []string{"status", "--server", "https://127.0.0.1:1", "--ca", n.TLS.CA,
			"--cert", n.TLS.Cert, "--key", n.TLS.Key}},
		{4, []string{"not signed by an authority that is trusted", "--ca"},
			append(server, "--ca", foreign.CA, "--cert", n.TLS.Cert, "--key", n.TLS.Key)},
		{4, []string{"--cert"}, append(server, "--ca", n.TLS.CA, "--cert", foreign.Cert, "--key", foreign.Key)},
		{2, []string{"private key"}, append(server, "--ca", n.TLS.CA, "--cert", foreign.Cert, "--key", n.TLS.Key)},
	} {
		r.refused(t, h, c.code, c.want, c.args...)
	}
	out, err := r.lab.Exec(t.Context(), h, "setpriv", "--reuid=65534", "--clear-groups", r.exe, "status")
	if said := fmt.Sprint(out, err); !strings.Contains(said, "exit status 4") || !strings.Contains(said, "run the command as root") {
		t.Errorf("as nobody: %s", said)
	}
}

// TestMigrationIsRefusedWithAReason covers the targets that can not be.
func TestMigrationIsRefusedWithAReason(t *testing.T) {
	need.Drill(t, "P7: a migration to where the guest can not go is refused with a reason")
	onLab(t, plain, migrationIsRefusedWithAReason)
}

func migrationIsRefusedWithAReason(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, other := string(st.Owner.Host), another(r, st.Owner.Host)
	for _, c := range []struct{ to, want string }{
		{holder, "already"},
		{"nowhere", "hosts: h1"},
	} {
		out, err := r.lab.Exec(t.Context(), other, r.exe, "migrate", c.to)
		if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, c.want) || !strings.Contains(said, "exit status 2") {
			t.Errorf("migrate %s: %s: want exit status 2 and %q", c.to, said, c.want)
		}
	}
}

// TestStopStaysStoppedAndStartBringsItBack stops the whole cluster's guest; it
// stays stopped when a host reboots, and comes back on request.
func TestStopStaysStoppedAndStartBringsItBack(t *testing.T) {
	need.Drill(t, "P3: a cluster that was stopped stays so when a host boots, and start brings the guest back")
	onLab(t, plain, stopStaysStoppedAndStartBringsItBack)
}

func stopStaysStoppedAndStartBringsItBack(t testing.TB, r *rig) {
	st := r.healthy(t)
	before := r.answer(t)
	end := r.watching(t)
	r.command(t, another(r, st.Owner.Host), "stop")
	stopped := func(what string) {
		t.Helper()
		ls, err := r.lab.Status(t.Context())
		if err != nil || guests(ls) != 0 {
			t.Fatalf("%s: %+v, %v: want no guest", what, ls, err)
		}
	}
	stopped("after stop")
	holder := string(st.Owner.Host)
	if err := r.lab.Crash(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	if err := r.lab.On(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the rebooted host to join", func(ctx context.Context) (string, bool) {
		st, err := r.statusOf(ctx, holder)
		alive := 0
		for _, h := range st.Hosts {
			if h.Alive {
				alive++
			}
		}
		return fmt.Sprint(alive, " hosts, ", st.StoreError, err), err == nil && st.Connected && alive == len(r.lab.Hosts())
	})
	stopped("after a reboot")
	r.command(t, holder, "start")
	r.healthy(t)
	after := r.answer(t)
	if after.Boot == before.Boot || !strings.Contains(after.Prev, before.Boot) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	end().oneHolder(t)
}

// TestHandsOffLeavesEverythingAlone cuts the whole network under hands off: the
// guest goes on, nobody is reset, and after start a takeover is possible again.
func TestHandsOffLeavesEverythingAlone(t *testing.T) {
	need.Drill(t, "P2: under hands off a cut of the whole network ends no guest and resets no host")
	onLab(t, plain, handsOffLeavesEverythingAlone)
}

func handsOffLeavesEverythingAlone(t testing.TB, r *rig) {
	st := r.healthy(t)
	before := r.answer(t)
	boots := r.boots(t)
	r.command(t, "h1", "stop", "--hands-off")
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Isolate(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(15 * time.Second) // longer than T + G + margin
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Heal(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	r.until(t, "h2 to take the order", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Exec(ctx, "h2", r.exe, "start") // refused as long as h2 reaches no quorum
		return fmt.Sprint(out, err), err == nil
	})
	now := r.healthy(t)
	after := r.answer(t)
	if after.Boot != before.Boot || now.Owner.Epoch != st.Owner.Epoch {
		t.Errorf("before %+v, after %+v; epoch %s, was %s", before, after, now.Owner.Epoch, st.Owner.Epoch)
	}
	if got := r.boots(t); !slices.Equal(got, boots) {
		t.Errorf("boots %v, were %v: a host was reset", got, boots)
	}
}

// TestLossOfTheWholeNetworkResetsNobody: without hands off the guest stops by
// itself, no host is reset, and the guest comes back with the network.
func TestLossOfTheWholeNetworkResetsNobody(t *testing.T) {
	need.Drill(t, "P2: without the network the guest ends by itself, no host is reset, and it comes back with the network")
	onLab(t, plain, lossOfTheWholeNetworkResetsNobody)
}

func lossOfTheWholeNetworkResetsNobody(t testing.TB, r *rig) {
	r.healthy(t)
	boots := r.boots(t)
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Isolate(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	r.until(t, "the guest to stop by itself", func(context.Context) (string, bool) {
		st, err := r.lab.Status(t.Context())
		return fmt.Sprintf("%+v %v", st, err), err == nil && guests(st) == 0
	})
	time.Sleep(6 * time.Second) // the watchdog's time, had it been left armed
	r.tellsWithoutQuorum(t, "h1")
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Heal(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	r.healthy(t)
	if got := r.boots(t); !slices.Equal(got, boots) {
		t.Errorf("boots %v, were %v: a host that holds nothing was reset", got, boots)
	}
}

// tellsWithoutQuorum: a host that is alone says what it knows, and how old that is.
func (r *rig) tellsWithoutQuorum(t testing.TB, h string) {
	t.Helper()
	for _, args := range [][]string{{"events"}, {"jobs", "list"}, {"config", "export"}, {"config", "history"},
		{"upgrade", "status"}, {"host", "list"}} {
		began := time.Now()
		out, err := r.lab.Exec(t.Context(), h, append([]string{"sh", "-c", `"$@" 2>&1`, "sh", r.exe}, args...)...)
		t.Logf("without a quorum, after %s: holdfast %s: %v", time.Since(began).Round(time.Millisecond), strings.Join(args, " "), err)
		if !strings.Contains(out+fmt.Sprint(err), "no quorum of the store") {
			t.Errorf("holdfast %s does not say that there is no quorum: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	st, err := r.statusOf(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range st.Hosts {
		if x.Alive || x.Guest == cluster.GuestRunning || x.Coordinator {
			t.Errorf("without a quorum %s is shown alive %t, with guest %s, coordinator %t", x.Name, x.Alive, x.Guest, x.Coordinator)
		}
	}
	if st.Connected || st.AsOf.IsZero() || st.Takeover.Possible {
		t.Errorf("connected %t, as of %s, takeover %+v", st.Connected, st.AsOf, st.Takeover)
	}
}

// boots counts each host's power-ons.
func (r *rig) boots(t testing.TB) []int {
	t.Helper()
	st, err := r.lab.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, h := range st.Hosts {
		out = append(out, h.Boots)
	}
	return out
}

// TestASecondAgentOnTheSameDataIsRefused starts one beside the living one.
func TestASecondAgentOnTheSameDataIsRefused(t *testing.T) {
	need.Drill(t, "P1: a second agent on the same data is refused")
	onLab(t, plain, aSecondAgentOnTheSameDataIsRefused)
}

func aSecondAgentOnTheSameDataIsRefused(t testing.TB, r *rig) {
	out, err := r.lab.Exec(t.Context(), "h2", r.exe, "agent", "--config", "/srv/host/agent.json")
	if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, "in use by another running agent") ||
		!strings.Contains(said, "exit status 2") {
		t.Errorf("%s: want exit status 2 and the reason", said)
	}
	if out := r.command(t, "h2", "agent", "--check", "--config", "/srv/host/agent.json"); !strings.Contains(out, "check pass") {
		t.Errorf("agent --check said %q", out)
	}
	r.healthy(t)
}
