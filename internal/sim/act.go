package sim

import (
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// do begins an action. plain is the action as it was decided, before a planted
// bug changed it.
func (a *agent) do(act, plain ha.Action) {
	w := a.host.world
	if w.tracing {
		w.trace(a.host, "%s", describe(act))
	}
	switch act := act.(type) {
	case ha.Renew:
		a.renew(act)
	case ha.Elect:
		a.elect(act)
	case ha.Write:
		a.write(act, plain.(ha.Write).Term)
	case ha.Arm:
		a.arm(act.Limit)
	case ha.Disarm:
		a.disarm()
	case ha.Start:
		a.startGuest(act)
	case ha.Kill:
		a.kill(act.Why)
	case ha.Shutdown:
		a.shutdown()
	case ha.Migrate:
		a.migrate(act)
	case ha.Resume:
		a.resume()
	case ha.Abort:
		a.abort()
	case ha.Fence:
		a.fence(act)
	case ha.Conflict:
		w.say(a.host, "agent ends: %s", act.Why)
		a.stop()
	}
}

// renew: sent at s and answered well, the deadline becomes s + T, and LeaseMod
// the new revision. Answered badly or not at all nothing changes here: the watch
// brings the news. HandsOn is set as soon as a renewal without hands off is sent,
// and taken back only when one with it is answered.
func (a *agent) renew(r ha.Renew) {
	w, l := a.host.world, &a.view.Local
	free := a.busy(ha.WorkRenew)
	sent := a.host.clock()
	l.RenewSent = sent
	if !r.Record.HandsOff {
		l.HandsOn = true
	}
	a.call(renewTimeout, func() int64 { return w.store.renew(r) }, func(rev int64, known bool) {
		free()
		if !known && w.plant.StaleRenewal && l.LeaseMod != 0 {
			// The host's own member answers, which leads no more and does not know it.
			l.Deadline = sent.Add(w.timings.Lease)
		}
		if known && rev != 0 {
			if w.plant.LateDeadline {
				sent = a.host.clock()
			}
			l.LeaseMod = rev
			l.Deadline = sent.Add(w.timings.Lease)
			l.HandsOn = !r.Record.HandsOff
			a.apply(batch{rev: rev, hosts: []cluster.Host{r.Record}})
		}
		a.decide()
	})
}

func (a *agent) elect(e ha.Elect) {
	w, name := a.host.world, a.host.name
	free := a.busy(ha.WorkElect)
	a.call(writeTimeout, func() int64 { return w.store.elect(name, e) }, func(rev int64, known bool) {
		free()
		if known && rev != 0 {
			a.apply(batch{rev: rev, coord: &cluster.Coordinator{Host: name}})
		}
		a.decide()
	})
}

// write: with Prove the guest is killed first, and seen to be gone, and nothing
// is written otherwise.
func (a *agent) write(wr ha.Write, term int64) {
	free := a.busy(ha.WorkWrite)
	if !wr.Prove {
		a.send(wr, term, free)
		return
	}
	life := a.life
	a.host.hyper.kill(func(proved bool) {
		a.inLife(life, func() {
			if proved {
				a.view.Local.Inherited = false
			}
			if proved && a.host.hyper.observe().State == cluster.GuestAbsent {
				a.send(wr, term, func() {
					free()
					a.touched()
				})
				return
			}
			free()
			a.touched()
			a.decide()
		})
	})
}

// send writes the records. When it is answered the view shows them at once, and
// Told is remembered.
func (a *agent) send(wr ha.Write, term int64, free func()) {
	w, told := a.host.world, a.view.Hosts[wr.Told].Mod
	a.call(writeTimeout, func() int64 { return w.store.write(wr, term) }, func(rev int64, known bool) {
		free()
		if known && rev != 0 {
			a.apply(batch{rev: rev, owner: wr.Owner, want: wr.Want, hosts: wr.Expel})
			l := &a.view.Local
			if wr.Told != "" {
				l.Told[wr.Told] = told
			}
			if wr.Unfenced != "" {
				f := l.Fences[wr.Unfenced]
				f.Told = true
				l.Fences[wr.Unfenced] = f
			}
		}
		a.decide()
	})
}

func (a *agent) arm(limit cluster.Instant) {
	h := a.host
	free := a.busy(ha.WorkArm)
	a.afterHere(h.world.delay(armTakes, 25*armTakes, h.net.dog), func() {
		h.dog.arm(limit)
		a.view.Local.Dog = h.dog.status()
		free()
		a.decide()
	})
}

func (a *agent) disarm() {
	h := a.host
	free := a.busy(ha.WorkArm)
	a.disarming = true
	a.afterHere(h.world.delay(armTakes, 25*armTakes, h.net.dog), func() {
		a.disarming = false
		h.dog.disarm()
		a.view.Local.Dog = h.dog.status()
		free()
		a.decide()
	})
}

// startGuest calls the hypervisor, once. Started is the epoch as soon as it is
// called; TriedBy the error it ended with. One that is not answered in time
// counts as ended, and its outcome as unknown.
func (a *agent) startGuest(s ha.Start) {
	h, l := a.host, &a.view.Local
	h.world.checkStart(a, s)
	free := a.busy(ha.WorkStart)
	l.Started, l.Killed, l.TriedBy = s.Epoch, "", "the hypervisor was called and no guest came up"
	a.await(func(done func(error)) { h.hyper.start(s.Epoch, done) }, func(err error) {
		free()
		a.touched()
		if err != nil {
			l.TriedBy = err.Error()
			h.hyper.givenUp = err == errTimeout
		}
		a.decide()
	})
}

// await runs a driver's call that is given up after startTimeout.
func (a *agent) await(call func(done func(error)), done func(error)) {
	over, life := false, a.life
	finish := func(err error) {
		a.inLife(life, func() {
			if !over {
				over = true
				done(err)
			}
		})
	}
	call(finish)
	a.afterHere(startTimeout, func() { finish(errTimeout) })
}

func (a *agent) kill(why string) {
	h, l, life := a.host, &a.view.Local, a.life
	free := a.busy(ha.WorkKill)
	if l.Guest.State != cluster.GuestAbsent {
		l.Killed = why
		if l.Sick != "" && l.Doomed == 0 {
			l.Doomed = h.clock()
		}
	}
	had := h.hyper.proc != nil
	if had {
		h.world.checkKill(a, why)
	}
	h.hyper.kill(func(proved bool) {
		if proved && had {
			h.world.say(h, "killed: %s", why)
		}
		a.inLife(life, func() {
			if proved {
				a.view.Local.Inherited = false
			}
			free()
			a.touched()
			a.decide()
		})
	})
}

// shutdown: Shut is when the first request for this revision was made.
func (a *agent) shutdown() {
	l := &a.view.Local
	free := a.busy(ha.WorkShutdown)
	if l.Shut == 0 {
		l.Shut = a.host.clock()
	}
	a.host.hyper.shutdown()
	a.afterHere(killTakes, func() {
		free()
		a.touched()
		a.decide()
	})
}

// migrate: Tried is the revision as soon as it is begun, TriedBy the error it
// ended with.
func (a *agent) migrate(m ha.Migrate) {
	h, l, life := a.host, &a.view.Local, a.life
	free := a.busy(ha.WorkMigrate)
	l.Tried, l.TriedBy = m.Mod, ""
	gate := a.view.Hosts[m.To].Gate
	h.hyper.migrate(h.world.host(m.To), gate, func(err error) {
		a.inLife(life, func() {
			free()
			a.touched()
			if err != nil {
				l.TriedBy = err.Error()
			}
			a.decide()
		})
	})
}

func (a *agent) resume() {
	life := a.life
	free := a.busy(ha.WorkResume)
	a.host.hyper.resume(func(error) {
		a.inLife(life, func() {
			free()
			a.touched()
			a.decide()
		})
	})
}

func (a *agent) abort() {
	life := a.life
	free := a.busy(ha.WorkAbort)
	a.host.hyper.abort(func(bool) {
		a.inLife(life, func() {
			free()
			a.touched()
			a.decide()
		})
	})
}

// describe gives an action for a trace.
func describe(act ha.Action) string {
	switch act := act.(type) {
	case ha.Renew:
		r := act.Record
		return fmt.Sprintf("renew seq %d after revision %d, guard %s, guest %s, hands off %t, fit %t", r.Seq, act.Mod, r.Guard, r.Guest, r.HandsOff, r.Fit)
	case ha.Write:
		s := fmt.Sprintf("write %s: owner revision %d, term %d, prove %t", act.Event.Kind, act.OwnerMod, act.Term, act.Prove)
		if o := act.Owner; o != nil {
			s += fmt.Sprintf(": %s on %s to %q ready %t epoch %s", o.State, o.Host, o.To, o.Ready, o.Epoch)
		}
		return s
	case ha.Elect:
		return fmt.Sprintf("elect after revision %d", act.Mod)
	case ha.Fence:
		return fmt.Sprintf("fence %s for revision %d", act.Host, act.Mod)
	}
	return fmt.Sprintf("%s %+v", act.Work(), act)
}
