package ha

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/internal/cluster"
)

// only gives the one action of a kind that is decided.
func only(t *testing.T, m *Machine, w Work) Action {
	t.Helper()
	for _, a := range m.Decide(m.Now) {
		if a.Work() == w {
			return a
		}
	}
	t.Fatalf("no %s is decided", w)
	return nil
}

func TestARenewalCountsFromWhenItWasDecided(t *testing.T) {
	m := quiet()
	m.Now = sec(101)
	a := only(t, &m, WorkRenew)
	if got := m.Decide(sec(102)); len(got) != 0 {
		t.Errorf("while it is under way: %v", got)
	}
	m.Done(a, Outcome{OK: true, Mod: 60}, sec(103))
	if m.Lease.Deadline != sec(107) || m.Lease.Mod != 60 || m.Hosts["h1"].Mod != 60 || m.Hosts["h1"].SeenAt != sec(103) {
		t.Errorf("lease %+v, record seen at %d in revision %d", m.Lease, m.Hosts["h1"].SeenAt, m.Hosts["h1"].Mod)
	}
	for name, o := range map[string]Outcome{"refused": {Mod: 70}, "not answered": {}} {
		m.Now = sec(105)
		m.Lease.Sent = 0
		was := m.Lease.Deadline
		m.Done(only(t, &m, WorkRenew), o, sec(105.1))
		if m.Lease.Deadline != was || m.Lease.Mod != 60 {
			t.Errorf("%s: the deadline moves to %d", name, m.Lease.Deadline)
		}
	}
}

// TestALeaseIsExtended: as a renewal would, never back, and not when it has ended or another agent is registered.
func TestALeaseIsExtended(t *testing.T) {
	for name, c := range map[string]struct {
		from, now, want float64 // the lease of quiet ends at 105, and lasts six seconds
		change          func(*Machine)
	}{
		"extended":  {from: 102, now: 103, want: 108},
		"as it was": {from: 98, now: 103, want: 105},
		"over":      {from: 104, now: 105, want: 105},
		"expelled": {from: 102, now: 103, want: 105,
			change: func(m *Machine) { r := m.Hosts["h1"]; r.Expelled = cluster.Epoch{Gen: 1, Seq: 9}; m.Hosts["h1"] = r }},
		"of another agent": {from: 102, now: 103, want: 105,
			change: func(m *Machine) { r := m.Hosts["h1"]; r.Boot = "another"; m.Hosts["h1"] = r }},
		"of a new agent":    {from: 102, now: 103, want: 105, change: func(m *Machine) { m.Lease.Mod = 0 }},
		"of which no agent": {from: 102, now: 103, want: 0, change: func(m *Machine) { m.Lease.Deadline = 0 }},
	} {
		m := quiet()
		m.Lease.Deadline = sec(105)
		if c.change != nil {
			c.change(&m)
		}
		if m.Extended(sec(c.from), sec(c.now)); m.Lease.Deadline != sec(c.want) {
			t.Errorf("%s: the lease ends at %v, want %v", name, m.Lease.Deadline, sec(c.want))
		}
	}
}

func TestHandsOnCountsFromTheSending(t *testing.T) {
	m := quiet()
	r := m.Hosts["h1"]
	r.HandsOff = true
	m.Hosts["h1"] = r
	if !m.frozen() {
		t.Fatal("not frozen")
	}
	a := only(t, &m, WorkRenew)
	m.Done(a, Outcome{}, sec(101)) // it may have been taken all the same
	if m.frozen() {
		t.Error("after a renewal that takes hands off back was sent, the deadline still means nothing")
	}
}

func TestAFenceAnswerCountsForTheRecordOfItsOrder(t *testing.T) {
	m := unheard()
	a := only(t, &m, WorkFence)
	m.Changed(Record{Put: Put{Key: Key{KindHost, "h1"}, Host: &cluster.Host{Name: "h1", Boot: "b2", Guard: time.Second}}, Mod: 77}, sec(100.1))
	m.Done(a, Outcome{OK: true, Device: "ipmi"}, sec(100.2))
	if f := m.Memory.Fences["h1"]; f.Mod != 30 || !f.Off || len(m.Doing.Fencing) != 0 {
		t.Errorf("%+v, fencing %v", f, m.Doing.Fencing)
	}
	if p, ok := m.lost("h1"); ok {
		t.Errorf("an order for an older record is a proof: %+v", p)
	}
}

func TestAFailureToFenceIsToldOnceForAnEpoch(t *testing.T) {
	m := unheard()
	m.Done(only(t, &m, WorkFence), Outcome{Why: strings.Repeat("<html>é", 300_000)}, sec(100.1))
	rep := only(t, &m, WorkReport).(Txn)
	if d := rep.Event.Detail; len(d) > maxText || !utf8.ValidString(d) || !strings.HasSuffix(d, " ...") {
		t.Errorf("the event's text has %d bytes", len(d))
	}
	m.Done(rep, Outcome{OK: true, Mod: 90}, sec(100.2))
	again := Fence{Host: "h1", Mod: 31, Epoch: m.Owner.Epoch}
	m.Done(again, Outcome{Why: "another text"}, sec(102.1))
	if !m.Memory.Fences["h1"].Told {
		t.Error("a failure is told twice in an epoch")
	}
	again.Epoch = e2
	m.Done(again, Outcome{Why: "another text"}, sec(102.1))
	if m.Memory.Fences["h1"].Told {
		t.Error("a failure in another epoch is not told")
	}
}

// TestAReportNeverStandsBeforeADecision: the store refuses it, or does not answer.
func TestAReportNeverStandsBeforeADecision(t *testing.T) {
	m := unheard()
	m.Memory.Fences["h1"] = Fenced{Mod: 30, At: sec(100), Why: "no answer"}
	m = silence(m, "h1", 91)
	got := said(m)
	if !strings.Contains(got, "Report") || !strings.Contains(got, "Write takeover") {
		t.Errorf("decided %q, want a report and the takeover", got)
	}
	m.Doing.Works |= WorkReport
	if got := said(m); !strings.Contains(got, "Write takeover") {
		t.Errorf("while a report is under way: %q", got)
	}
}

func TestTextsOfRecordsAreShort(t *testing.T) {
	m := quiet()
	m.ThisHost.Why, m.Guest.Unhealthy, m.Watchdog.Name = strings.Repeat("w", 1<<20), strings.Repeat("s", 1<<20), strings.Repeat("d", 1<<20)
	m.Lease.Sent = 0
	r := only(t, &m, WorkRenew).(Txn).Put[0].Host
	if len(r.Why) > maxText || len(r.Unhealthy) > maxText || len(r.Watchdog) > maxText {
		t.Errorf("why %d, unhealthy %d, watchdog %d bytes", len(r.Why), len(r.Unhealthy), len(r.Watchdog))
	}
}

func TestARestoredDeadlineIsThatOfTheLimit(t *testing.T) {
	m := New("h1", cluster.MgmtVM, ThisHost{})
	m.Configure(timings, restart, nil, nil)
	m.Watched(Watchdog{Working: true, Armed: true, Limit: sec(103), Timeout: 4 * time.Second}, sec(100))
	m.Observed(cluster.Guest{State: cluster.GuestRunning, Epoch: e1}, sec(100))
	if got := m.Decide(sec(104.9)); len(got) != 0 || m.Lease.Deadline != sec(105) {
		t.Errorf("before D = L - G + W: %v, deadline %d", got, m.Lease.Deadline)
	}
	if got := m.Decide(sec(105)); len(got) != 1 || got[0].Work() != WorkKill {
		t.Errorf("at D: %v, want a kill", got)
	}
}

func TestTheWatchdogsWordFromBeforeTheLastOrderIsIgnored(t *testing.T) {
	m := quiet()
	m.Lease.Deadline = sec(106)
	a := only(t, &m, WorkArm)
	m.Watched(Watchdog{Working: true}, sec(100.1))
	if !m.Watchdog.Armed {
		t.Error("a word counts while an order is under way")
	}
	m.Done(a, Outcome{OK: true, Watchdog: Watchdog{Working: true, Armed: true, Limit: sec(104), Timeout: 4 * time.Second}}, sec(100.3))
	m.Watched(Watchdog{Working: true}, sec(100.2))
	if !m.Watchdog.Armed {
		t.Error("a word counts that was asked for before the last order ended")
	}
	m.Watched(Watchdog{Working: true}, sec(100.4))
	if m.Watchdog.Armed {
		t.Error("a later word does not count")
	}
	m = quiet()
	m.Done(Arm{Limit: sec(104), Timeout: 4 * time.Second},
		Outcome{OK: true, Watchdog: Watchdog{Working: true, Armed: true, Limit: sec(104), Timeout: 9 * time.Second}}, sec(100))
	if m.guarded() {
		t.Error("a limit counts that was reckoned with another timeout")
	}
}

func TestAProvedWriteTouchesTheGuest(t *testing.T) {
	m := quiet()
	m.Guest.Seen = cluster.Guest{State: cluster.GuestAbsent}
	a := only(t, &m, WorkWrite).(Txn)
	if !a.Prove {
		t.Fatal("a release without a proof")
	}
	m.Guest.Inherited = true
	m.Done(a, Outcome{Proved: true}, sec(100.5))
	if m.Guest.Touched != sec(100.5) || m.Guest.Inherited || m.gone() {
		t.Errorf("%+v: what was seen before the kill must not count", m.Guest)
	}
}

func TestTwoActionsOfAKindAreADefect(t *testing.T) {
	m := quiet()
	d := decision{m: &m}
	d.do(Kill{Why: "one"})
	d.do(Kill{Why: "two"})
	if len(d.out) != 2 || d.out[0] != (Kill{Why: "one"}) || d.out[1].Work() != WorkDefect {
		t.Errorf("%v", d.out)
	}
}

func TestAHostThatCanNotSeeItsGuest(t *testing.T) {
	blind := func(now float64) Machine {
		m := quiet()
		m.Observed(cluster.Guest{}, sec(99.95))
		m.Now, m.Lease.Deadline, m.Lease.Sent, m.Watchdog.Limit = sec(now), sec(now+5), sec(now-3), sec(now+3)
		return m
	}
	m := blind(110)
	if r := only(t, &m, WorkRenew).(Txn).Put[0].Host; r.Fit || !strings.Contains(r.Why, "can not be observed") {
		t.Errorf("it says fit %t, %q", r.Fit, r.Why)
	}
	if m = blind(131); strings.Contains(said(m), "Renew") {
		t.Errorf("a holder that is blind for 31 s: %q, want no renewal", said(m))
	}
	m.Watchdog.Working = false
	if !strings.Contains(said(m), "Renew") {
		t.Errorf("where nothing could prove its reset: %q, want that it goes on", said(m))
	}
	m = blind(131)
	m.Owner.Host = "h2"
	if !strings.Contains(said(m), "Renew") {
		t.Errorf("blind, and no holder: %q, want that it goes on", said(m))
	}
	m = blind(103)
	m.Owner.State, m.Owner.Epoch = cluster.Assigned, e2
	if w := written(t, m); w.Prove || ownerOf(w).Proof.Kind != cluster.ProofNeverStarted || ownerOf(w).State != cluster.Released {
		t.Errorf("an epoch that nobody has claimed: %+v", w)
	}
	m.Owner.Claim = "now"
	if got := said(m); strings.Contains(got, "Write") {
		t.Errorf("one that was claimed is released unseen: %q", got)
	}
	for _, g := range []cluster.Guest{{State: cluster.GuestAbsent}, {State: cluster.GuestUnknown, PID: 7}} {
		if m.Observed(g, sec(103)); m.blind() != 0 {
			t.Errorf("%+v counts as blind", g)
		}
	}
}

func TestAGuestThatStandsStillByAnIOError(t *testing.T) {
	still := func(now float64) Machine {
		m := quiet()
		m.Observed(cluster.Guest{State: cluster.GuestPaused, IOError: true, Epoch: e1}, sec(99.95))
		m.Now, m.Lease.Deadline, m.Lease.Sent, m.Watchdog.Limit = sec(now), sec(now+5), sec(now-1), sec(now+3)
		for _, h := range m.Order {
			m = silence(m, h, now-1)
		}
		return m
	}
	m := still(110)
	if got := said(m); !strings.Contains(got, "Resume") {
		t.Errorf("%q, want that it is let go on", got)
	}
	m.Hosts["h1"] = HostRec{cluster.Host{Name: "h1", Guest: cluster.GuestPaused, Unhealthy: stillWhy}, 30, sec(109)}
	if w := m.Waiting(); !strings.Contains(w, "h1") || !strings.Contains(w, "I/O error") {
		t.Errorf("status waits for %q", w)
	}
	m = still(131)
	if got := said(m); !strings.Contains(got, "Kill") {
		t.Errorf("%q, want that it is ended, since others are able to run it", got)
	}
	for _, h := range []cluster.HostID{"h2", "h3"} {
		r := m.Hosts[h]
		r.Fit = false
		m.Hosts[h] = r
	}
	if got := said(m); strings.Contains(got, "Kill") || !strings.Contains(got, "Resume") {
		t.Errorf("%q, want that it is let go on, since no other host is able to run it", got)
	}
	m = still(131)
	m.Decide(m.Now)
	m.Done(Kill{}, Outcome{OK: true}, sec(131))
	m.Observed(cluster.Guest{State: cluster.GuestAbsent}, sec(131.1))
	if m.Now = sec(131.2); ownerOf(written(t, m)).Restarts < restart.InPlace {
		t.Error("it is started where its disk failed")
	}
}

func TestACopiedDataDirectoryWaitsForTheOriginalsReset(t *testing.T) {
	copied := func(machine string, now float64) Machine {
		m := silence(as("h2", quiet()), "h2", 90)
		m.Now, m.ThisHost.Boot, m.ThisHost.Machine, m.Lease = sec(now), "other", machine, Lease{}
		return m
	}
	for _, c := range []struct {
		machine string
		now     float64
		want    string
	}{
		{"m-h2", 96.1, "Renew"}, // the same machine after a boot
		{"m-copy", 96.1, ""}, {"m-copy", 98.6, ""}, {"m-copy", 98.7, "Renew"},
		{"", 96.1, ""}, {"", 98.7, "Renew"},
	} {
		if got := said(copied(c.machine, c.now)); !strings.HasPrefix(got, c.want) || c.want == "" && strings.Contains(got, "Renew") {
			t.Errorf("machine %q at %.1f: %q, want %q", c.machine, c.now, got, c.want)
		}
	}
	m := copied("m-copy", 130)
	m.Owner.Host = "h2"
	if got := said(m); strings.Contains(got, "Renew") {
		t.Errorf("a copy registers under the holder's name: %q", got)
	}
}

func TestAHostThatHasNotRegisteredKillsWhatIsNotItsOwn(t *testing.T) {
	m := as("h2", quiet())
	m.Lease = Lease{}
	m.Guest.Seen = cluster.Guest{State: cluster.GuestArrived, Epoch: e1}
	if got := said(m); !strings.Contains(got, "Kill") {
		t.Errorf("decided %q", got)
	}
	m.ThisHost.Boot, m.Owner.State, m.Owner.Host = "next", cluster.Settling, "h2"
	if got := said(m); !strings.Contains(got, "Kill") {
		t.Errorf("what came before a host that has booted could register: decided %q", got)
	}
	m.ThisHost.Boot, m.Owner.State, m.Owner.Host, m.Owner.To = "b", cluster.Migrating, "h1", "h2"
	if got := said(m); strings.Contains(got, "Kill") {
		t.Errorf("what a migration brings stands still: decided %q", got)
	}
}

// TestTheLimitKeepsThePromise: what the store knows of this host's G and what
// holds now may differ for a while.
func TestTheLimitKeepsThePromise(t *testing.T) {
	for _, c := range []struct {
		promised, timeout time.Duration
		want              float64
	}{
		{2 * time.Second, 4 * time.Second, 103}, {0, 4 * time.Second, 103},
		{2 * time.Second, 7 * time.Second, 100}, // G is 5 s by now
		{9 * time.Second, 4 * time.Second, 103},
	} {
		m := quiet()
		r := m.Hosts["h1"]
		r.Guard = c.promised
		m.Hosts["h1"], m.Watchdog.Timeout = r, c.timeout
		if got := m.limit(); got != sec(c.want) {
			t.Errorf("promised %s, timeout %s: limit %d, want %d", c.promised, c.timeout, got, sec(c.want))
		}
	}
}

func TestWorksHaveNames(t *testing.T) {
	if got := (WorkRenew | WorkFence).String(); got != "renew,fence" {
		t.Error(got)
	}
	if !slices.Contains(workNames, WorkDefect.String()) || len(workNames) != 14 {
		t.Error("a kind of work has no name")
	}
}
