package loop

import (
	"context"

	"holdfast/internal/cluster"
)

// Driver is the port to what runs the resource on this host. All methods obey
// the deadline of their context even when the hypervisor hangs.
type Driver interface {
	// Observe tells what there is on this host now. GuestAbsent is a proof: the
	// process table was read, not the hypervisor's word taken. Where that is not
	// possible the state is GuestUnknown with an error that says why.
	Observe(ctx context.Context) (cluster.Guest, error)
	// Wake delivers a value soon after something of the guest changed (started,
	// stopped, resumed, its process ended). Values may be lost or superfluous: it
	// only saves waiting for the next poll.
	Wake() <-chan struct{}
	// Check tells whether the guest could be started here (hypervisor answers,
	// image is there and is a file). nil means yes.
	Check(ctx context.Context, spec cluster.GuestSpec) error
	// Start starts the guest. An error that wraps cluster.ErrNotStarted is certain;
	// after any other the guest may be, or may still come, up: Kill decides.
	Start(ctx context.Context, spec cluster.GuestSpec) error
	// Shutdown asks the guest's system to power off and returns at once.
	Shutdown(ctx context.Context) error
	// Kill ends every process of the guest on this host and proves it: nil means
	// gone, by pid and start time. It works without the hypervisor's help. Safe to
	// repeat and when nothing runs.
	Kill(ctx context.Context) error
	// Migrate moves the running guest to the host at addr (IP), live, by TLS where
	// tls says that the target can receive its memory so, and returns when all of it is there and it is gone here
	// (nil), or when it stays here (an error). At the target it stands still,
	// GuestArrived, until Resume. When ctx ends it aborts the migration. Progress is
	// in Observe's Percent.
	Migrate(ctx context.Context, addr string, tls bool) error
	// Resume lets the guest go on that a migration has brought here. nil when it
	// runs already.
	Resume(ctx context.Context) error
	// AbortMigration ends an outgoing migration, also one that an earlier agent
	// process began. nil when there is none.
	AbortMigration(ctx context.Context) error
	Close() error
}
