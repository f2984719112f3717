package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// pairedPing is a laboratory of a pair without a third voter and without fence devices: the
// switch's address decides, as far as that goes.
const pairedPing kind = "pairedPing"

// TestPairByPings: of a pair whose arbiter are pings either node is lost, and then neither, which
// looks the same: both serve, and when they meet one of them gives up what it has written, by the
// rule or by a person's word.
func TestPairByPings(t *testing.T) {
	need.Drill(t, "faults of a pair whose arbiter are pings: both serve when they are parted, and one gives up what "+
		"it wrote, by rule or by a person")
	p := newPair(t, pairedPing)
	if p.drills(t, twoDrills[:2]) && t.Run("split brain", p.split) {
		t.Run("split brain, by a person", p.splitByPerson)
	}
}

// split: the one that had the group keeps its data; what the other one has written meanwhile is saved
// there.
func (p *pairRig) split(t *testing.T) {
	const row = int64(1) << 40
	had, other := p.parted(t, row)
	p.oneKept(t, had, other, row, row+1)
}

// splitByPerson: where a person decides, nothing is given up before the word. The one that had the
// group goes on, and the other one stands still; the word may still be for the other one.
func (p *pairRig) splitByPerson(t *testing.T) {
	p.decides(t, config.SplitManual)
	const row = int64(1) << 41
	had, other := p.parted(t, row)
	p.until(t, other+" to stand still", func(ctx context.Context) (string, bool) {
		err := insert(ctx, p.clients.node[other], row+1) // it has it
		out, serr := p.lab.Exec(ctx, other, p.exe, "pair", "status")
		return fmt.Sprint(err, out, serr), err != nil &&
			strings.Contains(fmt.Sprint(out, serr), "on the node whose data are kept, by: holdfast pair resolve")
	})
	must(t, insert(t.Context(), p.clients.node[had], row+2))
	// A node of a busy machine may not be heard for a moment.
	p.until(t, "the word to be taken", func(context.Context) (string, bool) {
		ctx, cancel := waiting(t)
		defer cancel()
		out, err := p.lab.Exec(ctx, other, p.exe, "pair", "resolve", "--keep", other, "--yes", "--timeout", "5m")
		return fmt.Sprint(out, err), err == nil
	})
	p.oneKept(t, other, had, row+1, row, row+2)
}

// decides sets whose word ends a split brain. Agents read it when they start.
func (p *pairRig) decides(t *testing.T, policy string) {
	t.Helper()
	_, changed := p.configuration(t, func(cl *config.Cluster) { cl.Pair.SplitBrain = policy })
	for _, h := range p.lab.Hosts() {
		must(t, os.WriteFile(p.disk(h, "cluster.json"), changed, 0o600))
		must(t, p.lab.Kill(t.Context(), h, lab.AgentDaemon))
	}
}

func insert(ctx context.Context, db *sql.DB, row int64) error {
	_, err := db.ExecContext(ctx, "INSERT IGNORE INTO app.log VALUES (?)", row)
	return err
}

// parted keeps the nodes from hearing each other, while both hear the switch, until both serve and
// each has a row of its own: the one that had the group has row, the other one the next.
func (p *pairRig) parted(t *testing.T, row int64) (had, other string) {
	t.Helper()
	st := p.healthy(t)
	if st.Guarantee != cluster.BestEffort {
		t.Errorf("the guarantee is %q", st.Guarantee)
	}
	had, other = st.sides()
	p.clients.both.Store(true)
	t.Cleanup(func() { p.clients.both.Store(false) })
	p.writes(t)
	cut := pairDrillOf("cut between the nodes")
	must(t, cut.fault(p, t.Context(), had, other))
	if p.kind == pairedSecond {
		must(t, p.lab.SecondCable(t.Context(), other, false))
	}
	for i, h := range []string{had, other} {
		p.until(t, h+" to serve alone", func(ctx context.Context) (string, bool) {
			err := insert(ctx, p.clients.node[h], row+int64(i))
			out, serr := p.lab.Exec(ctx, h, p.exe, "pair", "status")
			return fmt.Sprint(err, out, serr), err == nil && strings.Contains(out, "this node goes on alone")
		})
	}
	must(t, cut.repair(p, t.Context(), had, other))
	if p.kind == pairedSecond {
		must(t, p.lab.SecondCable(t.Context(), other, true))
	}
	return had, other
}

// writes lets the clients write some rows.
func (p *pairRig) writes(t *testing.T) {
	t.Helper()
	stop := p.clients.write(t)
	defer stop()
	p.clients.more(t, 20)
}

// oneKept wants a pair that has the data of one node only, its row and none of those that the other
// one alone had: they are saved there.
func (p *pairRig) oneKept(t *testing.T, kept, gave string, row int64, given ...int64) {
	t.Helper()
	after := p.healthy(t)
	if string(after.Owner.Host) != kept {
		t.Errorf("%s serves, and the data of %s were to be kept", after.Owner.Host, kept)
	}
	p.clients.both.Store(false)
	p.writes(t)
	for _, h := range []string{kept, gave} {
		p.clients.check(t, h)
		p.until(t, "what is kept on "+h, func(ctx context.Context) (string, bool) {
			all, _, err := p.clients.rows(ctx, h)
			i, _ := slices.BinarySearch(all, min(row, slices.Min(given)))
			return fmt.Sprint(all[i:], err), err == nil && slices.Equal(all[i:], []int64{row})
		})
	}
	p.wantSaved(t, gave, given...)
}
