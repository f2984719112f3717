package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// paired is a laboratory whose first two hosts are a pair with a real database, and whose third
// one votes only; watchdogs, management controllers, profile fast.
const paired kind = "paired"

// pairRig is a laboratory with a pair, and clients that write through its virtual address.
type pairRig struct {
	*rig
	clients *pairClients
}

// newPair makes a pair that serves, with the application's table.
func newPair(t *testing.T, k kind) *pairRig {
	t.Helper()
	needLab(t)
	if err := takeDown(); err != nil { // there is room for one laboratory
		t.Fatal(err)
	}
	r, err := newRig(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.failed = t.Failed()
		if err := r.down(); err != nil {
			t.Error(err)
		}
	})
	p := &pairRig{rig: r}
	// The agents find one another first.
	r.until(t, "the pair to begin", func(ctx context.Context) (string, bool) {
		out, err := r.lab.Exec(ctx, "h1", r.exe, "pair", "begin")
		return fmt.Sprint(out, err), err == nil
	})
	p.healthy(t)
	for _, s := range []string{
		"CREATE DATABASE app", "CREATE TABLE app.log (id BIGINT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE USER app@'%' IDENTIFIED BY 'app'", "GRANT SELECT, INSERT ON *.* TO app@'%'",
	} {
		if out, err := r.lab.Exec(t.Context(), "h1", "mariadb", "--socket="+lab.PairSocket, "-e", s); err != nil {
			t.Fatalf("%s: %v: %s", s, err, out)
		}
	}
	vips := []netip.Addr{r.lab.FloatingAddr()}
	if k == paired {
		vips = append(vips, r.lab.FloatingAddr6())
	}
	p.clients = newPairClients(t, r.lab, vips...)
	return p
}

// pairState is what `pair status -o json` tells.
type pairState struct {
	Health cluster.Health `json:"health"`
	Why    []string       `json:"why"`
	cluster.PairStatus
}

// sides are the node that serves and the other one.
func (st pairState) sides() (active, standby string) {
	if st.Owner.Host == "h1" {
		return "h1", "h2"
	}
	return string(st.Owner.Host), "h1"
}

// pairStatus asks any host that answers.
func (p *pairRig) pairStatus(ctx context.Context) (st pairState, err error) {
	err = errors.New("no host is on")
	for _, h := range p.lab.Hosts() {
		actx, cancel := context.WithTimeout(ctx, 2*time.Second)
		st = pairState{}
		st.PairStatus, err = ask(p.rig, h, func(c *api.Client) (cluster.PairStatus, error) { return c.Pair(actx) })
		cancel()
		if err == nil && len(st.Nodes) == 2 {
			st.Health, st.Why = st.PairStatus.Health()
			return st, nil
		}
	}
	return st, fmt.Errorf("no host tells of the pair: %w", err)
}

// healthy waits until the group serves and the other node could take it over.
func (p *pairRig) healthy(t testing.TB) pairState {
	t.Helper()
	var st pairState
	p.until(t, "a healthy pair", func(ctx context.Context) (string, bool) {
		var err error
		st, err = p.pairStatus(ctx)
		return fmt.Sprintf("%s, %v, %v", st.Health, st.Why, err), err == nil && st.Health == cluster.Healthy
	})
	return st
}

// pairDrill is a fault of a pair.
type pairDrill struct {
	name   string
	fault  func(p *pairRig, ctx context.Context, active, standby string) error
	repair func(p *pairRig, ctx context.Context, active, standby string) error // nil: it mends itself
	moves  bool                                                                // the standby must serve afterwards
	stays  bool                                                                // the active one must go on
	// the group is not started again, though the store is another one then
	goesOn bool
	off    bool          // where a fence device decides, the status says that the standby is off
	down   time.Duration // for which nobody serves, though it is not repaired; several times what a takeover takes there
}

// killed ends processes of a host by a part of their command line.
func killed(what string) func(*pairRig, context.Context, string, string) error {
	return func(p *pairRig, ctx context.Context, active, _ string) error { return p.lab.Kill(ctx, active, what) }
}

// killAgent kills the agent of a host, and waits until the next one answers: until then the status may be of the one that was killed.
func (p *pairRig) killAgent(ctx context.Context, host string) error {
	if err := p.lab.Kill(ctx, host, lab.AgentDaemon); err != nil {
		return err
	}
	return again(ctx, "an agent on "+host, func(ctx context.Context) error {
		_, err := ask(p.rig, host, func(c *api.Client) (cluster.PairStatus, error) { return c.Pair(ctx) })
		return err
	})
}

// again waits until something that was killed is there again.
func again(ctx context.Context, what string, there func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := there(ctx)
		if err == nil {
			return nil
		}
		if !clock.Sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("waited for %s: %w", what, err)
		}
	}
}

// switchAndKill kills the agent of a host at some moment of a planned switch.
func switchAndKill(of func(active, standby string) string) func(*pairRig, context.Context, string, string) error {
	return func(p *pairRig, ctx context.Context, active, standby string) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		over := make(chan struct{})
		go func() {
			defer close(over)
			// How it ends is no matter: its agent may be the one that is killed.
			_, _ = p.lab.Exec(ctx, active, p.exe, "pair", "switch", standby, "--timeout", "20s")
		}()
		time.Sleep(rand.N(500 * time.Millisecond))
		err := p.killAgent(ctx, of(active, standby))
		<-over
		return err
	}
}

func (p *pairRig) on(ctx context.Context, hosts ...string) (err error) {
	for _, h := range hosts {
		err = errors.Join(err, p.lab.On(ctx, h), p.lab.Heal(ctx, h))
	}
	return err
}

const database = "cmd:mariadbd"

// pairDrills are the faults of one pair.
var pairDrills = []pairDrill{
	{name: "planned switch", moves: true, fault: func(p *pairRig, ctx context.Context, active, standby string) (err error) {
		// A database that does not end its writes in time, on a busy machine, stays: it is tried again.
		for range 3 {
			if _, err = p.lab.Exec(ctx, active, p.exe, "pair", "switch", standby, "--timeout", "5m"); err == nil {
				return nil
			}
			time.Sleep(time.Second) // an agent that has just begun may have to read the records first
		}
		return err
	}},
	{name: "database killed", fault: killed(database)},
	// No write misses the service, so it is waited for: the next fault is to meet a pair that has noticed this one.
	{name: "service killed", stays: true, fault: func(p *pairRig, ctx context.Context, active, _ string) error {
		if err := p.lab.Kill(ctx, active, "cmd:sleep 1000000000"); err != nil {
			return err
		}
		return again(ctx, "the service on "+active, func(ctx context.Context) error {
			_, err := p.lab.Exec(ctx, active, "pgrep", "-f", "^sleep 1000000000")
			return err
		})
	}},
	{name: "address taken off", stays: true, fault: func(p *pairRig, ctx context.Context, active, _ string) error {
		_, err := p.lab.Exec(ctx, active, "ip", "addr", "del", p.lab.FloatingAddr().String()+"/32", "dev", "br0")
		return err
	}},
	{name: "agent of the active killed", stays: true, fault: func(p *pairRig, ctx context.Context, active, _ string) error {
		return p.killAgent(ctx, active)
	}},
	{name: "agent of the standby killed", stays: true, fault: func(p *pairRig, ctx context.Context, _, standby string) error {
		return p.killAgent(ctx, standby)
	}},
	// Whether it has moved is as may be: it serves again, and no row is lost.
	{name: "agent of the active killed in a switch", fault: switchAndKill(func(active, _ string) string { return active })},
	{name: "agent of the standby killed in a switch", fault: switchAndKill(func(_, standby string) string { return standby })},
	{name: "database hangs", moves: true, fault: func(p *pairRig, ctx context.Context, active, _ string) error {
		if err := p.lab.Pause(ctx, active, database); err != nil {
			return err
		}
		return again(ctx, "an event that names the hang", func(ctx context.Context) error {
			out, err := p.lab.Exec(ctx, "h3", p.exe, "events", "--limit", "5")
			if err == nil && !strings.Contains(out, "the database has not answered for") {
				err = errors.New(out)
			}
			return err
		})
	}},
	{name: "database of the standby killed", stays: true, fault: func(p *pairRig, ctx context.Context, _, standby string) error {
		return p.lab.Kill(ctx, standby, database)
	}},
	{name: "power loss of the active", moves: true,
		fault:  func(p *pairRig, ctx context.Context, active, _ string) error { return p.lab.Crash(ctx, active) },
		repair: func(p *pairRig, ctx context.Context, active, _ string) error { return p.on(ctx, active) }},
	{name: "power loss of the standby", stays: true,
		fault:  func(p *pairRig, ctx context.Context, _, standby string) error { return p.lab.Crash(ctx, standby) },
		repair: func(p *pairRig, ctx context.Context, _, standby string) error { return p.on(ctx, standby) }},
	{name: "isolation of the active", moves: true,
		fault:  func(p *pairRig, ctx context.Context, active, _ string) error { return p.lab.Isolate(ctx, active) },
		repair: func(p *pairRig, ctx context.Context, active, _ string) error { return p.on(ctx, active) }},
	// It stays unless the store's leader was on the standby: the arbiter leads after a while.
	{name: "cut between the nodes",
		fault: func(p *pairRig, ctx context.Context, active, standby string) error {
			return errors.Join(p.lab.Cut(ctx, active, standby), p.lab.Cut(ctx, standby, active))
		},
		repair: func(p *pairRig, ctx context.Context, active, standby string) error { return p.on(ctx, active, standby) }},
	{name: "active frozen", moves: true, fault: func(p *pairRig, ctx context.Context, active, _ string) error {
		return p.lab.Freeze(ctx, active)
	}, repair: func(p *pairRig, ctx context.Context, active, _ string) error { return p.on(ctx, active) }},
	{name: "standby stands still", stays: true,
		fault: func(p *pairRig, ctx context.Context, _, standby string) error {
			return p.lab.Pause(ctx, standby, database)
		},
		repair: func(p *pairRig, ctx context.Context, _, standby string) error {
			return p.lab.Resume(ctx, standby, database)
		}},
	{name: "standby is slow", stays: true, fault: slowStandby},
	{name: "standby without its data loses its power in the copy", stays: true, fault: interruptedCopy,
		repair: func(p *pairRig, ctx context.Context, _, standby string) error { return p.on(ctx, standby) }},
	{name: "arbiter lost", stays: true,
		fault:  func(p *pairRig, ctx context.Context, _, _ string) error { return p.lab.Crash(ctx, "h3") },
		repair: func(p *pairRig, ctx context.Context, _, _ string) error { return p.on(ctx, "h3") }},
	{name: "arbiter and then the active lost", down: 15 * time.Second,
		fault: func(p *pairRig, ctx context.Context, active, _ string) error {
			return errors.Join(p.lab.Crash(ctx, "h3"), p.lab.Crash(ctx, active))
		},
		repair: func(p *pairRig, ctx context.Context, active, _ string) error { return p.on(ctx, "h3", active) }},
	{name: "power loss of both nodes", down: 6 * time.Second,
		fault: func(p *pairRig, ctx context.Context, active, standby string) error {
			return errors.Join(p.lab.Crash(ctx, active), p.lab.Crash(ctx, standby))
		},
		repair: func(p *pairRig, ctx context.Context, active, standby string) error { return p.on(ctx, active, standby) }},
}

// pairDrillOf is the one with that name.
func pairDrillOf(name string) pairDrill {
	return pairDrills[slices.IndexFunc(pairDrills, func(d pairDrill) bool { return d.name == name })]
}

// TestPair: the group is switched over to the other node, and back by a loss of power, while clients write
// numbered rows through the virtual address: no row that was acknowledged is lost, no two databases take writes at
// once, and the pair is healthy again without a person.
func TestPair(t *testing.T) {
	p := newPair(t, paired)
	p.drills(t, []pairDrill{pairDrillOf("planned switch"), pairDrillOf("power loss of the active")})
	p.sum(t)
}

// TestPairFaults is TestPair with a fault of each kind.
func TestPairFaults(t *testing.T) {
	need.Drill(t, "P1: a fault of each kind of a pair with a real database: no acknowledged row is lost, no two databases take writes")
	p := newPair(t, paired)
	p.drills(t, pairDrills)
	p.sum(t)
}

// TestPairManyTimes has each fault ten times, each round in another order.
func TestPairManyTimes(t *testing.T) {
	need.Drill(t, "P1: 200 faults of a pair with a real database, each round in another order: no acknowledged row "+
		"is lost, no two databases take writes")
	p := newPair(t, paired)
	outages := map[string][]time.Duration{}
	for round := range uint64(10) {
		for _, i := range rand.New(rand.NewPCG(round, 16)).Perm(len(pairDrills)) {
			d := pairDrills[i]
			if !t.Run(d.name, func(t *testing.T) { outages[d.name] = append(outages[d.name], p.drill(t, d)) }) {
				t.FailNow() // what follows would fail for its reasons
			}
		}
	}
	for _, d := range pairDrills {
		t.Logf("pair drill %q, %d runs: no write was acknowledged for %s", d.name, len(outages[d.name]), span(outages[d.name]))
	}
	p.sum(t)
}

// TestPairByAPerson: a person's choice, and an upgrade of the pair's hosts and agents.
func TestPairByAPerson(t *testing.T) {
	need.Drill(t, "P2: a node that lacks acknowledged rows serves only by a person's word; and P4: both nodes of a "+
		"pair are upgraded and rebooted with one switch each")
	p := newPair(t, paired)
	t.Run("a person chooses", p.chosen)
	t.Run("an upgrade", p.upgraded)
	p.sum(t)
}

// sum tells what the clients have seen.
func (p *pairRig) sum(t *testing.T) {
	t.Logf("%d rows were acknowledged, none is lost; %d looks, never two databases that take writes",
		p.clients.acknowledged(), p.clients.looks.Load())
}

// drills runs faults, and tells whether all passed: what follows one that failed would fail for its reasons.
func (p *pairRig) drills(t *testing.T, all []pairDrill) bool {
	for _, d := range all {
		var outages []time.Duration
		for range runs(t, defaultRuns) {
			if !t.Run(d.name, func(t *testing.T) { outages = append(outages, p.drill(t, d)) }) {
				return false
			}
		}
		if len(outages) == 0 {
			continue // -run leaves it out
		}
		t.Logf("pair drill %q, %d runs: no write was acknowledged for %s", d.name, len(outages), span(outages))
	}
	return true
}

// must ends a test for an error of what it needs.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// drill runs one fault and returns for how long no write was acknowledged.
func (p *pairRig) drill(t *testing.T, d pairDrill) time.Duration {
	before := p.healthy(t)
	active, standby := before.sides()
	stop := p.clients.write(t)
	p.clients.more(t, 20)
	at := time.Now()
	if err := d.fault(p, t.Context(), active, standby); err != nil {
		t.Fatal(err)
	}
	switch {
	case d.down > 0:
		n := p.clients.begun() // answers to earlier writes may be read late
		time.Sleep(d.down)
		if more := p.clients.since(n); more > 0 {
			t.Errorf("%d writes were acknowledged: nothing could prove that %s does not serve", more, active)
		}
		if st, err := p.pairStatus(t.Context()); err == nil && st.Active() != nil && d.name != "power loss of both nodes" {
			t.Errorf("%s serves: nothing could prove that %s does not", st.Active().Host, active)
		}
	case d.moves:
		p.until(t, standby+" to serve", func(ctx context.Context) (string, bool) {
			st, err := p.pairStatus(ctx)
			a := st.Active()
			return fmt.Sprintf("%s: %v, %v", st.Health, st.Why, err), a != nil && string(a.Host) == standby
		})
		p.clients.more(t, 20)
	default:
		p.clients.more(t, 20)
	}
	if d.off && p.kind == pairedAlone {
		p.until(t, "the status to say that "+standby+" is off", func(ctx context.Context) (string, bool) {
			st, err := p.pairStatus(ctx)
			return fmt.Sprint(st.Why, err), slices.ContainsFunc(st.Nodes,
				func(n cluster.PairNode) bool { return string(n.Host) == standby && n.Off && !n.Alive })
		})
	}
	if d.repair != nil {
		if err := d.repair(p, t.Context(), active, standby); err != nil {
			t.Fatal(err)
		}
	}
	after := p.healthy(t)
	p.clients.more(t, 20)
	stop()
	outage := p.clients.gap(at)
	if d.stays && after.Owner.Epoch != before.Owner.Epoch {
		t.Errorf("the group has moved: epoch %s on %s, was %s on %s", after.Owner.Epoch, after.Owner.Host, before.Owner.Epoch, before.Owner.Host)
	}
	if goneOn := after.Owner.Host == before.Owner.Host && after.Owner.Epoch.Seq == before.Owner.Epoch.Seq; d.goesOn && !goneOn {
		t.Errorf("the group was started again: epoch %s on %s, was %s on %s", after.Owner.Epoch, after.Owner.Host,
			before.Owner.Epoch, before.Owner.Host)
	}
	p.clients.check(t, string(after.Owner.Host))
	p.until(t, "the same rows on both nodes", func(context.Context) (string, bool) {
		a, aerr := p.clients.count("h1")
		b, berr := p.clients.count("h2")
		return fmt.Sprintf("%d and %d, %v", a, b, errors.Join(aerr, berr)), aerr == nil && berr == nil && a == b
	})
	return outage
}
