package ha

import (
	"fmt"

	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// The texts of this file are about what the cluster keeps up: the management VM, or the services
// of a pair, which have no guest and do not migrate.

// kept names it, in a column or a line of a status.
func kept(s cluster.Status) string {
	if s.OfPair() {
		return "services"
	}
	return "mgmt VM"
}

// ownerState is the state of the owner record, "" where there is none.
func ownerState(s cluster.Status) string {
	if s.OfPair() {
		return output.PairWord(string(s.Owner.State))
	}
	return output.Clean(s.Owner.State)
}

// runningText says where it runs.
func runningText(s cluster.Status) string {
	o := s.Owner
	if s.OfPair() {
		return fmt.Sprintf("the services run on %s, epoch %s", output.Clean(o.Host), o.Epoch)
	}
	return fmt.Sprintf("the management VM is running on %s, epoch %s", output.Clean(o.Host), o.Epoch)
}

// stoppedText says that it does not run.
func stoppedText(s cluster.Status) string {
	if s.OfPair() {
		return "the services are stopped"
	}
	return "the management VM is stopped"
}

// ownerText says in which state it is, and why.
func ownerText(s cluster.Status) string {
	state := output.Or(ownerState(s), "in an unknown state")
	text := "the management VM is " + state
	if s.OfPair() {
		text = "the services are " + state
	}
	if s.Owner.Host != "" {
		text += " on " + output.Clean(s.Owner.Host)
	}
	return text + parens(ownerReason(s.Owner))
}
