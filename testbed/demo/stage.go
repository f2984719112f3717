package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// machine is one host, as the drill breaks and mends it. Its methods may be used
// concurrently.
type machine interface {
	Name() cluster.HostID
	// PowerOn boots the host; it does nothing when the host is on.
	PowerOn(ctx context.Context) error
	// PowerOff is a loss of power; it does nothing when the host is off.
	PowerOff(ctx context.Context) error
	// Cut pulls the host's cables or plugs them in again.
	Cut(ctx context.Context, cut bool) error
	// KillAgent ends the agent alone, with SIGKILL; it is started again.
	KillAgent(ctx context.Context) error
	Condition() condition
}

// condition is a machine's state for the screen and for the verdict.
type condition struct {
	on, cut bool
	agent   bool // the agent's process runs
	fired   int  // resets by the watchdog
}

// stage is what a drill takes place on: the hosts, and the eyes on them from
// outside the agents. There is one made of processes and one made of the
// laboratory's hosts.
type stage interface {
	// Driver is the agents' driver, "process" or "libvirt".
	Driver() string
	// Prepare makes all that has to be there before the drill. It may leave the
	// hosts with or without power.
	Prepare(ctx context.Context) error
	// Machines and Agents are there after Prepare.
	Machines() []machine
	Agents() map[cluster.HostID]Agent
	// Watches look on until their context ends, whose end is no error.
	Watches() []func(ctx context.Context) error
	// CrashVM ends the VM alone.
	CrashVM(ctx context.Context) error
	// Console is the address of a host's console, and the file of the authority whose certificate it has.
	Console(host cluster.HostID) (url, ca string)
	// LastWords are the last line of an agent's log, "" for none.
	LastWords(host cluster.HostID) string
	// Kept is the directory whose files Close leaves there, "" for none.
	Kept() string
	// Close ends and removes everything, however far Prepare came.
	Close() error
}

// limits bound the parts of a drill. Their length is for a machine that does many other things: on a quiet one, what they
// bound takes a fraction of it.
type limits struct {
	run       time.Duration // for everything between Prepare and Close
	boot      time.Duration // until the VM runs for the first time
	powerBack time.Duration // from a power loss to the power's return, if nothing recovered before
	rejoin    time.Duration // for a host to be a member again after the VM has recovered
	// noise is the shortest silence of the VM that counts as an outage: shorter ones
	// can not be told from a busy machine's scheduling.
	noise time.Duration
}

// witness is where a stage reports to what it sees.
type witness struct {
	observer *observer
	timeline *timeline
}

// answered takes in an answer of the VM to a question sent at sent. client says
// that a client could have asked there.
func (w witness) answered(a Answer, sent time.Time, client bool) {
	now := time.Now()
	g, ended := w.observer.Answered(a, sent, now, client)
	if !ended {
		return
	}
	e := Event{Source: fromClient, Kind: "answer", Host: a.Host, Time: now,
		Text: fmt.Sprintf("the VM answers again after %.2f s", g.to.Sub(g.from).Seconds())}
	if !a.Epoch.IsZero() {
		e.Epoch = &a.Epoch
	}
	w.timeline.Add(e)
}

// note records what happened to a host.
func (w witness) note(source, kind string, host cluster.HostID, text string) {
	w.timeline.Add(Event{Source: source, Kind: kind, Host: host, Text: text})
}

// listen notices when the client has no answer any more, until ctx ends.
func (w witness) listen(ctx context.Context) error {
	for clock.Sleep(ctx, askEvery) {
		if at, lost := w.observer.Silent(time.Now()); lost {
			w.timeline.Add(Event{Source: fromClient, Kind: "no-answer", Time: at, Text: "the VM's last answer for now"})
		}
	}
	return nil
}

// each does the same to several hosts at once.
func each(hosts []machine, do func(machine) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, m := range hosts {
		wg.Go(func() { errs[i] = do(m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
