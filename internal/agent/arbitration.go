package agent

import (
	"context"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/arbitrate"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// arbitration makes this host's part in the store of a pair without a third voter. admin cares for the members
// of the store st.
func (p *pairWork) arbitration(st store.Store, admin *etcdstore.Admin) (*arbitrate.Arbitration, error) {
	nd, peer := p.nd, p.other()
	if nd.n.Store.Member == nil {
		return nil, fail.Errorf(fail.Refused, "%s: store.member: there is none, and each of the two nodes of a pair without a third voter runs one", nd.NodeFile)
	}
	member, err := MemberConfig(nd.NodeFile)
	if err != nil {
		return nil, err
	}
	by, err := p.arbiter()
	if err != nil {
		return nil, err
	}
	opt := nd.storeOptions()
	opt.Endpoints = []string{nd.n.Store.Member.ClientURL}
	own, err := etcdstore.Open(opt)
	if err != nil {
		return nil, err
	}
	addr, _ := nd.cfg.Member(peer)
	return arbitrate.New(arbitrate.Options{
		Self: cluster.HostID(nd.n.Host), Peer: peer, Arbiter: by, Manual: p.cfg.SplitBrain == config.SplitManual,
		DataDir: nd.n.DataDir, Member: member, Process: nd.storeSpec(), Own: own, Any: st, Admin: admin,
		Machine: machine(nd.n.Machine), Ask: (&asker{p: p, addr: addr}).word, Group: p.driver,
		Timings: nd.cfg.Timings(), Now: nd.clock.Now, Log: nd.Log,
	}), nil
}

// arbiter is what the configuration has decide.
func (p *pairWork) arbiter() (arbitrate.Arbiter, error) {
	switch {
	case p.cfg.Arbiter.Ping != nil:
		return arbitrate.NewPings(p.cfg.Arbiter.Ping)
	case p.votes != nil:
		return arbitrate.Votes{Disk: p.votes}, nil
	}
	return arbitrate.Fences{Devices: fences{bmcs{p.nd.Log}, p.nd.cfg.Fencing.Hosts[string(p.other())].Devices}}, nil
}

// fences are the devices of one host.
type fences struct {
	bmcs
	devices []config.FenceDevice
}

func (f fences) Off(ctx context.Context, machine string) error {
	_, err := f.bmcs.Off(ctx, f.devices, machine)
	return err
}

func (f fences) ShownOff(ctx context.Context, machine string) error {
	return f.bmcs.ShownOff(ctx, f.devices, machine)
}

func (f fences) Check(ctx context.Context, machine string) error {
	return f.bmcs.Check(ctx, f.devices, machine)
}

// asker asks the peer's agent over one connection, and makes a new one after a failure: an
// old one may wait for a retransmission for minutes. One goroutine uses it.
type asker struct {
	p    *pairWork
	addr string
	c    *api.Client
}

func (a *asker) word(ctx context.Context) (w cluster.PairWord, err error) {
	if a.c == nil {
		if a.c, err = a.p.dialEither(a.addr); err != nil {
			return w, err
		}
	}
	if w, err = a.c.PairWord(ctx); err != nil {
		a.c.Close()
		a.c = nil
	}
	return w, err
}
