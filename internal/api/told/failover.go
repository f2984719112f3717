package told

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// Failover is what happened from the last word of a host that was lost until another one ran what it had.
type Failover struct {
	From, To           cluster.HostID
	By                 cluster.HostID // the coordinator that decided
	Lost               time.Time      // the last renewal of From that the coordinator has seen
	Decided            time.Time
	Started            time.Time // zero: it has not, or another event came between
	Proof              cluster.ProofKind
	Note               string // of the proof
	Events             []cluster.Event
	DecidedIn, StartIn time.Duration // since Lost, and since Decided
}

// FailoverAt finds the takeover of a time among events, oldest first.
func FailoverAt(events []cluster.Event, at time.Time) (f Failover, found bool) {
	i := slices.IndexFunc(events, func(e cluster.Event) bool { return e.Kind == cluster.EvTakeover && e.Time.Equal(at) })
	if i < 0 {
		return f, false
	}
	e := events[i]
	f = Failover{From: e.Host, To: e.To, By: e.By, Lost: e.Time.Add(-e.Wait), Decided: e.Time,
		DecidedIn: e.Wait, Proof: e.Proof, Note: e.Detail}
	last := e.Time
	for _, x := range events[i+1:] {
		if x.Kind == cluster.EvStarted && x.Host == e.To {
			f.Started, f.StartIn, last = x.Time, x.Time.Sub(e.Time), x.Time
		}
		if EndsFailover(x.Kind) {
			break
		}
	}
	for _, x := range events {
		if !x.Time.Before(f.Lost) && !x.Time.After(last) {
			f.Events = append(f.Events, x)
		}
	}
	return f, true
}

// EndsFailover reports whether a start after an event of a kind belongs to another decision than the takeover before it; the
// start itself is one of them.
func EndsFailover(k cluster.EventKind) bool {
	switch k {
	case cluster.EvStarted, cluster.EvTakeover, cluster.EvReleased, cluster.EvAssigned, cluster.EvStopping:
		return true
	}
	return false
}

// Whole is the time from the last word until it ran again; zero: it is not known.
func (f Failover) Whole() time.Duration {
	if f.Started.IsZero() {
		return 0
	}
	return f.DecidedIn + f.StartIn
}

// Safe says why no two copies can have run at once.
func (f Failover) Safe() string {
	host := Clean(f.From)
	switch f.Proof {
	case cluster.ProofDeadline:
		return fmt.Sprintf("%s had not renewed its lease for %s. A host that can not renew ends what it runs by itself, and its "+
			"watchdog resets it where it does not; the wait is longer than both, with clocks that differ.", host, Secs(f.DecidedIn))
	case cluster.ProofFenced:
		return fmt.Sprintf("A fence device switched %s off, and showed it off when it was asked again.", host)
	case cluster.ProofReleased:
		return fmt.Sprintf("%s had stopped its copy, and proved that no process of it was left.", host)
	case cluster.ProofNeverStarted:
		return fmt.Sprintf("%s had closed its turn before it called the hypervisor.", host)
	case cluster.ProofOperator:
		return fmt.Sprintf("A person confirmed that %s is off.", host)
	}
	return fmt.Sprintf("The proof is %q.", Clean(f.Proof))
}
