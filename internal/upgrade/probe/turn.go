package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// Turn looks at what guests lose while this host is worked on: the Executor of
// upgrade.KindLosses. The step before the work notes what the guests that run here have
// lost so far, the one after it compares. What a guest loses is told by the host that pings
// it: only what that has written after the work counts, and a guest that nobody can tell about
// holds the run up as one that has lost.
type Turn struct{ *Service }

var _ engine.Executor = Turn{}

// spare is what the end of a step needs of its time.
const spare = 30 * time.Second

// base is what the guests of a host had lost when work on it began.
type base struct {
	Work   string    `json:"work"`             // upgrade.LossesArgs
	Failed int       `json:"failed,omitempty"` // attempt of the last step that found too much lost, and counted from then on; 0: none
	Guests []baseRow `json:"guests"`
}

type baseRow struct {
	UUID string         `json:"uuid"`
	Name string         `json:"name"`
	By   cluster.HostID `json:"by"` // who pings it
	Lost int64          `json:"lost"`
}

// Probe implements engine.Executor. Both steps may be done again, but not an attempt that has noted a failure
// before its agent ended: what it had found would pass unseen.
func (t Turn) Probe(ctx context.Context, task engine.Task) (engine.Probed, error) {
	args, err := engine.Args[upgrade.LossesArgs](task)
	if err != nil || args.Begin {
		return engine.NotDone, err
	}
	b, _, _, why, err := ask[base](ctx, t.Service, baseKey(task.Job, t.Host), t.Host)
	if err = errors.Join(err, why); err != nil {
		return engine.CanNotTell, fmt.Errorf("read what the guests had lost before: %w", err)
	}
	if b.Work == args.Work && b.Failed == task.Attempt {
		return engine.CanNotTell, nil
	}
	return engine.NotDone, nil
}

// Do implements engine.Executor. The run is the step's job.
func (t Turn) Do(ctx context.Context, task engine.Task) error {
	args, err := engine.Args[upgrade.LossesArgs](task)
	if err != nil {
		return err
	}
	if t.Host != task.Step.Host {
		return fmt.Errorf("lost packets of guests of %s: this is host %s", task.Step.Host, t.Host)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, task.Step.Timeout-spare, engine.ErrTimeout)
	defer cancel()
	if args.Begin {
		return t.begin(ctx, task, base{Work: args.Work})
	}
	return t.end(ctx, task, args)
}

// begin notes what the guests that run here have lost so far. A note that is there stays: the work
// may have begun.
func (t Turn) begin(ctx context.Context, task engine.Task, b base) error {
	noted, _, ok, _, err := ask[base](ctx, t.Service, baseKey(task.Job, t.Host), t.Host)
	if err != nil || ok && noted.Work == b.Work {
		return err
	}
	if b.Guests, err = t.here(ctx, task); err != nil {
		return err
	}
	told, err := t.told(ctx, task.Job, b.Guests)
	if err != nil {
		return err
	}
	for i, g := range b.Guests {
		b.Guests[i].Lost = told[g.By].rows[g.UUID].Lost
	}
	fmt.Fprintf(task.Log, "%d guests of this host are pinged\n", len(b.Guests))
	return t.note(ctx, task.Job, b)
}

// planned waits for the plan of who pings whom, and for what the hosts have told.
func (t Turn) planned(ctx context.Context, task engine.Task) (plan, Seen, error) {
	waits := engine.Waits{Task: task}
	for {
		seen, known := t.Seen()
		p, _, ok, err := get[plan](ctx, t.Store, planKey(task.Job))
		if err != nil {
			return p, seen, fmt.Errorf("read whom hosts ping: %w", err)
		}
		if known && ok {
			return p, seen, nil
		}
		waits.Say("the list of the guests that are pinged")
		if err := engine.Pause(ctx, step); err != nil {
			return p, seen, fmt.Errorf("whom hosts ping is not known: %w", err)
		}
	}
}

// here are the guests that run on this host and are pinged.
func (t Turn) here(ctx context.Context, task engine.Task) ([]baseRow, error) {
	p, seen, err := t.planned(ctx, task)
	if err != nil {
		return nil, err
	}
	mine := map[string]bool{}
	for _, v := range seen.VMs {
		if v.Running && v.Host == t.Host {
			mine[v.UUID] = true
		}
	}
	if len(mine) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	kvs, _, err := t.Store.List(ctx, partKeys(task.Job, p.ID))
	if err != nil {
		return nil, fmt.Errorf("read whom hosts ping: %w", err)
	}
	var out []baseRow
	for _, kv := range kvs {
		x, err := decode[part](kv)
		if err != nil {
			return nil, err
		}
		by := cluster.HostID(strings.TrimPrefix(kv.Key, partKeys(task.Job, p.ID)))
		for _, n := range x.Guests {
			if mine[n.UUID] {
				out = append(out, baseRow{UUID: n.UUID, Name: n.Name, By: by})
				delete(mine, n.UUID)
			}
		}
	}
	if len(mine) > 0 {
		fmt.Fprintf(task.Log, "%d guests of this host are pinged by nobody\n", len(mine))
	}
	slices.SortFunc(out, func(a, b baseRow) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID))
	})
	return out, nil
}

// message is what a host has written of the guests that it pings.
type message struct {
	rev     int64 // of the record; 0: there is none
	unread  bool  // it can not be read, by what problem says
	problem string
	rows    map[string]row // by UUID
}

// told reads the records of the hosts that ping some guests.
func (t Turn) told(ctx context.Context, run string, guests []baseRow) (map[cluster.HostID]message, error) {
	out := map[cluster.HostID]message{}
	for _, g := range guests {
		if _, ok := out[g.By]; ok {
			continue
		}
		r, kv, _, why, err := ask[record](ctx, t.Service, recordKey(run, g.By), g.By)
		if err != nil {
			return nil, fmt.Errorf("read what %s has counted: %w", g.By, err)
		}
		s := message{rev: kv.ModRev, problem: r.problem(), rows: map[string]row{}}
		if why != nil {
			s.unread, s.problem = true, text.Cut(why.Error(), maxProblem)
		}
		for _, x := range r.Guests {
			s.rows[x.UUID] = x
		}
		out[g.By] = s
	}
	return out, nil
}

// note writes what guests of this host have lost.
func (t Turn) note(ctx context.Context, run string, b base) error {
	op, err := encode(baseKey(run, t.Host), b)
	if err != nil {
		return err
	}
	if err := t.write(ctx, []store.Op{op}); err != nil {
		return fmt.Errorf("note what the guests have lost so far: %w", err)
	}
	return nil
}

// end fails when a guest that was noted has lost as many packets as the limit, or does not answer. What was
// told then counts as known: the step, repeated, looks at what is lost from then on.
func (t Turn) end(ctx context.Context, task engine.Task, args upgrade.LossesArgs) error {
	b, _, ok, _, err := ask[base](ctx, t.Service, baseKey(task.Job, t.Host), t.Host)
	if err != nil {
		return fmt.Errorf("read what the guests had lost before: %w", err)
	}
	if !ok || b.Work != args.Work {
		return errors.Join(errors.New("what the guests had lost before was not noted; it is now: repeat this step"),
			t.begin(ctx, task, base{Work: args.Work, Failed: task.Attempt}))
	}
	first, last, err := t.fresh(ctx, task, b.Guests)
	if err != nil {
		return err
	}
	var bad []string
	var most int64
	for i := range b.Guests {
		g := &b.Guests[i]
		before, after := first[g.By].rows[g.UUID], last[g.By].rows[g.UUID]
		lost := after.Lost - g.Lost
		g.Lost, most = after.Lost, max(most, lost)
		fmt.Fprintf(task.Log, "%s has lost %d packets\n", g.Name, lost)
		switch {
		case lost >= args.Limit:
			bad = append(bad, fmt.Sprintf("%s has lost %d packets", g.Name, lost))
		case after.Addr == "" && !last[g.By].unread:
			fmt.Fprintf(task.Log, "%s has never answered\n", g.Name)
		case after.Sent == before.Sent || last[g.By].unread:
			why := cmp.Or(last[g.By].problem, "nothing was sent")
			bad = append(bad, fmt.Sprintf("nobody can tell whether %s answers: %s, which pings it, says: %s", g.Name, g.By, why))
		case after.Sent-after.Lost == before.Sent-before.Lost:
			bad = append(bad, g.Name+" does not answer")
		}
	}
	task.Count(most)
	if len(bad) == 0 {
		return nil
	}
	b.Failed = task.Attempt
	return errors.Join(fmt.Errorf("the limit is %d lost packets: %s", args.Limit, check.Names(bad)), t.note(ctx, task.Job, b))
}

// fresh waits until each host that pings some of the guests has written twice: the first time may leave out
// packets that were under way, and between the two a guest answers or does not.
func (t Turn) fresh(ctx context.Context, task engine.Task, guests []baseRow) (first, last map[cluster.HostID]message, err error) {
	began, err := t.told(ctx, task.Job, guests)
	if err != nil {
		return nil, nil, err
	}
	first, last = map[cluster.HostID]message{}, map[cluster.HostID]message{}
	waits := engine.Waits{Task: task}
	for {
		silent := slices.DeleteFunc(slices.Sorted(maps.Keys(began)), func(h cluster.HostID) bool { _, ok := last[h]; return ok })
		if len(silent) == 0 {
			return first, last, nil
		}
		waits.Say("counts of lost packets from %s", check.Names(silent))
		if err := engine.Pause(ctx, step); err != nil {
			return nil, nil, fmt.Errorf("nobody can tell what the guests have lost: no new counts from %s: %w", check.Names(silent), err)
		}
		now, err := t.told(ctx, task.Job, guests)
		if err != nil && ctx.Err() == nil {
			return nil, nil, err
		}
		for h, s := range now {
			f, ok := first[h]
			switch {
			case !ok && s.rev != began[h].rev:
				first[h] = s
			case ok && s.rev != f.rev:
				last[h] = s
			}
		}
	}
}
