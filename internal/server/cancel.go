package server

import (
	"context"
	"slices"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// CancelMigration records the wish that the migration which is on ends, or that one
// which has been asked for does not begin.
func (h *handler) CancelMigration(ctx context.Context, req *apiv1.CancelMigrationRequest) (*apiv1.CancelMigrationResponse, error) {
	var what api.Cancelled
	if s := h.cluster.Status(); s.Owner.State == cluster.Migrating && s.Want.Cancel == s.OwnerMod {
		what = cancelOf(s) // the request may have been carried out before, and is not asked again then
	}
	err := h.request(ctx, req.IdempotencyKey, "cancel the move", func(w *cluster.Want, s cluster.Status) error {
		if err := checkCancel(*w, s); err != nil {
			return err
		}
		if s.Owner.State == cluster.Migrating {
			w.Cancel = s.OwnerMod
		} else {
			s.Want.MoveTo, w.MoveTo = w.MoveTo, ""
		}
		what = cancelOf(s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return api.Encode[*apiv1.CancelMigrationResponse](what), nil
}

// cancelOf says which migration a request would end.
func cancelOf(s cluster.Status) api.Cancelled {
	if s.Owner.State != cluster.Migrating {
		return api.Cancelled{From: s.Owner.Host, To: s.Want.MoveTo}
	}
	return api.Cancelled{From: s.Owner.Host, To: s.Owner.To, OwnerMod: s.OwnerMod}
}

// checkCancel says why there is nothing to cancel, nil when there is. A migration off
// a host in maintenance would begin again.
func checkCancel(w cluster.Want, s cluster.Status) error {
	o := s.Owner
	switch {
	case o.State == cluster.Migrating && slices.Contains(w.Maintenance, o.Host):
		return fail.Errorf(fail.Refused, "host %s is in maintenance: what runs there would be moved off it again", o.Host).
			With("end that first: holdfast host enable " + string(o.Host))
	case o.State == cluster.Migrating:
		return nil
	case o.State == cluster.Settling:
		return fail.Errorf(fail.Refused, "too late to cancel: it has left its source and goes on on %s", o.Host).
			With("see that it runs: holdfast status; to bring it back: " + cluster.MoveCommand(s.Type))
	case w.MoveTo != "" && o.State == cluster.Running && w.MoveTo != o.Host:
		return nil
	case o.State == cluster.Running:
		return fail.Errorf(fail.Refused, "no move is under way: it runs on %s", o.Host)
	}
	return fail.Errorf(fail.Refused, "no move is under way: its state is %s", stateOf(o))
}
