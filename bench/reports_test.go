//go:build bench

package bench

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

const (
	reportHosts  = 3000
	reportGuests = 20                     // of each host
	reportPoll   = 5 * time.Second        // a host of guests reads the core's records, as internal/ha/loop does
	reportRun    = 30 * time.Second       // measured
	reportAsk    = 100 * time.Millisecond // between two transactions of the core
)

// TestReports measures what 3,000 hosts that run guests only cost the store, and
// the transactions of the core beside them: each host reports 20 guests every 10 s
// and reads the core's records every 5 s; three members follow all reports. The
// hosts share 50 connections, all on this machine, with mutual TLS.
func TestReports(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	r := newRig(t)
	clock.Sleep(t.Context(), renewWarm)
	rest := r.txns(t, reportRun/3)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var views []*report.View
	for i := range 3 {
		c := r.open(t, i)
		v := &report.View{Store: c, Log: slog.New(slog.DiscardHandler)}
		views = append(views, v)
		all.Go(func() { v.Run(ctx) })
	}
	var wrong atomic.Int64
	for i := range reportHosts {
		all.Go(func() {
			if !clock.Sleep(ctx, rand.N(10*time.Second)) { // not all at once
				return
			}
			r.host(ctx, i, &wrong)
		})
	}
	for end := time.Now().Add(time.Minute); ; clock.Sleep(t.Context(), time.Second) {
		if seen, _ := views[0].Seen(); len(seen) == reportHosts {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not all hosts have reported within a minute")
		}
	}
	began, members, self := time.Now(), r.usage(t), cpuSeconds(t)
	busy := r.txns(t, reportRun)
	took, used := time.Since(began).Seconds(), r.usage(t)
	used.cpu, used.disk = used.cpu-members.cpu, used.disk-members.disk
	result(t, "%d hosts that run guests only, %d guests each: three members of the store took %.2f cores and wrote "+
		"%.1f MB/s, %d hosts and three followers %.2f; a transaction of the core took p50 %.1f ms, p99 %.1f ms, at "+
		"rest %.1f and %.1f; %d calls failed",
		reportHosts, reportGuests, used.cpu/took, used.disk/took/1e6, reportHosts, (cpuSeconds(t)-self)/took,
		busy.median(), busy.sorted()[len(busy)*99/100], rest.median(), rest.sorted()[len(rest)*99/100], wrong.Load())
	now := time.Now()
	silent := 0
	seen, ok := views[1].Seen()
	for _, s := range report.Hosts(seen, now) {
		if !s.Up {
			silent++
		}
	}
	if !ok || silent > 0 || wrong.Load() > 0 {
		t.Errorf("%d of %d hosts count as silent, %d calls failed", silent, reportHosts, wrong.Load())
	}
}

// host is one host's reports and looks, until ctx ends.
func (r *rig) host(ctx context.Context, n int, wrong *atomic.Int64) {
	c := r.conns[n%len(r.conns)].store
	rec := report.Record{Host: inventory.Host{Name: cluster.HostID(fmt.Sprintf("c%d", n)), MemoryMiB: 1 << 18,
		Boot: "b", Install: "i", CPUModel: "Skylake-Server", Kernel: "6.1.0"}, Addr: "192.0.2.1", Agent: "1"}
	for g := range reportGuests {
		rec.VMs = append(rec.VMs, inventory.VM{Name: fmt.Sprintf("vm-%d-%d", n, g),
			UUID: fmt.Sprintf("00000000-0000-4000-8000-%06d%06d", n, g), Host: rec.Host.Name, MemoryMiB: 8192, CPUs: 4, Running: true})
	}
	rep := &report.Reporter{Store: c, Log: slog.New(slog.DiscardHandler),
		Look:   func(context.Context) (report.Record, error) { return rec, nil },
		Claims: &report.Claim{Host: rec.Host.Name, Install: "i", Boot: "b"}}
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		if err := rep.Run(ctx); err != nil {
			wrong.Add(1)
		}
	})
	for {
		lctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, _, err := c.List(lctx, "state/")
		cancel()
		if err != nil && ctx.Err() == nil {
			wrong.Add(1)
		}
		if !clock.Sleep(ctx, reportPoll) {
			return
		}
	}
}

// open connects to one member.
func (r *rig) open(t *testing.T, i int) store.Store {
	t.Helper()
	c, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{r.urls[i%len(r.urls)]}, TLS: r.tls,
		Prefix: "/holdfast/bench/", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// txns makes single transactions for a time, on a connection of its own, and
// returns how long each took, ms.
func (r *rig) txns(t *testing.T, within time.Duration) series {
	t.Helper()
	c := r.open(t, 0)
	var out series
	for end := time.Now().Add(within); time.Now().Before(end); clock.Sleep(t.Context(), reportAsk) {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, _, err := c.Txn(ctx, nil, []store.Op{{Key: "state/hosts/h1", Value: make([]byte, 600)}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, float64(time.Since(asked).Microseconds())/1000)
	}
	return out
}
