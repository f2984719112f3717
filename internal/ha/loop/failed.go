package loop

import (
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// failures are the starts that have failed on this host since something changed on it: it is not fit
// then, whatever the checks say, since they do not find what is wrong. The owner record counts
// failures, too, of all hosts, and slows tries down; this one says where not to try.
type failures struct {
	times int
	at    cluster.Instant // of the last one
	why   string
	cfg   int64 // revisions of the configuration and of what was asked for, at the last one
	want  int64
}

// How long a host is not tried after its first start that failed, while nobody has the guest; twice as
// long after each further one, up to retryLast. Somebody who has it lets the host rest until something changes.
const (
	retryFirst = 2 * time.Second
	retryLast  = 5 * time.Minute
)

// failedOn are the hosts on which a start has failed since the guest ran.
type failedOn map[cluster.HostID]bool

// owned follows the owner record, and reports that the guest runs where a start had failed before: what was
// wrong was not that host alone, and is over.
func (f *failedOn) owned(o cluster.Owner) (over bool) {
	switch {
	case o.State == cluster.Released && (reason.Reason{Code: o.ReasonCode.Code}).Is(reason.StartFailed):
		if *f == nil {
			*f = failedOn{}
		}
		(*f)[o.Proof.Host] = true
	case o.State == cluster.Running:
		over, *f = (*f)[o.Host], nil
	}
	return over
}

// startFailed notes that a start has failed on this host.
func (a *Agent) startFailed(err error) {
	f := &a.s.failed
	f.times++
	f.at, f.why, f.cfg, f.want = a.Clock(), err.Error(), a.s.cfgMod, a.s.core.Want.Mod
	a.describe()
}

// changed forgets starts that failed once a start may end otherwise: the configuration is another one, somebody
// has asked for something, the checks have found what is wrong, or the guest runs here.
func (f *failures) changed(s *state, err error) {
	if f.times > 0 && (err != nil || f.cfg != s.cfgMod || f.want != s.core.Want.Mod || s.core.Guest.Seen.State == cluster.GuestRunning) {
		*f = failures{}
	}
}

// rests reports that a start is not to be tried here now.
func (f *failures) rests(s *state, now cluster.Instant) bool {
	wait := min(retryFirst<<min(f.times-1, 16), retryLast)
	return s.core.Owner.Holder() != "" || !s.core.Want.Run || now.Sub(f.at) < wait
}

// last says what became of the last start here.
func (f *failures) last() error {
	return fmt.Errorf("the last start here failed (%d in a row), and nothing has changed since: %s", f.times, f.why)
}
