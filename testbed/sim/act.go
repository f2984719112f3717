package sim

import (
	"errors"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// errNoAnswer is the outcome of a request that nobody answers in time.
var errNoAnswer = errors.New("no answer in time")

// do begins an action that the core has decided. end is called once, when it has
// ended, in the same life of the agent.
func (a *agent) do(act ha.Action) {
	w, h := a.host.world, a.host
	if w.tracing {
		w.trace(h, "%s", describe(act))
	}
	end := a.ending(act)
	switch act := act.(type) {
	case ha.Txn:
		a.txn(act, end)
	case ha.Arm:
		a.order(func() { h.dog.arm(act.Limit) }, end)
	case ha.Disarm:
		a.disarming = true
		a.order(func() { a.disarming = false; h.dog.disarm() }, end)
	case ha.Start:
		a.startGuest(act, end)
	case ha.Kill:
		a.kill(act.Why, end)
	case ha.Shutdown:
		h.hyper.shutdown()
		a.afterHere(killTakes, func() { end(ha.Outcome{OK: true}) })
	case ha.Migrate:
		h.hyper.migrate(w.host(act.To), func(err error) { end(outcome(err)) })
	case ha.Resume:
		h.hyper.resume(func(err error) { end(outcome(err)) })
	case ha.Abort:
		h.hyper.abort(func(bool) { end(ha.Outcome{OK: true}) })
	case ha.Fence:
		a.fence(act, end)
	case ha.Conflict:
		w.say(h, "agent ends: %s", act.Why)
		a.stop()
	case ha.Defect:
		w.violate("defect", "%s decides two actions of one kind at once: %s", h.name, act.What)
	}
}

// ending returns what tells the core how an action ended. The outcome is dropped
// when the agent that began it is no more.
func (a *agent) ending(act ha.Action) func(ha.Outcome) {
	life := a.life
	return func(o ha.Outcome) {
		a.inLife(life, func() {
			if d := ha.Backoff(act, o); d > 0 {
				a.afterHere(d, func() { a.ended(act, o) })
				return
			}
			a.ended(act, o)
		})
	}
}

func (a *agent) ended(act ha.Action, o ha.Outcome) {
	if ha.Touches(act) {
		a.touchedAt = a.host.clock()
	}
	a.core.Done(act, o, a.host.clock())
	if t, ok := act.(ha.Txn); ok && o.OK && t.For == ha.WorkWrite || ha.Touches(act) {
		a.observe()
	}
	a.decide()
}

func outcome(err error) ha.Outcome {
	if err != nil {
		return ha.Outcome{Why: err.Error()}
	}
	return ha.Outcome{OK: true}
}

// txn carries a transaction to the store. With Prove the guest is killed first,
// and seen to be gone; nothing is sent otherwise.
func (a *agent) txn(t ha.Txn, end func(ha.Outcome)) {
	if !t.Prove {
		a.send(t, end)
		return
	}
	life := a.life
	a.host.hyper.kill(func(proved bool) {
		a.inLife(life, func() {
			if !proved || a.host.hyper.observe().State != cluster.GuestAbsent {
				end(ha.Outcome{Why: "not proved to have ended"})
				return
			}
			a.send(t, func(o ha.Outcome) {
				o.Proved = true
				end(o)
			})
		})
	})
}

func (a *agent) send(t ha.Txn, end func(ha.Outcome)) {
	w, within := a.host.world, writeTimeout
	if t.For == ha.WorkRenew {
		within = renewTimeout
	}
	a.call(within, func() int64 {
		if w.refuse > 0 && w.rolls(w.refuse) {
			return tooLarge
		}
		return w.store.txn(t)
	}, func(rev int64, known bool) {
		switch {
		case !known || rev == tooLarge:
			end(outcome(errNoAnswer))
		default:
			end(ha.Outcome{OK: rev != 0, Mod: rev})
		}
	})
}

// order brings a word to the watchdog's holder.
func (a *agent) order(does func(), end func(ha.Outcome)) {
	h := a.host
	a.afterHere(h.world.delay(armTakes, 25*armTakes, h.net.dog), func() {
		does()
		end(ha.Outcome{OK: true, Watchdog: h.dog.status()})
	})
}

// startGuest calls the hypervisor, unless the lease has ended. One that is not
// answered in time counts as ended, and its outcome as unknown.
func (a *agent) startGuest(s ha.Start, end func(ha.Outcome)) {
	h := a.host
	if h.clock() >= s.Until {
		end(ha.Outcome{Why: "the lease ended before the hypervisor was called"})
		return
	}
	h.world.checkStart(a, s)
	over, life := false, a.life
	finish := func(err error) {
		a.inLife(life, func() {
			if !over {
				over = true
				h.hyper.givenUp = err == errTimeout
				end(outcome(err))
			}
		})
	}
	h.hyper.start(s.Epoch, finish)
	a.afterHere(startTimeout, func() { finish(errTimeout) })
}

func (a *agent) kill(why string, end func(ha.Outcome)) {
	h := a.host
	had := h.hyper.proc != nil
	if had {
		h.world.checkKill(a, why)
	}
	h.hyper.kill(func(proved bool) {
		if proved && had {
			h.world.say(h, "killed: %s", why)
		}
		end(ha.Outcome{OK: proved})
	})
}

// tooLarge is the revision of a transaction that the store refuses, for its size
// or because it is ill.
const tooLarge = -1

// maxTxn bounds a transaction's texts, in bytes, as etcd's limit of a request
// does.
const maxTxn = 3 << 19

// textOf is the size of a transaction's texts.
func textOf(t ha.Txn) int {
	n := len(t.Event.Detail)
	for _, p := range t.Put {
		if h := p.Host; h != nil {
			n += len(h.Why) + len(h.Unhealthy)
		}
		if o := p.Owner; o != nil {
			n += len(o.Reason) + len(o.ReasonCode.Args.Why)
		}
	}
	return n
}

// describe gives an action for a trace.
func describe(act ha.Action) string {
	t, ok := act.(ha.Txn)
	if !ok {
		return fmt.Sprintf("%s %+v", act.Work(), act)
	}
	s := fmt.Sprintf("%s %s: prove %t, if", t.For, t.Event.Kind, t.Prove)
	for _, c := range t.If {
		s += fmt.Sprintf(" %d%s@%d", c.Kind, c.Name, c.Mod)
	}
	for _, p := range t.Put {
		switch {
		case p.Host != nil:
			r := p.Host
			s += fmt.Sprintf("; host %s seq %d guard %s guest %s hands off %t fit %t expelled %s", r.Name, r.Seq,
				r.Guard, r.Guest, r.HandsOff, r.Fit, r.Expelled)
		case p.Owner != nil:
			o := p.Owner
			s += fmt.Sprintf("; owner %s on %s to %q ready %t epoch %s", o.State, o.Host, o.To, o.Ready, o.Epoch)
		}
	}
	return s
}
