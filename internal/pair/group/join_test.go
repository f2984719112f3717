package group

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// before is a copy that has something happen just before a Join, once.
type before struct {
	*Database
	then atomic.Pointer[func()]
}

func (b *before) Join(ctx context.Context, told string) (string, error) {
	if f := b.then.Swap(nil); f != nil {
		(*f)()
	}
	return b.Database.Join(ctx, told)
}

// TestAJoinWhosePeerGoes: commits wait for the peer, which is complete no more and is about to be so again, when it leaves, or stands
// still. They wait for it no longer than for any other, and it is complete again later.
func TestAJoinWhosePeerGoes(t *testing.T) {
	need.Drill(t, "P1, P2: commits wait no longer for a peer that goes while it is made complete",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	data := &before{Database: a.db}
	try.Must(t, a.Change(ctx, data, []Member{a.vip}, func(context.Context, bool) error { return nil }))
	var l ledger
	r.assign("a", cluster.ProofFirst)
	stop := l.write(r, 4)
	defer func() { stop() }()
	hold := func(held bool) { try.Must(t, b.ask(ctx, func() { b.held = held })) }
	for _, c := range []struct {
		what       string
		goes, back func()
	}{
		{"leaves", func() {
			hold(true) // or it follows again at once
			_, err := b.root.ExecContext(ctx, "STOP SLAVE")
			try.Must(t, err)
			try.Until(t, "the peer to be gone", func() bool { return semisync(t, a.root, "clients") == "0" })
		}, func() { hold(false) }},
		{"stands still", func() { try.Must(t, unix.Kill(b.pid(), unix.SIGSTOP)) }, func() { try.Must(t, unix.Kill(b.pid(), unix.SIGCONT)) }},
	} {
		r.complete()
		l.more(t, 50)
		var at time.Time
		gone := make(chan struct{})
		then := func() {
			c.goes()
			at = time.Now()
			close(gone)
		}
		data.then.Store(&then)
		s := r.sync()
		s.InSync = []cluster.HostID{"a"} // as the peer does itself
		r.put(KeySync, s)
		<-gone
		try.Until(t, "a commit that waits", func() bool { return semisync(t, a.root, "wait_sessions") != "0" })
		was := l.size()
		try.Until(t, "the commits to go on", func() bool { return l.size() > was })
		took := time.Since(at)
		t.Logf("the peer %s: commits waited %s", c.what, took)
		if most := a.opt.Patience + stuckAfter + time.Second; took > most { // a second for looks and transactions
			t.Errorf("the peer %s: commits waited %s, want %s at most", c.what, took, most)
		}
		if s := r.sync(); s.Has("b") {
			t.Errorf("the peer %s and counts as complete: %+v", c.what, s)
		}
		c.back()
	}
	r.complete()
	l.more(t, 50)
	stop()
	stop = func() {}
	r.move("a", "b")
	l.check(b)
}

// semisync is one of the server's counters of commits that wait.
func semisync(t *testing.T, db *sql.DB, name string) (v string) {
	t.Helper()
	try.Must(t, db.QueryRowContext(t.Context(), "SELECT variable_value FROM information_schema.global_status WHERE "+
		"variable_name='Rpl_semi_sync_master_"+name+"'").Scan(&v))
	return v
}
