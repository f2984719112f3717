package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// pairedPing is a laboratory of a pair without a third voter and without fence devices: the
// switch's address decides, as far as that goes.
const pairedPing kind = "pairedPing"

// TestPairByPings: of a pair whose arbiter are pings either node is lost, and then neither, which
// looks the same: both serve, and when they meet one of them gives up what it has written.
func TestPairByPings(t *testing.T) {
	p := newPair(t, pairedPing)
	if p.drills(t, twoDrills[:2]) {
		t.Run("split brain", p.split)
	}
}

// split: the nodes do not hear each other, and both hear the switch. Both serve. The one that had the
// group keeps its data; what the other one has written meanwhile is saved there.
func (p *pairRig) split(t *testing.T) {
	ctx := t.Context()
	st := p.healthy(t)
	if st.Guarantee != cluster.BestEffort {
		t.Errorf("the guarantee is %q", st.Guarantee)
	}
	keeps, loses := st.sides()
	p.clients.both.Store(true)
	defer p.clients.both.Store(false)
	stop := p.clients.write(t)
	p.clients.more(t, 20)
	stop()
	cut := pairDrillOf("cut between the nodes")
	must(t, cut.fault(p, ctx, keeps, loses))
	const first = int64(1) << 40
	for i, h := range []string{keeps, loses} {
		p.until(t, 90*time.Second, h+" to serve alone", func(ctx context.Context) (string, bool) {
			_, err := p.clients.node[h].ExecContext(ctx, "INSERT IGNORE INTO app.log VALUES (?)", first+int64(i))
			out, serr := p.lab.Exec(ctx, h, p.exe, "pair", "status")
			return fmt.Sprint(err, out, serr), err == nil && strings.Contains(out, "this node goes on alone")
		})
	}
	must(t, cut.repair(p, ctx, keeps, loses))
	after := p.healthy(t)
	if string(after.Owner.Host) != keeps {
		t.Errorf("%s serves, and %s had the group", after.Owner.Host, keeps)
	}
	p.clients.both.Store(false)
	stop = p.clients.write(t)
	p.clients.more(t, 20)
	stop()
	for _, h := range []string{keeps, loses} {
		p.clients.check(t, h)
		p.until(t, 20*time.Second, "what is kept on "+h, func(ctx context.Context) (string, bool) {
			var n, given int
			err := p.clients.node[h].QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(id = ?), 0) FROM app.log WHERE id >= ?", first+1, first).Scan(&n, &given)
			return fmt.Sprintf("%d rows, %d of them given up, %v", n, given, err), err == nil && n == 1 && given == 0
		})
	}
	p.wantSaved(t, loses, first+1)
}
