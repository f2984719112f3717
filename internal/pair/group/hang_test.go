package group

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/pair"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestADatabaseThatHangs: a pause of the active database is waited out; one that hangs is ended, and the group leaves for the other
// node, or where that one can not take it, it is started anew.
func TestADatabaseThatHangs(t *testing.T) {
	need.Drill(t, "P1, P3: a database that hangs is ended and its group goes on, and a pause is no failure",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	hang := func(n *node, d time.Duration) {
		try.Must(t, n.ask(ctx, func() { n.m.Hang = d }))
	}
	blind := func(n *node) (is bool) {
		try.Must(t, n.ask(ctx, func() { is = n.m.UnobservableAt != 0 }))
		return is
	}
	var l ledger
	r.assign("a", cluster.ProofFirst)
	stop := l.write(r, 4)
	defer func() { stop() }()
	r.complete()
	l.more(t, 50)

	t.Log("a pause")
	hang(a, time.Hour)
	pid := a.pid()
	try.Must(t, unix.Kill(pid, unix.SIGSTOP))
	try.Until(t, "a look in vain", func() bool { return blind(a) })
	try.Must(t, unix.Kill(pid, unix.SIGCONT))
	try.Until(t, "an answer", func() bool { return !blind(a) })
	l.more(t, 50)
	failures := 0
	try.Must(t, a.ask(ctx, func() { failures = len(a.m.Failures) }))
	if a.pid() != pid || failures > 0 {
		t.Errorf("process %d after %d, %d failures", a.pid(), pid, failures)
	}
	r.complete()

	t.Log("the standby's hangs, and nothing is stopped for a move to it")
	try.Must(t, unix.Kill(b.pid(), unix.SIGSTOP))
	if err := a.Migrate(ctx, "", false); err == nil || !strings.Contains(err.Error(), "does not answer") &&
		!strings.Contains(err.Error(), "does not have everything") {
		t.Errorf("%v", err)
	}
	if st := a.vip.State(ctx); st != pair.Up {
		t.Errorf("the address is %v", st)
	}
	try.Must(t, unix.Kill(b.pid(), unix.SIGCONT))
	r.complete()

	t.Log("the other node can take it")
	hang(a, 2*time.Second)
	try.Must(t, unix.Kill(pid, unix.SIGSTOP))
	try.Until(t, "the group to leave", func() bool {
		g, err := a.Observe(ctx)
		return err == nil && g.State == cluster.GuestAbsent
	})
	why := ""
	try.Must(t, a.ask(ctx, func() { why = a.m.Why }))
	if !strings.Contains(why, "has not answered for 2s") {
		t.Errorf("it left as %q", why)
	}
	r.assign("b", cluster.ProofReleased)
	l.more(t, 50)
	r.complete()

	t.Log("it can not")
	a.off()
	l.more(t, 50)
	hang(b, 2*time.Second)
	pid = b.pid()
	try.Must(t, unix.Kill(pid, unix.SIGSTOP))
	l.more(t, 50)
	if b.pid() == pid {
		t.Error("what hung answers again")
	}
	stop()
	stop = func() {}
	l.check(b)
}

// TestHowLongAHangTakes: once the database counts as one that hangs, no look at it holds up what ends it and what stands on it.
func TestHowLongAHangTakes(t *testing.T) {
	need.Drill(t, "P3: a database that hangs is ended, with all that stands on it, soon after its time is over",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a := r.node["a"]
	ctx := try.Context(t)
	const hang = 4 * time.Second
	members := []Member{&flag{a.dir + "/m1"}, &flag{a.dir + "/m2"}, &flag{a.dir + "/m3"}, a.vip}
	try.Must(t, a.Change(ctx, a.db, members, func(context.Context, bool) error { return nil }))
	try.Must(t, a.ask(ctx, func() { a.m.Hang = hang }))
	r.assign("a", cluster.ProofFirst)
	r.complete()
	begun := time.Now()
	try.Must(t, unix.Kill(a.pid(), unix.SIGSTOP))
	try.Until(t, "the group to leave", func() bool {
		g, err := a.Observe(ctx)
		return err == nil && g.State == cluster.GuestAbsent
	})
	took := time.Since(begun)
	t.Logf("ended %s after the hang began", took)
	if took < hang || took > 2*hang { // as long as two hangs took the looks at each member
		t.Errorf("ended %s after the hang began: want %s, and little more", took, hang)
	}
}
