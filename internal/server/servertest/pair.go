package servertest

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Pair is a two-node pair on the first two hosts of a fake; the others vote. It is well, and
// follows the fake's owner record.
type Pair struct {
	*Fake

	mu    sync.Mutex
	is    bool // else the fake keeps a management VM
	begun bool
	lay   func(*cluster.PairStatus)
	part  *cluster.PairPartition
	cut   error // of Pair; nil: none
}

// NewPair returns a pair that is set up, once something of it was laid or unset; before, the fake is none.
func NewPair(f *Fake) *Pair { return &Pair{Fake: f, begun: true} }

// Lay changes what is told from now on; nil: nothing.
func (p *Pair) Lay(f func(*cluster.PairStatus)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.is, p.lay = true, f
	p.SetType(cluster.PairConf)
}

// Cut makes the records unreadable, until somebody resolves; nil ends that.
func (p *Pair) Cut(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = err
}

// Unset takes the pair's records away.
func (p *Pair) Unset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.is, p.begun = true, false
	p.SetType(cluster.PairConf)
}

// Pair tells the state of the pair.
func (p *Pair) Pair(context.Context) (cluster.PairStatus, error) {
	st := p.Status()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.is {
		return cluster.PairStatus{}, fail.Errorf(fail.Refused, "this cluster is no pair: it keeps a management VM").With("see: holdfast status")
	}
	if p.cut != nil {
		return cluster.PairStatus{}, p.cut
	}
	at := st.Time
	out := cluster.PairStatus{Time: at, Set: p.begun, Owner: st.Owner, Want: st.Want, Takeover: st.Takeover,
		Waiting: st.Waiting, Guarantee: cluster.Safe}
	if !p.begun {
		return out, nil
	}
	serves := st.Want.Run && (st.Owner.State == cluster.Running || st.Owner.State == cluster.Migrating)
	for _, h := range st.Hosts {
		host := cluster.PairHost{Host: h.Name, Alive: h.Alive}
		if len(out.Nodes) == 2 {
			out.Voters = append(out.Voters, host)
			continue
		}
		r := cluster.PairReport{Time: at, Role: "standby", Linked: true, Fit: true, LagKnown: true, Data: "/var/lib/mysql-share"}
		state := "down"
		moved := cluster.PairTimes{Asked: at, Stopped: at.Add(50 * time.Millisecond), Handed: at.Add(90 * time.Millisecond)}
		if serves && st.Owner.Host == h.Name {
			r.Role, r.Waits, r.LagKnown, state = "active", true, false, "up"
			moved = cluster.PairTimes{Taken: at.Add(100 * time.Millisecond), Promoted: at.Add(150 * time.Millisecond),
				Active: at.Add(250 * time.Millisecond)}
		}
		if p.part != nil {
			t := *p.part
			if t.Role = "standby"; r.Role == "active" {
				t.Role = "active"
			}
			r.Partition = &t
		}
		r.Times = moved
		r.Members = []cluster.PairMember{{Name: "tomcat", State: state}, {Name: "webip", VIP: "172.16.60.55", State: state}}
		out.Nodes = append(out.Nodes, cluster.PairNode{PairHost: host, PairReport: r})
		if h.Alive {
			out.InSync = append(out.InSync, h.Name)
		}
	}
	out.Takeover.Possible = !slices.ContainsFunc(out.Nodes, func(n cluster.PairNode) bool { return !n.Alive })
	if p.lay != nil {
		p.lay(&out)
	}
	return out, nil
}

// Begin begins with this host's copy.
func (p *Pair) Begin(context.Context, string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun {
		return fail.Errorf(fail.Refused, "the pair was set up already")
	}
	p.begun = true
	return nil
}

// Resolve keeps the copy of a host, as long as no copy can be promoted, and what Lay has laid
// over the pair is over.
func (p *Pair) Resolve(ctx context.Context, _, keep string) error {
	p.mu.Lock()
	cut := p.cut
	p.cut = nil
	p.mu.Unlock()
	if cut != nil {
		return nil
	}
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	for _, n := range st.Nodes {
		if n.Alive && n.Fit {
			return fail.Errorf(fail.Refused, "the copy on %s has every acknowledged write, and can be promoted; nothing was changed", n.Host)
		}
	}
	if string(st.Nodes[0].Host) != keep {
		return fail.Errorf(fail.Refused, "this is %s", st.Nodes[0].Host).With("run it on " + keep + ", whose copy is kept")
	}
	p.Lay(nil)
	return nil
}

// Copy has no data.
func (p *Pair) Copy(_ context.Context, user string, _ io.Writer, _ func(int64) error) error {
	return fail.Errorf(fail.Denied, "not allowed: %s is not the other node of this pair", user)
}

// Rows has one row, for the other node.
func (p *Pair) Rows(_ context.Context, user string, q cluster.RowsQuery) (cluster.RowsPart, error) {
	if user != "h2" {
		return cluster.RowsPart{}, fail.Errorf(fail.Denied, "not allowed: %s is not the other node of this pair", user)
	}
	return cluster.RowsPart{Shape: q.Database + "." + q.Table, Last: q.After, Count: int64(q.Limit),
		Rows: []cluster.RowsRow{{Key: "id 1", Digest: "7"}}, At: "0-1-7"}, nil
}

// PeerStatus tells of no store: this pair has a third voter.
func (p *Pair) PeerStatus(user string) (cluster.PeerStatus, error) {
	return cluster.PeerStatus{}, fail.Errorf(fail.Denied, "not allowed: %s is not the other node of a pair without a third voter", user)
}

// AddPartition adds one, on the node that serves.
func (p *Pair) AddPartition(ctx context.Context, _ string, in cluster.PartitionOrder) error {
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	if st.Active() == nil {
		return fail.Errorf(fail.Refused, "the services of the pair do not run").With("see what they wait for: holdfast pair status")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.part; t != nil && (t.Name != in.Name || t.Disk != in.Disk || t.Mount != in.Mount) {
		return fail.Errorf(fail.Refused, "the pair has the partition %s on %s at %s, and can have one", t.Name, t.Disk, t.Mount)
	}
	p.part = &cluster.PairPartition{Name: in.Name, Disk: in.Disk, Mount: in.Mount, State: cluster.PartitionReady,
		Bytes: 1 << 30, Copy: "UpToDate", Linked: true, Percent: 100}
	return nil
}

// RemovePartition takes it away.
func (p *Pair) RemovePartition(_ context.Context, _, name string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.part == nil:
		return nil, fail.Errorf(fail.Invalid, "partition %q: the pair has none", name)
	case p.part.Name != name:
		return nil, fail.Errorf(fail.Invalid, "partition %q: want %s, the one that there is", name, p.part.Name)
	}
	p.part = nil
	return nil, nil
}
