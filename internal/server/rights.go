package server

import (
	"context"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/fail"
)

// Guests reports whether a name, of a certificate, is that of a host that runs guests
// only. An error means that it is not known yet.
type Guests func(name string) (bool, error)

// isOpen reports whether the agent of such a host may call a procedure: what it needs
// of other agents, and what only tells. All others are the operators': such a host says
// to the store itself what it has to say (docs/adr/0026).
func isOpen(procedure string) bool {
	switch procedure {
	case apiv1connect.ClusterServiceGetVersionProcedure,
		apiv1connect.ClusterServiceGetStatusProcedure, apiv1connect.ClusterServiceWatchStatusProcedure,
		apiv1connect.ClusterServiceListEventsProcedure, apiv1connect.ClusterServiceWatchEventsProcedure,
		apiv1connect.JobServiceListHostsProcedure, apiv1connect.JobServiceListJobsProcedure, apiv1connect.JobServiceGetJobProcedure,
		apiv1connect.UpgradeServiceGetUpgradeProcedure,
		apiv1connect.UpgradeServiceGetBundleProcedure, apiv1connect.UpgradeServiceGatherFactsProcedure,
		apiv1connect.UpgradeServiceSendGuestProcedure: // to itself, see mayHave
		return true
	}
	return false
}

type guestKey struct{}

// limit refuses what a host that runs guests only may not call, and notes its name.
// Local callers are root.
func (g *gate) limit(ctx context.Context, who peer, procedure string) (context.Context, error) {
	if g.guests == nil || who.pid != 0 {
		return ctx, nil
	}
	only, err := g.guests(who.user)
	switch {
	case err == nil && !only:
		return ctx, nil
	case isOpen(procedure): // also while it is not known
	case err != nil:
		return ctx, fail.Errorf(fail.Unavailable, "whether %s is a host that runs guests only is not known yet: %w", who.user, err).With("ask again in some seconds")
	default:
		return ctx, fail.Errorf(fail.Denied, "not allowed: %s is a host that runs guests only, and may not call %s", who.user, procedure).
			With("use an operator's certificate, or run the command on a member")
	}
	return context.WithValue(ctx, guestKey{}, cluster.HostID(who.user)), nil
}

// mayHave refuses to send a guest to another host than the one that asks for it, where
// the caller is limited.
func mayHave(ctx context.Context, to cluster.HostID) error {
	if host, limited := ctx.Value(guestKey{}).(cluster.HostID); limited && host != to {
		return fail.Errorf(fail.Denied, "not allowed: %s is a host that runs guests only, and may ask for guests for itself, not for %s", host, to)
	}
	return nil
}
