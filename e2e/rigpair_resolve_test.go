package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
)

// chosen: the active node goes on alone and is lost, so the other one may not serve, until a
// person chooses its copy. It then has all that was acknowledged while it was there; the lost node comes
// back, saves what it alone had, and follows.
func (p *pairRig) chosen(t *testing.T) {
	st := p.healthy(t)
	active, standby := st.sides()
	ctx := t.Context()
	refused := func(host, keep, why string) {
		t.Helper()
		if out, err := p.lab.Exec(ctx, host, p.exe, "pair", "resolve", "--keep", keep, "--yes"); err == nil ||
			!strings.Contains(fmt.Sprint(out, err), why) {
			t.Errorf("pair resolve --keep %s on %s: %v: %s, want %q", keep, host, err, out, why)
		}
	}
	refused(standby, standby, "the group is with "+active+", which is there")
	before := p.clients.acknowledged()
	must(t, p.lab.Crash(ctx, standby))
	stop := p.clients.write(t)
	p.clients.more(t, 20)
	stop()
	must(t, p.lab.Crash(ctx, active))
	must(t, p.on(ctx, standby))
	p.until(t, standby+" to say why it does not serve", func(ctx context.Context) (string, bool) {
		st, err := p.pairStatus(ctx)
		why := fmt.Sprint(st.Why)
		lacks := strings.Contains(why, standby+": its copy does not have every acknowledged write")
		return fmt.Sprintf("%s: %s, %v", st.Health, why, err), err == nil && st.Health == cluster.Broken && lacks
	})
	refused(standby, active, "run it on "+active)

	out, err := p.lab.Exec(ctx, standby, p.exe, "pair", "resolve", "--keep", standby, "--yes", "--timeout", "5m")
	if err != nil {
		t.Fatalf("pair resolve: %v: %s", err, out)
	}
	given := p.clients.forget(before)
	t.Logf("%d rows that %s alone had are given up", len(given), active)
	stop = p.clients.write(t)
	p.clients.more(t, 20)
	must(t, p.on(ctx, active))
	p.healthy(t)
	p.clients.more(t, 20)
	stop()
	for _, h := range []string{active, standby} {
		p.until(t, "all rows on "+h, func(ctx context.Context) (string, bool) {
			a, aerr := p.clients.count("h1")
			b, berr := p.clients.count("h2")
			return fmt.Sprintf("%d and %d rows, %v, %v", a, b, aerr, berr), aerr == nil && berr == nil && a == b
		})
		p.clients.check(t, h)
	}
	p.wantSaved(t, active, given...)
	if events := p.command(t, standby, "events"); !strings.Contains(events, string(cluster.EvChosen)) {
		t.Errorf("no event tells of the choice: %s", events)
	}
}

// wantSaved wants rows that a node alone had, and has given up, in what it has saved.
func (p *pairRig) wantSaved(t *testing.T, host string, rows ...int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.disk(host, filepath.Base(lab.PairData)+".saved"), "transactions-*.sql"))
	must(t, err)
	var saved strings.Builder // the last ones may have been cut off the binary log at the start, into a file of their own
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(t, err)
		saved.Write(text)
	}
	for _, id := range rows {
		if !strings.Contains(saved.String(), fmt.Sprintf("@1=%d\n", id)) {
			t.Errorf("row %d was given up by %s, and is not in %v", id, host, files)
		}
	}
}

// forget takes the rows that were acknowledged after the first n back, and returns them.
func (c *pairClients) forget(n int) []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	given := slices.Clone(c.acked[n:])
	c.acked, c.at = c.acked[:n], c.at[:n]
	return given
}
