package group

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAStandbyThatIsBehind: one that can not apply what it receives says so, and when the group comes to it nevertheless it is
// promoted as soon as all is applied, with every row, whatever the other node tries meanwhile.
func TestAStandbyThatIsBehind(t *testing.T) {
	need.Drill(t, "P1, P2: a standby that is behind tells it, is promoted with every row, and a peer that wants to "+
		"follow holds nothing up", need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	_, err := a.root.ExecContext(ctx, "CREATE TABLE app.isam (id INT) ENGINE=MyISAM")
	if err == nil {
		t.Fatal("the database serves before it was given the group")
	}
	var l ledger
	r.assign("a", cluster.ProofFirst)
	_, err = a.root.ExecContext(ctx, "CREATE TABLE app.isam (id INT) ENGINE=MyISAM")
	try.Must(t, err)
	stop := l.write(r, 4)
	defer func() { stop() }()
	r.complete()
	l.more(t, 50)
	c, err := b.root.Conn(ctx)
	try.Must(t, err)
	defer c.Close()
	_, err = c.ExecContext(ctx, "LOCK TABLES app.log READ")
	try.Must(t, err)
	var p cluster.PairStatus
	try.Until(t, "the lag to be told", func() bool {
		p = cluster.PairStatus{Set: true, InSync: r.sync().InSync, Takeover: cluster.Takeover{Possible: true}, Owner: r.owner}
		for _, h := range []cluster.HostID{"a", "b"} {
			p.Nodes = append(p.Nodes, cluster.PairNode{PairHost: cluster.PairHost{Host: h, Alive: true}, PairReport: r.told(h)})
		}
		h, why := p.Health()
		return h == cluster.Degraded && strings.Contains(strings.Join(why, "; "), "behind in applying")
	})
	if n := p.Nodes[1]; !n.Fit || n.Lag <= cluster.LagLimit {
		t.Errorf("%+v", n)
	}
	try.Until(t, "a table without transactions to be named", func() bool { return len(r.told("a").Weak) == 1 })

	// The agent of the other node lives, and tries to follow while this one applies.
	try.Must(t, a.Kill(ctx))
	stop()
	stop = func() {}
	o := cluster.Owner{State: cluster.Assigned, Host: "b", Epoch: cluster.Epoch{Gen: 1, Seq: r.owner.Epoch.Seq + 1},
		Proof: cluster.Proof{Kind: cluster.ProofReleased}}
	r.owns(o)
	try.Must(t, b.Start(ctx, cluster.GuestSpec{Epoch: o.Epoch}))
	o.State = cluster.Running
	r.owns(o)
	tries := func() (n int) {
		try.Must(t, a.ask(ctx, func() {
			if a.m.FollowBackoff > 0 {
				n++
			}
		}))
		return n
	}
	try.Until(t, "the other node to have tried in vain", func() bool { return tries() > 0 })
	own := int64(0)
	try.Must(t, b.ask(ctx, func() { own = b.m.Own }))
	for range 2 { // it tries again
		rev := r.sync()
		before := time.Duration(0)
		try.Must(t, a.ask(ctx, func() { before = a.m.FollowBackoff }))
		try.Until(t, "another try", func() (more bool) {
			try.Must(t, a.ask(ctx, func() { more = a.m.FollowBackoff > before }))
			return more
		})
		if now := r.sync(); now.Host != rev.Host || now.Epoch != rev.Epoch {
			t.Errorf("%+v, after %+v", now, rev)
		}
	}
	try.Must(t, b.ask(ctx, func() {
		if b.m.Own != own {
			t.Errorf("the node that is promoted has written the record again: revision %d after %d", b.m.Own, own)
		}
	}))
	_, err = c.ExecContext(ctx, "UNLOCK TABLES")
	try.Must(t, err)
	r.serves("b")
	l.check(b)
	stop = l.write(r, 2)
	r.complete()
	l.more(t, 20)
	stop()
	stop = func() {}
	l.check(b)
}
