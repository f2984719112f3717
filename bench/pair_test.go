//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/bench/pacemaker"
	"holdfast/internal/lib/clock"
)

// pairFault is what is done to the active node of a pair.
type pairFault struct {
	name  string
	moves bool // the other node must have the address afterwards
	do    func(ctx context.Context, c pairContestant, active, standby string) error
}

var pairFaults = []pairFault{
	{"planned switch", true, func(ctx context.Context, c pairContestant, active, standby string) error {
		return c.swap(ctx, active, standby)
	}},
	{"service killed", false, func(ctx context.Context, c pairContestant, active, _ string) error { return c.killService(ctx, active) }},
	{"power loss of the active node", true, func(ctx context.Context, c pairContestant, active,
		_ string) error {
		return c.lab.Crash(ctx, active)
	}},
	{"isolation of the active node", true, func(ctx context.Context, c pairContestant, active,
		_ string) error {
		return c.lab.Isolate(ctx, active)
	}},
}

// Limits of one measurement.
const (
	faultLimit = 90 * time.Second
	enough     = 20 // rounds of the client in a row are a pair that serves
)

// TestPairRace measures, for one client that writes through the virtual address,
// the outage after the same faults of a pair by Holdfast, by Pacemaker/Corosync
// and by keepalived. All laboratories stand at once. One fault is done at a time;
// each contestant has it once in a round, in an order drawn by lot, and mends
// while the others are measured.
//
// The database is MariaDB with semi-synchronous replication (keepalived: one on
// each node, without any), the service a web server. An outage is the longest
// time after the fault in which the client got no page and no acknowledged row.
func TestPairRace(t *testing.T) {
	n := raceRuns(t)
	for _, name := range []string{"/usr/sbin/keepalived", "mariadbd", "mariadb-install-db",
		"/usr/lib/ocf/resource.d/heartbeat/mariadb", "bc", "pgrep"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	ctx, cancel := interrupted(t)
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-race-data-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(dir, "database")
	if err := template(ctx, data); err != nil {
		t.Fatal(err)
	}
	halfSecond := pacemaker.Profile{Name: "tuned, token 500 ms", Token: 500 * time.Millisecond, Monitor: time.Second,
		SemiSync: 500 * time.Millisecond}
	plain := func(p pacemaker.Profile) pacemaker.Profile {
		p.Name += ", no database"
		return p
	}
	begin := map[string]func() pairContestant{
		"holdfast": func() pairContestant { return pairByHoldfast(t, ctx) },
		"default":  func() pairContestant { return pairByPacemaker(t, ctx, data, pacemaker.Default(), pacemaker.Database) },
		"tuned": func() pairContestant {
			p := pacemaker.Tuned()
			p.SemiSync = time.Second
			return pairByPacemaker(t, ctx, data, p, pacemaker.Database)
		},
		"t500":     func() pairContestant { return pairByPacemaker(t, ctx, data, halfSecond, pacemaker.Database) },
		"plain":    func() pairContestant { return pairByPacemaker(t, ctx, data, plain(pacemaker.Tuned()), pacemaker.Plain) },
		"plain500": func() pairContestant { return pairByPacemaker(t, ctx, data, plain(halfSecond), pacemaker.Plain) },
		"vrrp":     func() pairContestant { return pairByKeepalived(t, ctx, data, "default (1 s)", 1) },
		"vrrpfast": func() pairContestant { return pairByKeepalived(t, ctx, data, "100 ms", 0.1) },
	}
	names := []string{"holdfast", "default", "tuned", "t500", "plain", "plain500", "vrrp", "vrrpfast"}
	if only := os.Getenv("HOLDFAST_BENCH_ONLY"); only != "" {
		names = strings.Fields(only)
	}
	var all []*pairContestant
	for _, name := range names {
		if begin[name] == nil {
			t.Fatalf("HOLDFAST_BENCH_ONLY: %q: want some of holdfast, default, tuned, t500, plain, plain500, vrrp, vrrpfast", name)
		}
		c := begin[name]()
		c.repaired = make(chan error, 1)
		c.repaired <- nil
		all = append(all, &c)
	}
	t.Cleanup(func() { // no repair goes on beside what takes the laboratories away
		cancel()
		for _, c := range all {
			if err := <-c.repaired; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	})
	type key struct{ fault, contestant string }
	outages, loads, lost := map[key]series{}, map[key]series{}, map[key]int{}
	for i := range n {
		for _, f := range pairFaults {
			for _, x := range rand.Perm(len(all)) {
				c := all[x]
				if ctx.Err() != nil {
					t.Fatal(ctx.Err())
				}
				k := key{f.name, c.name}
				outage, gone, err := c.fault(ctx, f)
				if err != nil {
					t.Errorf("%s: %s, run %d: %v", c.name, f.name, i+1, err)
					continue
				}
				load := loadNow()
				t.Logf("%s %s: %s, run %d: outage %s, acknowledged rows lost %d, load %s",
					time.Now().Format(time.TimeOnly), c.name, f.name, i+1, outage, gone, load)
				var l float64
				if _, err := fmt.Sscan(load, &l); err != nil {
					t.Fatal(err)
				}
				outages[k], loads[k] = append(outages[k], outage.Seconds()), append(loads[k], l)
				lost[k] += gone
			}
		}
	}
	for _, f := range pairFaults {
		for _, c := range all {
			k := key{f.name, c.name}
			if len(outages[k]) == 0 {
				continue
			}
			rows := fmt.Sprint(lost[k])
			if !c.copies {
				rows = "-" // nothing carries them over
			}
			result(t, "| %s | %s | %d | %s | %s | %s |", f.name, c.name, len(outages[k]), outages[k], rows, loads[k])
		}
	}
}

// interrupted gives a context that a signal ends. The next signal ends nothing:
// until the end of the test the laboratories are taken away.
func interrupted(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(sig) })
	go func() {
		select {
		case <-sig:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// killService ends the service's program by SIGKILL. That of keepalived's nodes
// stays off: nothing there starts it again but the repair.
func (c pairContestant) killService(ctx context.Context, host string) error {
	if c.bare {
		if _, err := c.lab.Exec(ctx, host, "touch", "/run/service.off"); err != nil {
			return err
		}
	}
	return c.lab.Kill(ctx, host, "cmd:httpd -f -p 80")
}

// fault waits until the contestant is in order, does the fault under the client's
// rounds, and begins the repair. It gives the outage and how many acknowledged
// rows the database does not have that serves afterwards.
func (c *pairContestant) fault(ctx context.Context, f pairFault) (outage time.Duration, lost int, err error) {
	if err := <-c.repaired; err != nil {
		c.repaired <- nil // the next one tries again
		return 0, 0, fmt.Errorf("after the fault before: %w", err)
	}
	active, standby, err := c.active(ctx)
	if err != nil {
		c.repair(ctx, nil)
		return 0, 0, err
	}
	fctx, cancel := context.WithTimeout(ctx, faultLimit)
	defer cancel()
	stop := c.client.write()
	defer stop()
	err = c.client.inARow(fctx, enough)
	clock.Sleep(fctx, rand.N(time.Second)) // in step with no monitor
	at := time.Now()
	if err == nil {
		err = f.do(fctx, *c, active, standby)
	}
	for err == nil && f.moves {
		if hosts, werr := c.lab.WhoHas(fctx, c.lab.FloatingAddr()); werr == nil && len(hosts) == 1 && hosts[0] == standby {
			break
		}
		if !clock.Sleep(fctx, 50*time.Millisecond) {
			err = fmt.Errorf("wait for %s to have the address: %w", standby, fctx.Err())
		}
	}
	if err == nil {
		clock.Sleep(fctx, time.Second)
		err = c.client.inARow(fctx, enough)
	}
	stop()
	outage = c.client.gap(at)
	if err == nil && c.copies {
		lost, err = c.client.lost(ctx)
	}
	var after func(context.Context) error
	if err == nil && f.name == pairFaults[0].name && c.swapped != nil {
		after = func(ctx context.Context) error { return c.swapped(ctx, active, standby) }
	}
	c.repair(ctx, after)
	return outage, lost, err
}

// repair begins what brings the contestant into order, after something else.
func (c *pairContestant) repair(ctx context.Context, first func(context.Context) error) {
	go func() {
		rctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
		defer cancel()
		var err error
		if first != nil {
			err = first(rctx)
		}
		if err == nil {
			err = c.mend(rctx)
		}
		if err == nil {
			err = patient(rctx, c.settled)
		}
		c.repaired <- err
	}()
}
