package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// pairedAlone is a laboratory of a pair without a third voter: fence devices decide.
const pairedAlone kind = "pairedAlone"

// twoDrills are the faults of a pair without a third voter. Its group begins anew where that of a pair with
// one stays, unless the other node is off.
var twoDrills = []pairDrill{
	pairDrillOf("power loss of the active"),
	{name: "power loss of the standby", off: true, goesOn: true,
		fault:  func(p *pairRig, ctx context.Context, _, standby string) error { return p.lab.Crash(ctx, standby) },
		repair: func(p *pairRig, ctx context.Context, _, standby string) error { return p.on(ctx, standby) }},
	pairDrillOf("cut between the nodes"),
	pairDrillOf("agent of the active killed"),
	{name: "power loss of the active and its fence device", down: 40 * time.Second,
		fault: func(p *pairRig, ctx context.Context, active, _ string) error { return p.lab.CrashWithBMC(ctx, active) },
		// The device answers again, so the standby goes on alone. Who switches the other one on
		// before has it switched off once more.
		repair: func(p *pairRig, ctx context.Context, active, _ string) error {
			n, began := p.clients.acknowledged(), time.Now()
			err := p.lab.BMCMode(ctx, active, lab.BMCOk)
			for ; err == nil && p.clients.acknowledged() == n; time.Sleep(100 * time.Millisecond) {
				if time.Since(began) > patience {
					err = errors.New("the device answers, and the standby does not go on alone")
				}
			}
			return errors.Join(err, p.on(ctx, active))
		}},
	pairDrillOf("power loss of both nodes"),
}

// TestPairOfTwo: faults of a pair without a third voter. Each time one node goes on alone with
// every acknowledged row, and the other one comes back without a person.
func TestPairOfTwo(t *testing.T) {
	need.Drill(t, "P1: faults of a pair without a third voter: fence devices decide, no acknowledged row is lost")
	p := newPair(t, pairedAlone)
	p.drills(t, twoDrills)
	t.Run("a person's word", p.confirmed)
}

// confirmed: both nodes lose their power, and the active one alone comes back. It waits, until a
// person says that the other one is off; then it has every acknowledged row. The other one follows.
func (p *pairRig) confirmed(t *testing.T) {
	ctx := t.Context()
	st := p.healthy(t)
	active, standby := st.sides()
	stop := p.clients.write(t)
	defer func() { stop() }()
	p.clients.more(t, 20)
	if out, err := p.lab.Exec(ctx, active, p.exe, "pair", "resolve", "--keep", active, "--yes"); err == nil ||
		!strings.Contains(fmt.Sprint(out, err), "which is there") {
		t.Errorf("a choice that nothing needs: %v: %s", err, out)
	}
	must(t, errors.Join(p.lab.Crash(ctx, active), p.lab.Crash(ctx, standby), p.on(ctx, active)))
	p.until(t, active+" to say that it waits", func(ctx context.Context) (string, bool) {
		out, err := p.lab.Exec(ctx, active, p.exe, "pair", "status")
		return fmt.Sprint(out, err), strings.Contains(fmt.Sprint(out, err), "waits for the other one, or for: holdfast pair resolve")
	})
	if out, err := p.lab.Exec(ctx, active, p.exe, "pair", "resolve", "--keep", active, "--yes", "--timeout", "5m"); err != nil {
		t.Fatalf("pair resolve: %v: %s", err, out)
	}
	p.until(t, "the event of the choice", func(ctx context.Context) (string, bool) {
		out, err := p.lab.Exec(ctx, active, p.exe, "events")
		return fmt.Sprint(out, err), strings.Contains(out, string(cluster.EvChosen))
	})
	p.clients.more(t, 20)
	must(t, p.on(ctx, standby))
	p.healthy(t)
	p.clients.more(t, 20)
	stop()
	stop = func() {}
	for _, h := range []string{active, standby} {
		p.clients.check(t, h)
	}
}
