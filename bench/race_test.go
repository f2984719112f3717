package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/bench/pacemaker"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// raceRunsVar says how often each fault is measured with each contestant.
const raceRunsVar = "HOLDFAST_BENCH_RUNS"

// run is what one fault measured, from the moment before it.
type run struct {
	outage, proved, started time.Duration // proved: by Holdfast the takeover is written; by Pacemaker the fence agent has confirmed
}

// contestant is a cluster that keeps the laboratory's guest up, or an address.
type contestant struct {
	name  string
	fault func(ctx context.Context, f pacemaker.Fault) (run, error)
	down  func(ctx context.Context) error
}

// TestRace measures the client's outage after the same faults, on the same
// laboratory with the same guest and the same fence devices (IPMI, one per host),
// of Holdfast and of Pacemaker/Corosync, each with its defaults and tuned. One
// laboratory at a time; the contestants take turns fault by fault.
func TestRace(t *testing.T) {
	n := raceRuns(t)
	for _, begin := range []func(*testing.T) contestant{
		holdfastWith(""), pacemakerWith(pacemaker.Default()), holdfastWith(config.ProfileFast), pacemakerWith(pacemaker.Tuned()),
	} {
		c := begin(t)
		c.race(t, "", pacemaker.Faults(), n)
		if err := c.down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// TestAddressRace does the same for a floating address in the guest's place: what
// is left of the outage without a boot. Holdfast protects a process that has the
// address (the process driver), Pacemaker its own IPaddr2. Each contestant is
// measured as it was tuned for the guest, and with its detection set to 500 ms.
func TestAddressRace(t *testing.T) {
	n := raceRuns(t)
	for _, begin := range []func(*testing.T) contestant{
		addressByHoldfast("fast", config.Timings{Profile: config.ProfileFast}),
		addressByPacemaker(pacemaker.Tuned()),
		addressByHoldfast("fast, detection 500 ms", config.Timings{
			Profile: config.ProfileFast, Detection: config.Duration(500 * time.Millisecond),
			Heartbeat: config.Duration(100 * time.Millisecond), Keepalive: config.Duration(250 * time.Millisecond),
		}),
		addressByPacemaker(pacemaker.Profile{Name: "tuned, token 500 ms", Token: 500 * time.Millisecond, Monitor: time.Second}),
	} {
		c := begin(t)
		c.race(t, "address, ", pacemaker.HostFaults(), n)
		if err := c.down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// raceRuns says how often each fault is measured, if at all.
func raceRuns(t *testing.T) int {
	t.Helper()
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	if missing := pacemaker.Missing(); len(missing) > 0 {
		t.Skip("missing: ", missing)
	}
	n := 5
	if s := os.Getenv(raceRunsVar); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("%s=%q: want a number above 0", raceRunsVar, s)
		}
	}
	return n
}

// race measures a contestant: each fault n times. of says what is kept up.
func (c contestant) race(t *testing.T, of string, faults []pacemaker.Fault, n int) {
	t.Helper()
	for _, f := range faults {
		var outage, proved, started series
		for range n {
			r, err := c.fault(t.Context(), f)
			if err != nil {
				t.Errorf("%s: %s: %v", c.name, f, err)
				continue
			}
			t.Logf("%s: %s: %+v", c.name, f, r)
			outage, proved, started = append(outage, r.outage.Seconds()), append(proved, r.proved.Seconds()), append(started, r.started.Seconds())
		}
		if len(outage) > 0 {
			result(t, "race, %s%s, %s, %d runs, seconds, median (min-max): outage %s; from the fault: proved %s, started %s; load %s",
				of, f, c.name, len(outage), outage, figure(proved), figure(started), loadNow())
		}
	}
}

// figure leaves out what did not happen, or could not be seen.
func figure(s series) string {
	if slices.Max(s) == 0 {
		return "-"
	}
	return s.String()
}

func loadNow() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return string(bytes.Fields(b)[0])
}

// program is the one that the laboratory's hosts run.
func program(t *testing.T) string {
	t.Helper()
	exe, err := filepath.Abs("../bin/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func pacemakerWith(p pacemaker.Profile) func(*testing.T) contestant {
	return pacemakerKeeping(p, pacemaker.Guest)
}

func addressByPacemaker(p pacemaker.Profile) func(*testing.T) contestant {
	return pacemakerKeeping(p, pacemaker.Address)
}

func pacemakerKeeping(p pacemaker.Profile, w pacemaker.Work) func(*testing.T) contestant {
	return func(t *testing.T) contestant {
		t.Helper()
		c, err := pacemaker.Up(t.Context(), pacemaker.Options{Lab: programs(lab.Options{Dir: labDir(t)}), Profile: p, Work: w})
		if err != nil {
			t.Fatal(err)
		}
		fault := func(ctx context.Context, f pacemaker.Fault) (run, error) {
			r, err := c.Fault(ctx, f)
			return run{r.Outage, r.Confirmed, r.Started}, err
		}
		return contestant{"Pacemaker " + p.Name, fault, c.Down}
	}
}

// labDir is below /var/tmp: hosts do not see all other places.
func labDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-race-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "lab")
}

func holdfastWith(profile string) func(*testing.T) contestant {
	return holdfastKeeping(cmp.Or(profile, "default"), lab.Options{Profile: profile})
}

func addressByHoldfast(name string, tm config.Timings) func(*testing.T) contestant {
	return holdfastKeeping(name, lab.Options{Work: lab.WorkAddress, Timings: tm})
}

func holdfastKeeping(name string, o lab.Options) func(*testing.T) contestant {
	return func(t *testing.T) contestant {
		t.Helper()
		o.Dir, o.Agents, o.BMCs = labDir(t), true, true
		l, err := lab.Up(t.Context(), programs(o))
		if err != nil {
			t.Fatal(err)
		}
		h := holdfast{l, o.Work == lab.WorkAddress}
		return contestant{"Holdfast " + name, h.fault, l.Down}
	}
}

// holdfast is a laboratory with agents and fence devices.
type holdfast struct {
	lab     *lab.Lab
	address bool // an address is kept up in place of the guest
}

// answer asks for what tells one start from the next, and how long it has run.
func (h holdfast) answer(ctx context.Context) (start string, up time.Duration, err error) {
	if !h.address {
		a, err := h.lab.Ask(ctx)
		return a.Boot, a.Up, err
	}
	hosts, err := h.lab.WhoHas(ctx, h.lab.FloatingAddr())
	if err == nil && len(hosts) != 1 {
		err = fmt.Errorf("the address is on %d hosts: %v", len(hosts), hosts)
	}
	return strings.Join(hosts, " "), minUp, err
}

// client is the address that is asked.
func (h holdfast) client() netip.Addr {
	if h.address {
		return h.lab.FloatingAddr()
	}
	return h.lab.GuestAddr()
}

// minUp is how long the guest has run before a fault.
const minUp = 11 * time.Second

// fault is as pacemaker.Cluster's: it waits until all is in order and the guest
// has run for 11 s, does the fault, waits for the next start of the guest to
// answer, and repairs.
func (h holdfast) fault(ctx context.Context, f pacemaker.Fault) (r run, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	st, before, err := h.ready(ctx)
	if err != nil {
		return r, err
	}
	host := string(st.Owner.Host)
	defer func() { err = errors.Join(err, h.mend(ctx, host)) }()
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	pings, perr := lab.Pings{}, make(chan error, 1)
	go func() {
		var err error
		pings, err = h.lab.Ping(wctx, h.client())
		perr <- err
	}()
	clock.Sleep(ctx, time.Second+rand.N(time.Second))
	at := time.Now()
	switch f {
	case pacemaker.PowerLoss:
		err = h.lab.Crash(ctx, host)
	case pacemaker.Isolation:
		err = h.lab.Isolate(ctx, host)
	default:
		err = h.lab.Kill(ctx, host, "cmd:-uuid "+loop.GuestUUID("lab"))
	}
	if err == nil {
		err = h.until(ctx, func() bool {
			start, _, err := h.answer(ctx)
			return err == nil && start != before
		})
	}
	clock.Sleep(ctx, 500*time.Millisecond)
	stop()
	if err = errors.Join(err, <-perr); err != nil {
		return r, err
	}
	for _, o := range pings.Outages {
		if !o.End.IsZero() {
			r.outage = max(r.outage, o.End.Sub(o.Start))
		}
	}
	r.proved, r.started, err = h.phases(ctx, at)
	return r, err
}

// ready waits until every host is in order and the guest has run for a while, and
// gives what tells this start from the next.
func (h holdfast) ready(ctx context.Context) (st cluster.Status, start string, err error) {
	err = h.until(ctx, func() bool {
		if st, err = h.status(ctx); err != nil || st.Owner.State != cluster.Running || !st.Takeover.Possible {
			return false
		}
		for _, x := range st.Hosts {
			if !x.Alive || !x.Fit || x.Guard == 0 {
				return false
			}
		}
		var up time.Duration
		start, up, err = h.answer(ctx)
		return err == nil && len(st.Hosts) == 3 && up >= minUp
	})
	return st, start, err
}

func (h holdfast) until(ctx context.Context, ok func() bool) error {
	for !ok() {
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the cluster: %w", ctx.Err())
		}
		clock.Sleep(ctx, 50*time.Millisecond)
	}
	return nil
}

func (h holdfast) mend(ctx context.Context, host string) error {
	return errors.Join(h.lab.On(ctx, host), h.lab.Heal(ctx, host))
}

// any asks the hosts in turn until one answers.
func (h holdfast) any(ctx context.Context, args ...string) (out string, err error) {
	for _, x := range h.lab.Hosts() {
		cctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		out, err = h.lab.Exec(cctx, x, append([]string{h.lab.Exe()}, args...)...)
		cancel()
		if err == nil {
			return out, nil
		}
	}
	return "", err
}

func (h holdfast) status(ctx context.Context) (st cluster.Status, err error) {
	out, err := h.any(ctx, "status", "-o", "json")
	if err == nil {
		err = lab.ReadTold([]byte(out), &st)
	}
	return st, err
}

// phases reads the event log since the fault. All hosts have this machine's clock.
func (h holdfast) phases(ctx context.Context, at time.Time) (proved, started time.Duration, err error) {
	out, err := h.any(ctx, "events", "-o", "json")
	if err != nil {
		return 0, 0, err
	}
	for l := range bytes.Lines([]byte(out)) {
		var e cluster.Event
		if err := lab.ReadTold(l, &e); err != nil {
			return 0, 0, fmt.Errorf("read the events: %w", err)
		}
		if e.Time.Before(at) {
			continue
		}
		if slices.Contains([]cluster.EventKind{cluster.EvTakeover, cluster.EvReleased}, e.Kind) && proved == 0 {
			proved = e.Time.Sub(at)
		}
		if e.Kind == cluster.EvStarted {
			started = e.Time.Sub(at)
		}
	}
	return proved, started, nil
}
