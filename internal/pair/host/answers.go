package host

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/pair/arbitrate"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
)

// Core is the agent, as a pair needs it.
type Core interface {
	arbitrate.Core
	InForce(ctx context.Context) (config.Cluster, bool)
	ReadConfig(ctx context.Context, number int) (config.Revision, error)
	ImportConfig(ctx context.Context, user string, in config.Import) (config.Imported, error)
}

// Service answers for a pair, and keeps this host's part in it up, by an agent.
type Service struct {
	*Part
	core   Core
	adding sync.Mutex // by whom AddPartition is at work
}

// Serve gives the part to an agent.
func (p *Part) Serve(core Core) *Service { return &Service{Part: p, core: core} }

// Run keeps this host's part up until ctx ends: each loop by run, which says what for.
func (p *Service) Run(run func(what string, f func(context.Context) error)) {
	if p.alone != nil {
		run("arbitrate", func(ctx context.Context) error { return p.alone.Run(ctx, p.core) })
	}
	if p.driver != nil {
		run("run the pair's group", func(ctx context.Context) error { return p.driver.Run(ctx, p.core.Tell) })
		run("keep the pair's partition", func(ctx context.Context) error { p.keepPartition(ctx); return nil })
	}
}

// recordsWithin is how long the state of the pair is waited for: a store without a quorum does not
// answer, and who asks wants to know that.
const recordsWithin = 2 * time.Second

// Pair tells the state of the pair, by what its nodes have told the store.
func (p *Service) Pair(ctx context.Context) (cluster.PairStatus, error) {
	st := p.core.Status()
	out := cluster.PairStatus{
		Time: time.Now().UTC(), Owner: st.Owner, Want: st.Want, Takeover: st.Takeover, Waiting: st.Waiting, Guarantee: cluster.Safe,
	}
	if p.alone != nil {
		out.Arbiter = p.alone.Text()
		if p.cfg.Arbiter.Ping != nil {
			out.Guarantee = cluster.BestEffort
		}
		if why := p.alone.WhyNot(); why != "" && out.Takeover.Possible {
			out.Takeover = cluster.Takeover{Why: why}
		}
	}
	lctx, cancel := context.WithTimeout(ctx, recordsWithin)
	defer cancel()
	kvs, _, err := p.Store.List(lctx, group.KeyPair)
	switch {
	case err != nil && p.alone != nil:
		return out, fail.Errorf(fail.Unavailable, "%s: %s (the pair's records can not be read: %w)", p.Node.Host, out.Arbiter, err)
	case err != nil:
		return out, fail.Errorf(fail.Unavailable, "the pair's records can not be read: %w", err)
	case !st.Connected && p.alone != nil:
		return out, fail.Errorf(fail.Unavailable, "%s: %s (it does not follow the store yet)", p.Node.Host, out.Arbiter)
	case !st.Connected:
		return out, fail.Errorf(fail.Unavailable, "%s does not follow the store yet", p.Node.Host)
	}
	return p.reported(out, st.Hosts, kvs)
}

// reported adds what the nodes have told the store.
func (p *Part) reported(out cluster.PairStatus, hosts []cluster.HostStatus, kvs []store.KV) (cluster.PairStatus, error) {
	var err error
	reports, judged := map[string]group.Report{}, int64(0)
	for _, kv := range kvs {
		host, of := strings.CutPrefix(kv.Key, group.KeyNode)
		switch {
		case kv.Key == group.KeySync:
			s, err := records.Decode[pair.Sync](kv, false)
			if err != nil {
				return out, err
			}
			out.Set, out.InSync, judged = true, s.InSync, kv.ModRev
		case of:
			if reports[host], err = records.Decode[group.Report](kv, false); err != nil {
				return out, err
			}
		}
	}
	alive, off := map[cluster.HostID]bool{}, map[cluster.HostID]bool{}
	for _, h := range hosts {
		alive[h.Name], off[h.Name] = h.Alive, !h.Alive && h.Fenced != ""
	}
	if p.alone != nil && !alive[p.other()] && p.alone.ShownOff() {
		off[p.other()] = true
	}
	for _, n := range p.cfg.Nodes {
		h := cluster.PairHost{Host: cluster.HostID(n), Alive: alive[cluster.HostID(n)], Off: off[cluster.HostID(n)]}
		out.Nodes = append(out.Nodes, cluster.PairNode{PairHost: h, PairReport: reports[n].By(judged)})
	}
	for _, n := range out.Nodes {
		if n.Alive && n.Role == "standby" && n.LagKnown && out.Takeover.Possible { // it applies first what it has received
			out.Takeover.Within += n.Lag
		}
	}
	for _, n := range p.Cluster.Nodes() {
		if p.cfg.Peer(string(n.Host)) == "" {
			out.Voters = append(out.Voters, cluster.PairHost{Host: n.Host, Alive: alive[n.Host]})
		}
	}
	return out, nil
}

// Begin makes this host's copy the one that the pair begins with.
func (p *Service) Begin(ctx context.Context, user string) error {
	if p.driver == nil {
		return fail.Errorf(fail.Refused, "%s only votes in the store",
			p.Node.Host).With("begin on one of the two nodes: " + strings.Join(p.cfg.Nodes, ", "))
	}
	if p.votes != nil {
		if err := p.votes.Prepare(ctx); err != nil {
			return fail.Errorf(fail.Refused, "%w", err)
		}
	}
	if err := p.driver.Begin(ctx); err != nil {
		return err
	}
	p.Log.Info("the pair begins with this host's data", "user", user)
	return nil
}

// Resolve makes this host's copy the one that is kept, by a person's word.
func (p *Service) Resolve(ctx context.Context, user, keep string) error {
	switch {
	case p.cfg.Peer(keep) == "":
		return fail.Errorf(fail.Invalid, "node %q: want one of %s", keep, strings.Join(p.cfg.Nodes, ", "))
	case keep != p.Node.Host:
		return fail.Errorf(fail.Refused, "this is %s", p.Node.Host).With("run it on " + keep + ", whose copy is kept")
	}
	if p.alone != nil {
		if chosen, err := p.alone.Resolve(user); chosen || err != nil {
			return err
		}
	}
	recorded, err := p.driver.Resolve(ctx, func(holder cluster.HostID) error { return p.mayResolve(ctx, keep, holder) })
	if recorded {
		err = errors.Join(err, p.core.Tell(ctx, pair.Chosen(cluster.HostID(keep), user)))
	}
	return err
}

// mayResolve refuses a choice that nothing needs: the group is with a node that is there, or may
// come to a copy that has everything.
func (p *Service) mayResolve(ctx context.Context, keep string, holder cluster.HostID) error {
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(st.Nodes, func(n cluster.PairNode) bool { return n.Host == holder && n.Alive }) {
		return fail.Errorf(fail.Refused, "the group is with %s, which is there; nothing was changed", holder)
	}
	for _, n := range st.Nodes {
		if n.Alive && string(n.Host) != keep && n.Fit && slices.Contains(st.InSync, n.Host) {
			return fail.Errorf(fail.Refused, "the copy on %s has every acknowledged write, and can be promoted; "+
				"nothing was changed", n.Host).With("holdfast pair start, and where it does not start: holdfast pair status")
		}
	}
	return nil
}

// Copy writes a copy of this host's data, of one moment, and tells before about how many bytes
// it has. Only the other node may have it.
func (p *Service) Copy(ctx context.Context, user string, w io.Writer, about func(bytes int64) error) error {
	if err := p.mayRead(user); err != nil {
		return err
	}
	if p.db == nil {
		return fail.Errorf(fail.Refused, "this pair's copy is a DRBD device, which copies itself")
	}
	return p.db.DB.Seed(ctx, w, about)
}

// mayRead refuses whoever is not the other node.
func (p *Service) mayRead(user string) error {
	if p.driver == nil || user != p.cfg.Peer(p.Node.Host) {
		return fail.Errorf(fail.Denied, "not allowed: %s is not the other node of this pair", user)
	}
	return nil
}

// Rows reads rows of this host's database. Only the other node may have them.
func (p *Service) Rows(ctx context.Context, user string, q cluster.RowsQuery) (cluster.RowsPart, error) {
	if err := p.mayRead(user); err != nil {
		return cluster.RowsPart{}, err
	}
	if p.db == nil {
		return cluster.RowsPart{}, fail.Errorf(fail.Refused, "no database of this pair replicates")
	}
	return p.db.DB.Rows(ctx, q)
}

// PeerStatus tells the other node what this one has of the store of two voters.
func (p *Service) PeerStatus(user string) (cluster.PeerStatus, error) {
	if p.alone == nil || user != string(p.other()) {
		return cluster.PeerStatus{}, fail.Errorf(fail.Denied, "not allowed: %s is not the other node of a pair without a third voter", user)
	}
	return p.alone.PeerStatus()
}
