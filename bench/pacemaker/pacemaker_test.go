//go:build bench

package pacemaker

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/lab"
)

// Variables that the measurements obey.
const (
	benchVar   = "HOLDFAST_BENCH"              // 1: run them
	runsVar    = "HOLDFAST_BENCH_RUNS"         // faults of a kind, default 5
	endureVar  = "HOLDFAST_BENCH_ENDURE"       // how long to watch for false alarms, as 10m
	resultsVar = "HOLDFAST_BENCH_RESULTS"      // file that gets a line for each result
	agentVar   = "HOLDFAST_BENCH_PCMK_AGENT"   // Minimal or VirtualDomain
	keepVar    = "HOLDFAST_BENCH_KEEP_LOGS_IN" // folder that gets the hosts' logs of a failed test
)

// TestMain lets the test program serve as the laboratory's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		if err := lab.Command().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "holdfast-lab:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// up makes a cluster that is gone at the test's end.
func up(t *testing.T, p Profile, w Work) *Cluster {
	t.Helper()
	if os.Getenv(benchVar) != "1" {
		t.Skip("a measurement of minutes: " + benchVar + "=1 runs it")
	}
	if os.Geteuid() != 0 {
		t.Skip("the laboratory needs root")
	}
	if m := append(lab.Missing(), Missing()...); len(m) > 0 {
		t.Skip("missing: " + strings.Join(m, ", "))
	}
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-pacemaker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	o := Options{Lab: lab.Options{Dir: filepath.Join(dir, "lab")}, Profile: p, Work: w, Resource: os.Getenv(agentVar)}
	started := time.Now()
	c, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, c)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Logf("%s, %s: up and settled after %.1f s", w, p.Name, time.Since(started).Seconds())
	return c
}

// keepLogs copies what the hosts wrote to where the caller wants it.
func keepLogs(t *testing.T, c *Cluster) {
	t.Helper()
	dir := os.Getenv(keepVar)
	if dir == "" {
		return
	}
	for _, h := range c.Lab().Hosts() {
		for _, folder := range []string{"log", "pacemaker/log"} {
			to := filepath.Join(dir, h, folder)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Error(err)
			}
			if err := os.CopyFS(to, os.DirFS(c.Lab().HostPath(h, folder))); err != nil {
				t.Error(err)
			}
		}
	}
}

func runs(t *testing.T) int {
	t.Helper()
	s := os.Getenv(runsVar)
	if s == "" {
		return 5
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number above 0", runsVar, s)
	}
	return n
}

// TestOutages measures every fault with both profiles, for the guest.
func TestOutages(t *testing.T) { outages(t, Guest) }

// TestAddressOutages does the same for an address with a web server.
func TestAddressOutages(t *testing.T) { outages(t, VIP) }

func outages(t *testing.T, w Work) {
	for _, p := range []Profile{Tuned(), Default()} {
		t.Run(p.Name, func(t *testing.T) {
			c := up(t, p, w)
			for _, f := range Faults() {
				t.Run(strings.ReplaceAll(string(f), " ", "-"), func(t *testing.T) {
					var got []Run
					for range runs(t) {
						got = append(got, once(t, c, f, w))
					}
					result(t, line(p, f, w, got))
				})
			}
		})
	}
}

// once does one fault and checks what must hold, whatever the figures are.
func once(t *testing.T, c *Cluster, f Fault, w Work) Run {
	t.Helper()
	r, err := c.Fault(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	if w == Guest && r.Most != 1 {
		t.Errorf("%d processes held the guest at once", r.Most)
	}
	if f != Crash && r.Confirmed == 0 {
		t.Errorf("taken over from %s, which no device has confirmed to be off", r.Host)
	}
	return r
}

// TestFalseFencing watches the tuned cluster for as long as the variable says,
// under whatever load the caller has started.
func TestFalseFencing(t *testing.T) {
	s := os.Getenv(endureVar)
	if s == "" {
		t.Skip("watches for false alarms under load: " + endureVar + "=10m runs it for ten minutes")
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	c := up(t, Tuned(), Guest)
	e, err := c.Endure(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	result(t, fmt.Sprintf("pacemaker, guest, profile tuned, nothing done to it for %s: %d hosts fenced, longest "+
		"outage %.2f s, %d pings of 20 ms lost; load at the end %.2f",
		e.For.Round(time.Second), e.Fenced, e.Outage.Seconds(), e.Lost, e.Load))
}

// TestEndureSeesAFence makes a host look dead (its corosync stands still) and
// expects the watch to count the order, and the cluster to be whole afterwards.
func TestEndureSeesAFence(t *testing.T) {
	c := up(t, Tuned(), Guest)
	active, err := c.Active(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	victim := c.Lab().Hosts()[0]
	if victim == active {
		victim = c.Lab().Hosts()[1]
	}
	if err := c.Lab().Pause(t.Context(), victim, "corosync"); err != nil {
		t.Fatal(err)
	}
	e, err := c.Endure(t.Context(), 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if e.Fenced < 1 {
		t.Errorf("%d orders counted, want at least 1: %+v", e.Fenced, e)
	}
	if err := c.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	if now, err := c.Active(t.Context()); err != nil || now != active {
		t.Errorf("the guest is on %s, %v: want it untouched on %s", now, err, active)
	}
}

func result(t *testing.T, s string) {
	t.Helper()
	t.Log(s)
	path := os.Getenv(resultsVar)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, s)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// line sums up the runs of one fault. Unlike the phases of Holdfast's drills all
// times count from the fault; 0 is what did not happen.
func line(p Profile, f Fault, w Work, got []Run) string {
	of := func(get func(Run) float64) string {
		var all []float64
		for _, r := range got {
			all = append(all, get(r))
		}
		slices.SortFunc(all, cmp.Compare)
		n := len(all)
		return fmt.Sprintf("%.2f (%.2f-%.2f)", (all[(n-1)/2]+all[n/2])/2, all[0], all[n-1])
	}
	seconds := func(get func(Run) time.Duration) string {
		return of(func(r Run) float64 { return get(r).Seconds() })
	}
	return fmt.Sprintf("pacemaker, %s, profile %s, %q, %d runs, seconds, median (min-max): outage %s; from the "+
		"fault: fence request %s, fence confirmed %s, QEMU started %s, client answered %s; load %s",
		w, p.Name, string(f), len(got), seconds(func(r Run) time.Duration { return r.Outage }),
		seconds(func(r Run) time.Duration { return r.Requested }), seconds(func(r Run) time.Duration { return r.Confirmed }),
		seconds(func(r Run) time.Duration { return r.Started }), seconds(func(r Run) time.Duration { return r.Answered }),
		of(func(r Run) float64 { return r.Load }))
}
