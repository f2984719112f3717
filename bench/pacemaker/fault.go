package pacemaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// Fault is what a run does to the host that runs the guest, or to the guest.
type Fault string

// The faults.
const (
	PowerLoss Fault = "power loss of the active host"
	Isolation Fault = "isolation of the active host"
	Crash     Fault = "SIGKILL of the guest or server" // of the guest's QEMU, of the web server
)

// Faults are all of them.
func Faults() []Fault { return []Fault{PowerLoss, Isolation, Crash} }

// HostFaults are those that a host does not survive. They fit an Address, too,
// which has no process.
func HostFaults() []Fault { return []Fault{PowerLoss, Isolation} }

const (
	// minUp is how long the guest has run before a fault, as in Holdfast's drills.
	minUp = 11 * time.Second
	// backLimit is how long the guest may take to answer again.
	backLimit = 2 * time.Minute
)

// Run is what one fault measured. Times count from the moment before the fault;
// zero when there was no such thing.
type Run struct {
	Fault       Fault
	Host        string        // that ran the guest
	Coordinator bool          // it was Pacemaker's coordinator as well
	Outage      time.Duration // the longest time in which no probe was answered
	Requested   time.Duration // the fence agent was called
	Confirmed   time.Duration // it has read back that the host is off
	Started     time.Duration // Guest: QEMU's process was made, by the process table (10 ms)
	Answered    time.Duration // the first probe that was answered again was sent
	Most        int           // Guest: most QEMU processes that held it at once
	Load        float64       // of the machine, the mean of a minute, at the end
}

// Fault waits until the cluster is settled and the guest has run for 11 s, does
// the fault at a random moment of the monitor's interval, waits until the client
// is answered again (2 minutes at most), and repairs the cluster, also when the
// measurement failed.
func (c *Cluster) Fault(ctx context.Context, f Fault) (Run, error) {
	r, err := c.fault(ctx, f)
	if err != nil {
		err = fmt.Errorf("measure %s: %w", f, err)
	}
	if err := errors.Join(err, c.Repair(ctx)); err != nil {
		return Run{}, err
	}
	return r, nil
}

func (c *Cluster) fault(ctx context.Context, f Fault) (Run, error) {
	before, err := c.ready(ctx)
	if err != nil {
		return Run{}, err
	}
	st, err := c.status(ctx)
	if err != nil {
		return Run{}, err
	}
	host, ok := st.active(c.work.ids()[0])
	if !ok {
		return Run{}, errors.New("no host is active")
	}
	r := Run{Fault: f, Host: host, Coordinator: st.coordinator() == host}
	end := c.watch(ctx)
	// A second of answers before the fault; the monitor must not be in step with it.
	phase := rand.N(c.profile.Monitor)
	if !clock.Sleep(ctx, time.Second+phase) {
		return Run{}, errors.Join(ctx.Err(), end().err)
	}
	at := time.Now()
	err = c.do(ctx, f, host)
	if err == nil {
		err = c.answersAgain(ctx, before)
	}
	if err == nil && !clock.Sleep(ctx, 500*time.Millisecond) { // for the client to note the end of the outage
		err = ctx.Err()
	}
	w := end()
	if err := errors.Join(err, w.err); err != nil {
		return Run{}, err
	}
	err = c.measure(&r, w, at)
	return r, err
}

// ready settles the cluster, waits until its work has run for long enough, and
// gives what tells this start of it from the next.
func (c *Cluster) ready(ctx context.Context) (string, error) {
	if err := c.Settle(ctx); err != nil {
		return "", err
	}
	var start string
	err := c.until(ctx, settleLimit, "the guest to have run for a while", func(ctx context.Context) (string, error) {
		var up time.Duration
		var err error
		start, up, err = c.work.answer(ctx)
		if err == nil && up < minUp {
			return fmt.Sprintf("it has run for %s", up), nil
		}
		return "", err
	})
	return start, err
}

func (c *Cluster) do(ctx context.Context, f Fault, host string) error {
	switch f {
	case PowerLoss:
		return c.lab.Crash(ctx, host)
	case Isolation:
		return c.lab.Isolate(ctx, host)
	case Crash:
		return c.work.crash(ctx, host)
	}
	return fmt.Errorf("fault %q: not known", f)
}

// answersAgain waits until another start of the work answers.
func (c *Cluster) answersAgain(ctx context.Context, before string) error {
	return c.until(ctx, backLimit, "the client to be answered again", func(ctx context.Context) (string, error) {
		start, _, err := c.work.answer(ctx)
		if err == nil && start == before {
			return "it is still the start before", nil
		}
		return "", err
	})
}

// Repair powers on every host that is off, joins every cable and waits until
// the cluster is settled.
func (c *Cluster) Repair(ctx context.Context) error {
	if err := c.mend(ctx); err != nil {
		return err
	}
	return c.Settle(ctx)
}

// mend brings the hosts back, all at once.
func (c *Cluster) mend(ctx context.Context) error {
	st, err := c.lab.Status(ctx)
	if err != nil {
		return fmt.Errorf("repair the cluster: %w", err)
	}
	for _, h := range st.Hosts {
		switch {
		case !h.On:
			if err = c.prepareDatabase(ctx, h.Name); err == nil {
				err = c.lab.On(ctx, h.Name)
			}
		case !h.Cable:
			err = c.lab.Heal(ctx, h.Name)
		}
		if err != nil {
			return fmt.Errorf("repair the cluster: %w", err)
		}
	}
	return nil
}

// watch is what the outside saw.
type watch struct {
	pings lab.Pings
	seen  lab.Observation
	err   error
}

// watch starts the client and the observer. The returned function ends them.
func (c *Cluster) watch(ctx context.Context) func() watch {
	ctx, cancel := context.WithCancel(ctx)
	var w watch
	pings, seen := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		w.pings, err = c.work.probe(ctx)
		pings <- err
	}()
	go func() {
		var err error
		w.seen, err = c.lab.Observe(ctx, lab.GuestUUID)
		seen <- err
	}()
	return func() watch {
		cancel()
		w.err = errors.Join(<-pings, <-seen)
		return w
	}
}

// measure reads the figures of a run out of what was seen and noted. All clocks
// are one machine's.
func (c *Cluster) measure(r *Run, w watch, at time.Time) error {
	all, err := c.orders()
	if err != nil {
		return err
	}
	after := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return t.Sub(at)
	}
	r.Requested = after(firstOrder(all, at, "request", r.Host))
	r.Confirmed = after(firstOrder(all, at, "confirmed", r.Host))
	r.Most = w.seen.Max
	o := longest(w.pings)
	if o.End.IsZero() {
		return errors.New("the client saw no outage that ended")
	}
	r.Outage, r.Answered = o.End.Sub(o.Start), after(o.End)
	boot, err := bootTime()
	if err != nil {
		return err
	}
	// The last one: it is the one that answers.
	for _, h := range w.seen.Holders {
		if born := boot.Add(time.Duration(h.Process.Start) * tick); born.After(at) {
			r.Started = after(born)
		}
	}
	r.Load, err = load()
	return err
}

// longest is the longest outage that ended, as Holdfast's drills count it.
func longest(p lab.Pings) lab.Outage {
	ended := slices.DeleteFunc(slices.Clone(p.Outages), func(o lab.Outage) bool { return o.End.IsZero() })
	if len(ended) == 0 {
		return lab.Outage{}
	}
	return slices.MaxFunc(ended, func(a, b lab.Outage) int {
		return cmp.Compare(a.End.Sub(a.Start), b.End.Sub(b.Start))
	})
}

// tick is the unit of a process's start time: USER_HZ is 100 on every Linux that
// libvirt runs on.
const tick = 10 * time.Millisecond

// bootTime is when the machine was started, by the wall clock.
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}, fmt.Errorf("read the clock since boot: %w", err)
	}
	return time.Now().Add(-time.Duration(ts.Nano())), nil
}

// load is the machine's load average of one minute.
func load() (float64, error) {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read the load: %w", err)
	}
	first, _, _ := strings.Cut(string(raw), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read the load: %w", err)
	}
	return v, nil
}
