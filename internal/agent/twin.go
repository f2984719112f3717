package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/facts"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/store/etcdstore"
)

// keepChild keeps a process running that outlives the agent; the member of the store after it was made sure that it is not
// another one's. It returns loop.ErrConflict when it is.
func (nd *node) keepChild(ctx context.Context, spec supervise.Spec, identity string) error {
	if spec.Name == storeChild {
		if err := nd.mayJoin(ctx, identity); err != nil {
			return err
		}
	}
	return supervise.Run(ctx, spec)
}

// mayJoin returns loop.ErrConflict when this host's member of the store must not be started, see loop.Twin. One that runs is
// looked after as it is.
func (nd *node) mayJoin(ctx context.Context, identity string) (err error) {
	if st, err := supervise.Read(nd.storeDir(), storeChild); err == nil && st.PID != 0 {
		return nil
	}
	opt := nd.storeOptions()
	opt.Endpoints = slices.DeleteFunc(slices.Clone(opt.Endpoints), func(at string) bool { return at == nd.n.Store.Member.ClientURL })
	if len(opt.Endpoints) == 0 {
		return nil
	}
	others, err := etcdstore.Open(opt)
	if err != nil {
		return fmt.Errorf("ask the other members of the store whether another agent has this host's name: %w", err)
	}
	defer func() { err = errors.Join(err, others.Close()) }()
	t, host := nd.cfg.Timings(), cluster.HostID(nd.n.Host)
	w := loop.Twin{
		Host: host, Addr: nd.n.Addr, Identity: identity, Boot: nd.boot,
		Machine: facts.MachineUUID(nd.n.Machine), Lease: t.Lease, Keepalive: t.Keepalive,
		Read: func(ctx context.Context) (cluster.Host, bool, error) { return loop.ReadHost(ctx, others, host) },
	}
	return w.Look(ctx)
}

func (nd *node) storeDir() string { return filepath.Join(nd.n.RunDir, storeChild) }

// endWithin is how long a member has to end; then it is killed.
const endWithin = 3 * time.Second

// endMember ends this host's member of the store when another agent has its name, whoever has started it: an agent that was
// refused has nobody to look after the member, and the other one's is the same member. It returns why with what was done.
func (nd *node) endMember(why error) error {
	if nd.n.Store.Member == nil {
		return why
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	st, err := supervise.Read(nd.storeDir(), storeChild)
	if err = errors.Join(err, supervise.Stop(ctx, nd.storeDir(), storeChild)); err != nil {
		return fmt.Errorf("%w. The member of the store on this host may run, and is to be ended: %w", why, err)
	}
	if st.PID != 0 {
		return fmt.Errorf("%w. The member of the store that ran here was ended", why)
	}
	return why
}
