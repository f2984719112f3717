package notify

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/web/notify/plan"
)

// term is one in which this host coordinates. One goroutine has it.
type term struct {
	s     *Service
	cond  store.Cmp // that the term goes on
	rev   int64     // of the store, up to which all is known
	log   []plan.Entry
	lanes map[string]*lane
	ended chan outcome // of attempts
}

// lane is what is known of a receiver.
type lane struct {
	state   plan.State
	mod     int64     // of its record; 0: there is none
	busy    bool      // an attempt is under way
	missing bool      // events may have been cut from the log before this term
	found   time.Time // when the claim of another process was found
}

// outcome is what became of an attempt.
type outcome struct {
	name  string
	state plan.State // as the store has it
	mod   int64      // 0: it is not known, and to be read
	stale bool       // it was not claimed: the term is over, or the record is not as it is known
}

// mostLog is how many entries are kept in memory, of which old ones are dropped.
const mostLog = 8000

// lead tells receivers of events until the term ends or the store is lost.
func (s *Service) lead(ctx context.Context, cond store.Cmp) error {
	ctx, cancel := context.WithCancel(ctx)
	t := &term{s: s, cond: cond, ended: make(chan outcome)}
	defer t.settle()
	defer cancel()
	if err := t.load(ctx); err != nil {
		return err
	}
	log := s.Store.Watch(ctx, records.KeyLog, t.rev+1)
	states := s.Store.Watch(ctx, records.KeyNotify, t.rev+1)
	ticker := time.NewTicker(s.tick)
	defer ticker.Stop()
	for {
		select {
		case b, open := <-log.C():
			if !open {
				return log.Err()
			}
			t.happened(b)
			continue
		case b, open := <-states.C():
			if !open {
				return states.Err()
			}
			t.changed(b)
		case o := <-t.ended:
			if err := t.took(ctx, o); err != nil || o.stale {
				return err
			}
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if now, _, ok := s.Agent.Coordinator(); !ok || now != cond.Rev {
			return nil
		}
		if err := t.decide(ctx); err != nil {
			return err
		}
	}
}

// settle waits for the attempts that are under way: they end, and are recorded, also after the term. They do not hold up
// what comes next.
func (t *term) settle() {
	n := 0
	for _, l := range t.lanes {
		if l.busy {
			n++
		}
	}
	go func() {
		for range n {
			<-t.ended
		}
	}()
}

// load reads what the store has.
func (t *term) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	states, rev, err := t.s.Store.List(ctx, records.KeyNotify)
	if err != nil {
		return fmt.Errorf("list how far receivers were told: %w", err)
	}
	kvs, later, err := t.s.Store.List(ctx, records.KeyLog)
	if err != nil {
		return fmt.Errorf("list the events: %w", err)
	}
	now := t.s.now()
	t.rev, t.log, t.lanes = rev, entries(kvs, now), map[string]*lane{}
	for _, kv := range states {
		l := t.lane(kv.Key)
		l.take(kv, now, t.s)
		// After a restore of the store its revisions may be smaller.
		l.state.Critical, l.state.Rest = min(l.state.Critical, later), min(l.state.Rest, later)
		l.missing = l.state.Missing(t.log)
	}
	return nil
}

func (t *term) lane(key string) *lane {
	name := strings.TrimPrefix(key, records.KeyNotify)
	l := t.lanes[name]
	if l == nil {
		l = &lane{}
		t.lanes[name] = l
	}
	return l
}

// take takes a record in. One that can not be read is begun anew, from now on: that is an error of the disk, and told.
func (l *lane) take(kv store.KV, now time.Time, s *Service) {
	st, err := records.Decode[plan.State](kv, false)
	if err != nil {
		s.Log.Warn("how far a receiver was told can not be read, and is begun anew", "key", kv.Key, "err", err)
		st = plan.New(kv.ModRev)
	}
	l.state, l.mod, l.found = st, kv.ModRev, now
}

// happened takes new events in.
func (t *term) happened(b store.Batch) {
	now := t.s.now()
	known := int64(0)
	if n := len(t.log); n > 0 {
		known = t.log[n-1].Rev
	}
	for _, c := range b.Changes {
		if !c.Deleted && c.KV.ModRev > known {
			e := entry(c.KV, now)
			e.Seen = now
			t.log = append(t.log, e)
		}
	}
	t.rev = max(t.rev, b.Rev)
	if len(t.log) > mostLog {
		t.log = append([]plan.Entry(nil), t.log[mostLog/2:]...)
	}
}

// changed takes in what others have written.
func (t *term) changed(b store.Batch) {
	for _, c := range b.Changes {
		l := t.lane(c.KV.Key)
		switch {
		case l.busy || c.KV.ModRev <= l.mod:
		case c.Deleted:
			delete(t.lanes, strings.TrimPrefix(c.KV.Key, records.KeyNotify))
		default:
			l.take(c.KV, t.s.now(), t.s)
		}
	}
	t.rev = max(t.rev, b.Rev)
}

// took takes in what became of an attempt.
func (t *term) took(ctx context.Context, o outcome) error {
	l := t.lanes[o.name]
	l.busy = false
	if o.stale {
		return nil
	}
	if o.mod != 0 {
		if l.state, l.mod = o.state, o.mod; o.state.Message == nil {
			l.missing = false
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	kv, found, err := t.s.Store.Get(ctx, records.KeyNotify+o.name)
	switch {
	case err != nil:
		return fmt.Errorf("read how far a receiver was told: %w", err)
	case !found:
		delete(t.lanes, o.name)
	default:
		l.take(kv, t.s.now(), t.s)
	}
	return nil
}

// decide does what is due for each receiver.
func (t *term) decide(ctx context.Context) error {
	cfg, ok := t.s.Agent.InForce(ctx)
	if !ok {
		return nil
	}
	n := cfg.Notifications
	if n == nil {
		n = &config.Notifications{}
	}
	here := map[string]bool{}
	for _, r := range n.Receivers {
		here[r.Name] = true
		if err := t.receiver(ctx, n, r); err != nil {
			return err
		}
	}
	for name, l := range t.lanes {
		if here[name] || l.busy || l.mod == 0 {
			continue
		}
		if _, err := t.write(ctx, name, l.mod, nil); err != nil {
			return err
		}
		delete(t.lanes, name)
	}
	return nil
}

// receiver does what is due for one.
func (t *term) receiver(ctx context.Context, n *config.Notifications, r config.Receiver) error {
	l := t.lane(r.Name)
	if l.busy || t.s.underWay(r.Name) {
		return nil
	}
	now := t.s.now()
	if l.mod == 0 {
		l.state = plan.New(t.rev)
		return t.put(ctx, r.Name, l)
	}
	st := l.state
	if m := st.Message; m != nil && m.Claim != "" {
		if own := m.Claim == t.s.process; !own && now.Sub(l.found) < t.s.grace {
			return nil // it may tell yet
		}
		st = st.Left(now)
	}
	step := rule(r).Decide(st, t.log, now)
	switch step.Do {
	case plan.Skip:
		l.state = step.State
		return t.put(ctx, r.Name, l)
	case plan.Send:
		select {
		case t.s.slots <- struct{}{}:
		default:
			return nil // in its turn
		}
		if !t.s.begins(r.Name) {
			<-t.s.slots
			return nil
		}
		l.busy = true
		a := attempt{s: t.s, n: n, r: r, cond: t.cond, state: st, mod: l.mod, message: step.Message, entries: step.Entries, missing: l.missing}
		go func() {
			o := a.run(context.WithoutCancel(ctx))
			<-t.s.slots
			t.s.ends(r.Name)
			t.ended <- o
		}()
	}
	return nil
}

// put writes what is known of a receiver. Where somebody else has written, the watch tells it.
func (t *term) put(ctx context.Context, name string, l *lane) error {
	rev, err := t.write(ctx, name, l.mod, records.Encode(l.state))
	if rev != 0 {
		l.mod = rev
	}
	return err
}

// write writes a record, if the term goes on and the record is as it is known; 0: not so.
func (t *term) write(ctx context.Context, name string, mod int64, value []byte) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	key := records.KeyNotify + name
	rev, ok, err := t.s.Store.Txn(ctx, []store.Cmp{t.cond, {Key: key, Rev: mod}}, []store.Op{{Key: key, Value: value}})
	if err != nil {
		return 0, fmt.Errorf("write how far a receiver was told: %w", err)
	}
	if !ok {
		return 0, nil
	}
	return rev, nil
}

// attempt is one to hand a message to a service.
type attempt struct {
	s       *Service
	n       *config.Notifications
	r       config.Receiver
	cond    store.Cmp
	state   plan.State
	mod     int64
	message plan.Message
	entries []plan.Entry
	missing bool
}

// run claims the message, sends it, and records what became of it.
func (a attempt) run(ctx context.Context) outcome {
	s, key := a.s, records.KeyNotify+a.r.Name
	if a.message.ID == "" {
		a.message.ID = newID()
	}
	begun := s.now()
	claimed := a.state.Claimed(a.message, s.process, begun)
	cctx, cancel := context.WithTimeout(ctx, within)
	rev, ok, err := s.Store.Txn(cctx, []store.Cmp{a.cond, {Key: key, Rev: a.mod}}, []store.Op{{Key: key, Value: records.Encode(claimed)}})
	cancel()
	if err != nil || !ok {
		return outcome{name: a.r.Name, stale: true}
	}
	after := claimed
	if s.now().Sub(begun) > within { // this host has stood still: another one may send it by now
		after = claimed.Left(s.now())
		return a.record(ctx, after, rev, nil)
	}
	head := plan.Head{Cluster: s.Cluster, Console: a.n.Console, ID: a.message.ID, Again: a.message.Unsure, Missing: a.missing,
		T: translator(a.n)}
	said := ""
	x, err := s.request(a.r, plan.Write(head, a.entries, most(a.r.Service)), a.message.ID)
	if err == nil {
		x.Until = begun.Add(within)
		said, err = s.Send(ctx, x)
	}
	if err == nil {
		s.Log.Info("a message was sent", "receiver", a.r.Name, "id", a.message.ID, "events", len(a.entries), "said", said)
		return a.record(ctx, claimed.Took(s.now()), rev, nil)
	}
	s.Log.Warn("a message was not sent", "receiver", a.r.Name, "id", a.message.ID, "attempt", claimed.Message.Attempts, "err", err)
	after, lost := claimed.Refused(err.Error(), s.now())
	if !lost || plan.TellsOnlyOfLosses(a.entries) {
		return a.record(ctx, after, rev, nil)
	}
	return a.record(ctx, after, rev, &cluster.Event{Time: s.now().UTC(), Kind: cluster.EvNotify, By: s.Host,
		Detail: cluster.ReceiverFailed(a.r.Name, fmt.Sprintf("a message with %d events was given up after %d attempts: %v", len(a.entries),
			plan.Attempts, err))})
}

// record writes what became of an attempt, again and again while the store does not answer, if the claim is still there.
func (a attempt) record(ctx context.Context, st plan.State, claim int64, ev *cluster.Event) outcome {
	key := records.KeyNotify + a.r.Name
	ops := []store.Op{{Key: key, Value: records.Encode(st)}}
	if ev != nil {
		ops = append(ops, store.Op{Key: records.LogKey(*ev, mathrand.Uint64()), Value: records.Encode(ev)})
	}
	ctx, cancel := context.WithTimeout(ctx, recordFor)
	defer cancel()
	for {
		tctx, end := context.WithTimeout(ctx, within)
		rev, ok, err := a.s.Store.Txn(tctx, []store.Cmp{{Key: key, Rev: claim}}, ops)
		end()
		switch {
		case err == nil && ok:
			return outcome{name: a.r.Name, state: st, mod: rev}
		case err == nil:
			return outcome{name: a.r.Name} // an attempt to write it that was not acknowledged, or somebody else
		case ctx.Err() != nil || errors.Is(err, store.ErrDefinite):
			a.s.Log.Warn("what became of a message could not be written: it is sent again", "receiver", a.r.Name, "id", a.message.ID, "err", err)
			return outcome{name: a.r.Name}
		}
		clock.Sleep(ctx, a.s.tick)
	}
}
