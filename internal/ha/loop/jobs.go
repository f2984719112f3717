package loop

import (
	"context"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
)

// The methods of this file are what jobs need of the agent (service.Cluster).

// JobUser is who asks for what a job asks for.
const JobUser = "job"

// Coordinator tells whether this host coordinates: the key of the coordinator's
// record, and the revision that says so.
func (a *Agent) Coordinator() (term int64, key string, ok bool) {
	a.peek(func() {
		v := a.s.core
		ok = v.Synced && v.Coord.Host == v.Self && v.Coord.Mod != 0 && a.Clock() < v.Lease.Deadline
		term = v.Coord.Mod
	})
	return term, records.KeyCoord, ok
}

// SetMaintenance says that a host takes no guests any more, or takes them again.
func (a *Agent) SetMaintenance(ctx context.Context, user string, host cluster.HostID, on bool) error {
	return a.Request(ctx, user, "", func(w *cluster.Want, _ cluster.Status) error {
		w.SetMaintenance(host, on)
		return nil
	})
}

// InMaintenance reports whether this host takes no guests. It takes none as long as it does
// not know what was asked for.
func (a *Agent) InMaintenance() bool {
	var rests bool
	if !a.peek(func() { rests = !a.s.core.Synced || slices.Contains(a.s.core.Want.Maintenance, a.Host) }) {
		return true
	}
	return rests
}

// Power asks that the management VM runs, or that it is shut down.
func (a *Agent) Power(ctx context.Context, user string, run bool) error {
	return a.Request(ctx, user, "", func(w *cluster.Want, _ cluster.Status) error {
		w.Run = run
		return nil
	})
}

// Instance is this process of the agent, among those of its host.
func (a *Agent) Instance() string { return a.s.core.ThisHost.Instance }
