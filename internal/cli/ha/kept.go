package ha

import (
	"fmt"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// The texts of this file are about what the cluster keeps up: the management VM, or the services
// of a pair, which have no guest and do not migrate.

// runningText says where it runs.
func runningText(s cluster.Status) string {
	o := s.Owner
	if s.OfPair() {
		return fmt.Sprintf("the services run on %s, epoch %s", output.Clean(o.Host), o.Epoch)
	}
	return fmt.Sprintf("the management VM is running on %s, epoch %s", output.Clean(o.Host), o.Epoch)
}

// ownerText says in which state it is, and why.
func ownerText(s cluster.Status) string {
	state := output.Or(told.OwnerState(s), "in an unknown state")
	text := "the management VM is " + state
	if s.OfPair() {
		text = "the services are " + state
	}
	if s.Owner.Host != "" {
		text += " on " + output.Clean(s.Owner.Host)
	}
	return text + parens(ownerReason(s.Owner))
}

// ownerReason says why the owner record is as it is.
func ownerReason(o cluster.Owner) string {
	return reason.Said(o.Reason, reason.Reason{Code: o.ReasonCode.Code, Args: o.ReasonCode.Args.Named()})
}
