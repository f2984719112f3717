package ha

import (
	"context"
	"fmt"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// cancelMigration ends the migration that is on, and waits until it is certain where
// the guest is.
func cancelMigration(ctx context.Context, a *command.App, c *api.Client, js bool) error {
	what, err := c.CancelMigration(ctx, "")
	if err != nil {
		return err
	}
	v := &cancelling{Cancelled: what}
	s, err := Wait(ctx, a, c, Goal{Name: "cancel the move", Reached: v.ended})
	if err != nil {
		return err
	}
	o := s.Owner
	stayed := o.State == cluster.Running && o.Host == what.From
	if js {
		if err := showStatus(a, s); err != nil {
			return err
		}
	}
	switch {
	case !stayed && o.State == cluster.Running:
		return fail.Errorf(fail.Failed, "too late to cancel: the move has ended, and %s", runningText(s)).
			With("to bring it back: " + cluster.MoveCommand(s.Type) + " " + output.Clean(what.From))
	case !stayed:
		return fail.Errorf(fail.Failed, "the move has ended, and %s", ownerText(s)).
			With("see: holdfast status, holdfast events")
	case js:
		return nil
	}
	return output.Text(a.Env.Stdout, v.stayedText(s)+"\n")
}

// cancelling is what has been seen of a migration that was asked to end.
type cancelling struct {
	api.Cancelled
	over bool
	seq  uint64 // renewals of the target when the end was seen
}

// ended reports that it has ended, one way or the other, and when the guest stayed that
// it runs there, and that the target has said since that it has nothing of it.
func (v *cancelling) ended(s cluster.Status) bool {
	o := s.Owner
	if !s.Connected || s.OwnerMod <= v.OwnerMod || o.State == cluster.Settling || o.State == cluster.Migrating {
		return false
	}
	if o.State != cluster.Running || o.Host != v.From || v.OwnerMod == 0 {
		return true
	}
	source, target := told.HostOf(s, v.From), told.HostOf(s, v.To)
	if !v.over {
		v.over, v.seq = true, target.Seq
	}
	return source.Guest == cluster.GuestRunning && (!target.Alive || target.Seq > v.seq && target.Guest == cluster.GuestAbsent)
}

// stayedText says that the guest has stayed at the source.
func (v *cancelling) stayedText(s cluster.Status) string {
	where := runningText(s) // on From
	switch {
	case v.OwnerMod == 0:
		return fmt.Sprintf("the move to %s had not begun, and does not: %s", output.Clean(v.To), where)
	case !told.HostOf(s, v.To).Alive:
		return fmt.Sprintf("the move to %s is cancelled: %s; %s is silent, and ends what it has of it before it "+
			"takes part again", output.Clean(v.To), where, output.Clean(v.To))
	}
	return fmt.Sprintf("the move to %s is cancelled: %s, and %s has nothing of it", output.Clean(v.To), where,
		output.Clean(v.To))
}
