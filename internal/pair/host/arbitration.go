package host

import (
	"context"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/pair/arbitrate"
)

// Arbitrate makes this host's part in the store of a pair without a third voter: opt has what the host gives, and
// fences, by which a pair shows that the other node is off.
func (p *Part) Arbitrate(opt arbitrate.Options, fences arbitrate.Devices) (_ *arbitrate.Arbitration, err error) {
	if opt.Arbiter, err = p.arbiter(fences); err != nil {
		return nil, err
	}
	opt.Self, opt.Peer, opt.Manual = cluster.HostID(p.Node.Host), p.other(), p.cfg.SplitBrain == config.SplitManual
	opt.DataDir, opt.Timings, opt.Now, opt.Log = p.Node.DataDir, p.Cluster.Timings(), p.Now, p.Log
	opt.Ask, opt.Group = (&asker{dial: p.Dial}).word, p.driver
	p.alone = arbitrate.New(opt)
	return p.alone, nil
}

// arbiter is what the configuration has decide.
func (p *Part) arbiter(fences arbitrate.Devices) (arbitrate.Arbiter, error) {
	switch {
	case p.cfg.Arbiter.Ping != nil:
		return arbitrate.NewPings(p.cfg.Arbiter.Ping)
	case p.votes != nil:
		return arbitrate.Votes{Disk: p.votes}, nil
	}
	return arbitrate.Fences{Devices: fences}, nil
}

// asker asks the peer's agent over one connection, and makes a new one after a failure: an
// old one may wait for a retransmission for minutes. One goroutine uses it.
type asker struct {
	dial func(either bool) (Peer, error)
	c    Peer
}

func (a *asker) word(ctx context.Context) (w cluster.PeerStatus, err error) {
	if a.c == nil {
		if a.c, err = a.dial(true); err != nil {
			return w, err
		}
	}
	if w, err = a.c.PeerStatus(ctx); err != nil {
		a.c.Close()
		a.c = nil
	}
	return w, err
}

// Together reports whether the store of the pair has both nodes, or a third voter.
func (p *Part) Together() bool { return p == nil || p.alone == nil || p.alone.Together() }

// Alone reports whether the pair has no third voter, so that arbitration, and nobody else, starts this host's member.
func (p *Part) Alone() bool { return p != nil && p.alone != nil }
