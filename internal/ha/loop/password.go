package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// Passworder is a driver that reaches an agent in the guest. The password is in no
// error.
type Passworder interface {
	SetPassword(ctx context.Context, user, password string) error // cluster.ErrNoAgent where there is none
}

// Peer is the agent of another host.
type Peer interface {
	ResetPassword(ctx context.Context, password string) (cluster.Reset, error)
	TestFence(ctx context.Context, host cluster.HostID) (cluster.FenceTest, error)
	Close()
}

// passwordWithin bounds the answer of the guest's agent.
const passwordWithin = 10 * time.Second

// errNoPassword is for what is no guest.
var errNoPassword = fail.Errorf(fail.Refused, "what this cluster keeps up has no password that can be set")

// ResetPassword gives root of the guest another password, where the configuration
// allows it, by the agent of the host on which it runs.
func (a *Agent) ResetPassword(ctx context.Context, user, password string) (cluster.Reset, error) {
	r, err := a.readRecords(ctx)
	if err != nil {
		return cluster.Reset{}, err
	}
	switch o := r.owner; {
	case r.cfg.Type == config.PairConf:
		return cluster.Reset{}, errNoPassword
	case !r.cfg.AllowResetRootPassword:
		return cluster.Reset{}, fail.Errorf(fail.Refused, "AllowResetRootPassword of the cluster's configuration is false").
			With("change that first: holdfast config export, config import")
	case o.State != cluster.Running:
		return cluster.Reset{}, fail.Errorf(fail.Refused, "the management VM does not run: its state is %q",
			o.State).With("start it, or wait: holdfast status")
	case o.Host != a.Host:
		return a.resetElsewhere(ctx, o.Host, password)
	}
	d, ok := a.Driver.(Passworder)
	if !ok {
		return cluster.Reset{}, errNoPassword
	}
	ev := cluster.Event{Kind: cluster.EvPassword, By: a.Host, Resource: cluster.MgmtVM, Host: a.Host, User: user, Detail: "of root, asked for"}
	if err := a.Tell(ctx, ev); err != nil {
		return cluster.Reset{}, err // nothing is done that nobody hears of
	}
	ctx, cancel := context.WithTimeout(ctx, passwordWithin)
	defer cancel()
	err = d.SetPassword(ctx, "root", password)
	if errors.Is(err, cluster.ErrNoAgent) {
		return cluster.Reset{}, fail.Errorf(fail.Failed, "%w", err).With("install and start qemu-guest-agent in the management VM")
	}
	if err != nil {
		return cluster.Reset{}, err
	}
	return cluster.Reset{Host: a.Host, Addr: a.Addr, UUID: GuestUUID(a.Cluster)}, nil
}

func (a *Agent) resetElsewhere(ctx context.Context, host cluster.HostID, password string) (cluster.Reset, error) {
	if a.Peer == nil {
		return cluster.Reset{}, fail.Errorf(fail.Refused, "the management VM runs on %s", host).With("run the command there")
	}
	p, err := a.Peer(host)
	if err != nil {
		return cluster.Reset{}, fmt.Errorf("ask %s, where the management VM runs: %w", host, err)
	}
	defer p.Close()
	return p.ResetPassword(ctx, password)
}

// Tell writes an event.
func (a *Agent) Tell(ctx context.Context, ev cluster.Event) error {
	var op store.Op
	if !a.ask(ctx, func() { op = a.event(ev) }) {
		return fmt.Errorf("%w: the agent is ending", store.ErrRetry)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if _, _, err := a.Store.Txn(ctx, nil, []store.Op{op}); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	return nil
}
