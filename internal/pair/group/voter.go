package group

import (
	"context"
	"errors"

	"holdfast/internal/cluster"
)

// Voter is the driver of a host that votes in the store, and never runs the group.
type Voter struct{}

var errVoter = errors.New("this host only votes in the store: it never runs the group")

// Observe finds nothing: nothing is ever started here.
func (Voter) Observe(context.Context) (cluster.Guest, error) {
	return cluster.Guest{State: cluster.GuestAbsent}, nil
}

// Wake never delivers.
func (Voter) Wake() <-chan struct{} { return nil }

// Check says why the group can not start here.
func (Voter) Check(context.Context, cluster.GuestSpec) error { return errVoter }

// Start refuses.
func (Voter) Start(context.Context, cluster.GuestSpec) error {
	return errors.Join(cluster.ErrNotStarted, errVoter)
}

// Shutdown has nothing to end.
func (Voter) Shutdown(context.Context) error { return nil }

// Kill has nothing to end.
func (Voter) Kill(context.Context) error { return nil }

// Migrate refuses.
func (Voter) Migrate(context.Context, string, bool) error { return errVoter }

// Resume refuses.
func (Voter) Resume(context.Context) error { return errVoter }

// AbortMigration has nothing to end.
func (Voter) AbortMigration(context.Context) error { return nil }

// Close has nothing to close.
func (Voter) Close() error { return nil }
