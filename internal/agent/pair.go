package agent

import (
	"errors"

	"holdfast/internal/ha/loop"
	"holdfast/internal/host/facts"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/arbitrate"
	pair "holdfast/internal/pair/host"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// pairOptions are what this host's part in a pair is made of.
func (nd *node) pairOptions(st store.Store) pair.Options {
	opt := pair.Options{
		File: nd.NodeFile, Node: nd.n, Cluster: nd.cfg, Exe: nd.Exe, Store: st, Now: nd.clock.Now, Log: nd.Log,
		Dial: func(either bool) (pair.Peer, error) { return as[pair.Peer](nd.dialPair(either)) },
	}
	if nd.heard != nil {
		opt.Silences = nd.heard.Silences
	}
	return opt
}

// arbitrate makes this host's part in the store st of a pair without a third voter. admin cares for its members.
func (nd *node) arbitrate(st store.Store, admin *etcdstore.Admin) (*arbitrate.Arbitration, error) {
	if nd.n.Store.Member == nil {
		return nil, fail.Errorf(fail.Refused, "%s: store.member: there is none, and each of the two nodes of a pair "+
			"without a third voter runs one", nd.NodeFile)
	}
	member, err := MemberConfig(nd.NodeFile)
	if err != nil {
		return nil, err
	}
	opt := nd.storeOptions()
	opt.Endpoints = []string{nd.n.Store.Member.ClientURL}
	own, err := etcdstore.Open(opt)
	if err != nil {
		return nil, err
	}
	peer := nd.cfg.Pair.Peer(nd.n.Host)
	x, err := nd.pairing.Arbitrate(arbitrate.Options{
		Member: member, Process: nd.storeSpec(), Own: own, Any: st, Admin: admin, Machine: facts.MachineUUID(nd.n.Machine),
	}, loop.Controllers{Log: nd.Log}.Of(nd.cfg.Fencing.Hosts[peer].Devices))
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return x, nil
}
