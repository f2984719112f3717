//go:build !race

package mutants

import (
	"slices"

	"holdfast/testbed/sim/explore"
)

// Rules of the invariants that many bugs break.
const (
	two    = "two-hosts false-proof"
	safety = two + " no-proof epoch epoch-twice two-calls old-generation stale-start unguarded-start unguarded-guest " +
		"old-term stale-guest fenced-boot idle-reset idle-fence hands-off defect"
)

// Files that bugs are planted in.
const (
	machine    = "internal/ha/machine.go"
	lease      = "internal/ha/lease.go"
	guard      = "internal/ha/guard.go"
	hold       = "internal/ha/hold.go"
	view       = "internal/ha/view.go"
	move       = "internal/ha/migrate.go"
	coordinate = "internal/ha/coordinate.go"
	suspect    = "internal/ha/suspect.go"
	action     = "internal/ha/action.go"
)

// opts are options of a search.
func opts(faults, delays int, begin string, only ...string) *explore.Options {
	o := &explore.Options{Faults: faults, Delays: delays, Only: only}
	if begin != "" {
		o.Begin = []string{begin}
	}
	return o
}

// bugs is the list, in the order of the safety model. docs/safety.md has the
// sentences.
func bugs() []bug {
	return slices.Concat(holderBugs(), proofBugs(), dutyBugs(), pairBugs(), arbiterBugs())
}

func holderBugs() []bug {
	return []bug{
		{name: "late-deadline", breaks: "a renewal counts from when it was sent, not from its reply", rules: two, focus: "hang",
			edits:  []edit{{machine, "m.Lease.Deadline = t.Sent.Add(", "m.Lease.Deadline = now.Add("}},
			search: opts(1, 2, "apart", "cut", "hold-reply", "hold-work"), test: "ha TestARenewalCountsFromWhenItWasDecided"},
		{name: "stale-renewal", breaks: "a renewal counts only when the store has answered it", rules: two, focus: "hang",
			edits: []edit{{machine, "	if !o.OK {\n		return\n	}\n",
				"	if !o.OK {\n		if t.For == WorkRenew && m.Lease.Mod != 0 {\n			m.Lease.Deadline = t.Sent.Add(m.Timings.Lease)\n		}\n		return\n	}\n"}},
			search: opts(2, -1, "apart", "cut", "stall")},
		{name: "renewal-unconditional", breaks: "a renewal compares the revision of the host's own last write",
			rules: two + " fenced-boot", focus: "blind",
			edits: []edit{{lease, "For: WorkRenew, If: []Cond{{own, max(rec.Mod, m.Lease.Mod)}},",
				"For: WorkRenew, If: []Cond{{own, max(rec.Mod, m.Lease.Mod)}}[:0],"}}},
		{name: "stale-start", breaks: "a start follows an observation newer than the record and the host's last action",
			rules: "stale-start", focus: "",
			edits: []edit{{view, "return m.Guest.SeenAt > at && m.Guest.SeenAt > m.Guest.Touched", "return true"},
				{view, "m.Guest.SeenAt > m.Guest.Touched && !m.busy(WorkStart)", "!m.busy(WorkStart)"}},
			search: opts(-1, 1, "")},
		{name: "equal-is-after", breaks: "two readings of a clock that are equal are not one after the other", rules: "stale-start", focus: "-",
			edits: []edit{{view, "return m.Guest.SeenAt > at && m.Guest.SeenAt > m.Guest.Touched",
				"return m.Guest.SeenAt >= at && m.Guest.SeenAt >= m.Guest.Touched"}},
			test: "ha TestAGuestThatHasArrivedGoesOnWhenTheSourceIsWithoutIt"},
		{name: "double-claim", breaks: "an epoch allows one call: the claim of the agent before and the own call count",
			rules: two + " epoch-twice two-calls", focus: "start",
			edits: []edit{{hold, "case m.Guest.Started == o.Epoch:", "case false:"},
				{hold, `case o.Claim != "" && o.Claim != m.ThisHost.Instance:`, "case false:"}},
			search: opts(1, 1, "nothing")},
		{name: "start-unclaimed", breaks: "the claim is written before the hypervisor is called",
			rules: two + " epoch-twice two-calls", focus: "start",
			edits: []edit{{hold, "	case o.Claim == \"\":\n		n := o.Owner\n		n.Claim = " +
				"m.ThisHost.Instance\n		d.write(n, cluster.Event{}, false)\n", ""}},
			search: opts(1, 1, "nothing"), test: "ha TestDecide"},
		{name: "start-near-the-deadline", breaks: "a start needs a lease with some time left", rules: "unguarded-start", focus: "-",
			edits: []edit{{hold, "	case !m.leased(startMargin) || !m.guarded():\n	case o.Claim",
				"	case !m.guarded():\n	case o.Claim"}, {hold, "d.do(Start{o.Epoch, m.Lease.Deadline})", "d.do(Start{o.Epoch, 1 << 62})"}},
			test: "ha TestDecide"},
		{name: "start-unguarded", breaks: "a start needs an armed watchdog if one was promised",
			rules: "unguarded-start unguarded-guest", focus: "",
			edits:  []edit{{guard, "	if m.busy(WorkArm) {\n		return false // it may be a disarm\n	}\n", "	if m.Now > 0 {\n		return true\n	}\n"}},
			search: opts(-1, 1, "")},
		{name: "disarm-is-no-order", breaks: "while an order to the watchdog is under way nothing relies on it",
			rules: "unguarded-start unguarded-guest", focus: "start",
			edits:  []edit{{guard, "	if m.busy(WorkArm) {\n		return false // it may be a disarm\n	}\n", ""}},
			search: opts(1, 2, "", "hold-work", "start-fails")},
		{name: "limit-too-late", breaks: "the watchdog is petted at moments <= D + G - W only", rules: two, focus: "hang",
			edits:  []edit{{guard, "m.Lease.Deadline.Add(g - m.Watchdog.Timeout)", "m.Lease.Deadline.Add(g)"}},
			search: opts(1, -1, "")},
		{name: "limit-ignores-the-promise", breaks: "the limit is reckoned with the smaller of the promised G and " +
			"the present one", rules: two, focus: "-",
			edits: []edit{{guard, "		g = min(g, promised)\n", "		_ = promised\n"}}, test: "ha TestTheLimitKeepsThePromise"},
		{name: "early-disarm", breaks: "the watchdog is disarmed only after the guest is proved gone", rules: two, focus: "hang",
			edits:  []edit{{guard, "gone := m.gone() || m.expired() && m.dead() && !m.Guest.Inherited", "gone := m.gone() || m.expired()"}},
			search: opts(2, -1, "apart", "cut", "freeze")},
		{name: "idle-reset", breaks: "a host that holds nothing is never reset", rules: "idle-reset", focus: "",
			edits: []edit{{guard, "if dog.Armed && (gone && !m.expects() || m.Want.HandsOff && m.frozen()) {",
				"if dog.Armed && m.Want.HandsOff && m.frozen() && gone {"}}},
		{name: "inherited-is-gone", breaks: "a new agent takes an empty process table for no proof before a " +
			"kill of its own", rules: safety, focus: "-",
			edits: []edit{{machine, "Guest: Guest{Inherited: true}", "Guest: Guest{}"},
				{"testbed/sim/explore/agent.go", "h.starting != 0 {", "h.starting != 0 && h.agent.started != 0 {"},
				{"testbed/sim/explore/agent.go", "inst: h.agent.inst + 1, inherited: true}", "inst: h.agent.inst + 1}"}},
			search: opts(1, 1, "nothing")},
		{name: "open-start-unseen", breaks: "while the hypervisor may still carry out a start, no absence is seen", rules: safety, focus: "-",
			edits:  []edit{{"testbed/sim/explore/agent.go", "h.starting != 0 {", "h.starting == 255 {"}},
			search: opts(1, 1, "nothing")},
		{name: "promise-unguarded", breaks: "a guest under a watchdog that is not armed is no promise", rules: two, focus: "-",
			edits: []edit{{lease, "	if m.present() && !m.Watchdog.Armed {\n		r.Guard = 0\n	}\n", ""}}, test: "ha TestDecide"},
		{name: "hands-on-unanswered", breaks: "from the moment that hands on is sent the deadline counts again", rules: two, focus: "-",
			edits: []edit{{machine, "m.Lease.HandsOn = true // from now on", "_ = 0 // from now on"}}, test: "ha TestHandsOnCountsFromTheSending"},
		{name: "restored-deadline", breaks: "the deadline that a new agent takes over is that of the limit: D " +
			"= L - G + W", rules: two, focus: "-",
			edits: []edit{{machine, "m.Watchdog.Limit.Add(m.Watchdog.Timeout - Guard(m.Timings, m.Watchdog.Timeout))",
				"m.Watchdog.Limit.Add(m.Watchdog.Timeout)"}}, test: "ha TestARestoredDeadlineIsThatOfTheLimit"},
		{name: "registers-unproved", breaks: "an expelled host registers again only with a proof that it holds nothing", rules: two, focus: "-",
			edits: []edit{{lease, "	case (!same || !rec.Expelled.IsZero()) && !m.gone():\n		return // first " +
				"nothing of the guest may be here\n", ""}}, test: "ha TestDecide"},
		{name: "copy-is-the-original", breaks: "another machine under this identity is given the time until " +
			"its own reset", rules: two, focus: "-",
			edits: []edit{{lease, `|| rec.Machine != "" && m.ThisHost.Machine != "" && rec.Machine != m.ThisHost.Machine`, ""}},
			test:  "ha TestACopiedDataDirectoryWaitsForTheOriginalsReset"},
		{name: "blind-for-ever", breaks: "a holder that can not see its guest gives itself up", rules: "not-up", focus: "-",
			edits: []edit{{lease, "|| m.holder() && m.blind() > blindWait", ""}}, test: "ha TestAHostThatCanNotSeeItsGuest"},
		{name: "claimed-and-unseen", breaks: "only an epoch that nobody has claimed is given back unseen", rules: two, focus: "-",
			edits: []edit{{hold, `case o.Claim == "" && m.blind() > blindStart:`, "case m.blind() > blindStart:"}},
			test:  "ha TestAHostThatCanNotSeeItsGuest"},
		{name: "never-surrenders", breaks: "a guest that must not go on and can not be killed ends the host's lease", rules: "not-up", focus: "-",
			edits: []edit{{lease, "return m.Guest.UnhealthyAt != 0 && m.Now.Sub(m.Guest.UnhealthyAt) > " +
				"selfFenceAfter ||", "return"}}, test: "ha TestASickGuestIsRestartedAndAHostThatCanNotStopItSurrenders"},
		{name: "stands-still", breaks: "a guest that stands still by an I/O error goes on, here or elsewhere",
			rules: "not-up not-stopped", focus: "still",
			edits: []edit{{hold, "	case m.Guest.PausedAt != 0:\n		_, elsewhere := " +
				"m.candidate(m.Self)\n		d.goOn(elsewhere)\n		return\n", ""}}, test: "ha TestAGuestThatStandsStillByAnIOError"},
	}
}
