//go:build !race

package mutants

import "holdfast/testbed/sim/explore"

func proofBugs() []bug {
	return []bug{
		{name: "lease-as-lock", breaks: "Deadline(e) is the end of the lease and the holder's own reset since; the " +
			"lease alone is no lock", rules: two, focus: "",
			edits:  []edit{{coordinate, "return time.Duration(float64(t.Lease+g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon", "_ = g\n	return t.Lease"}},
			search: opts(1, -1, "")},
		{name: "no-grace", breaks: "Deadline(e) waits for G, in which the host resets itself", rules: two, focus: "",
			edits:  []edit{{coordinate, "float64(t.Lease+g)", "float64(t.Lease+0*g)"}},
			search: opts(1, -1, "")},
		{name: "drift-of-g-alone", breaks: "the factor of both drifts belongs to T + G", rules: two, focus: "-",
			edits: []edit{{coordinate, "return time.Duration(float64(t.Lease+g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon",
				"return t.Lease + time.Duration(float64(g)*(1+t.Drift)/(1-t.Drift)) + t.Epsilon"}},
			test: "ha TestTakeoverSaysWhatALossWouldMean"},
		{name: "wait-too-short", breaks: "the silence for the deadline proof is measured to its end", rules: two, focus: "-",
			edits: []edit{{suspect, "m.silent(h) >= m.wait(r.Guard)",
				"m.silent(h) >= m.wait(r.Guard-m.Timings.Keepalive/8)"}}, test: "ha TestDecide"},
		{name: "no-expel", breaks: "a takeover expels the lost host and compares its record", rules: two, focus: "news",
			edits:  []edit{{coordinate, `	if lost.Host != "" {`, `	if lost.Host != "" && m.Now < 0 {`}},
			search: opts(1, 1, "apart")},
		{name: "no-compare", breaks: "a takeover compares the lost host's record: a renewal that the coordinator did " +
			"not see makes it fail", rules: two, focus: "news",
			edits:  []edit{{coordinate, "	t.If = append(t.If, Cond{key, r.Mod})\n", ""}},
			search: opts(1, 1, "apart"), test: "ha TestTakeoverExpelsTheLostHostInTheSameTransaction"},
		{name: "no-term", breaks: "a coordinator's writes compare its term", rules: "old-term", focus: "news",
			edits: []edit{{coordinate, "t.If = append(t.If, Cond{Key{Kind: KindCoordinator}, m.Coord.Mod}, " +
				"Cond{Key{Kind: KindWant}, m.Want.Mod})", "t.If = append(t.If, Cond{Key{Kind: KindWant}, m.Want.Mod})"}},
			search: opts(2, -1, "running")},
		{name: "owner-unconditional", breaks: "whoever writes the owner record compares the one that it decided on", rules: safety, focus: "news",
			edits:  []edit{{hold, "If: []Cond{{owner, m.Owner.Mod}}, Event: ev}", "If: []Cond{{owner, m.Owner.Mod}}[:0], Event: ev}"}},
			search: opts(1, 1, "", "hold", "lag", "cut")},
		{name: "fence-before-decision", breaks: "Fenced(e) is a power-off read back for the host's present record", rules: two, focus: "fence",
			edits: []edit{{suspect, "case f.Off && f.Mod == r.Mod && r.Mod != 0:", "case f.Off && r.Mod != 0:"}}},
		{name: "fence-of-the-newest", breaks: "the answer of a fence device counts for the record for which it " +
			"was ordered", rules: two, focus: "fence",
			edits: []edit{{machine, "f := Fenced{Mod: a.Mod,", "f := Fenced{Mod: m.Hosts[a.Host].Mod,"}},
			test:  "ha TestAFenceAnswerCountsForTheRecordOfItsOrder"},
		{name: "fenced-boot", breaks: "the boot id must change before a fenced host is trusted again", rules: "fenced-boot", focus: "fence",
			edits: []edit{{lease, "	case same && rec.Fenced == m.ThisHost.Boot:\n", "	case m.Now < 0:\n"},
				{"testbed/sim/host.go", `return fmt.Sprintf("%s-boot-%d", h.name, h.boots)`, `return fmt.Sprintf("%s-boot", h.name)`}},
			test: "ha TestAFencedHostIsTrustedAgainOnlyAfterABoot"},
		{name: "deaf-is-silent", breaks: "a host that has gone deaf does not take that for the silence of the others", rules: two, focus: "-",
			edits: []edit{{suspect, "w.At.Sub(heard) < m.Timings.Detection", "m.Now.Sub(heard) < m.Timings.Detection"}}, test: "ha TestSuspicion"},
		{name: "idle-fence", breaks: "a host that may hold nothing is never switched off", rules: "idle-fence", focus: "fence",
			edits: []edit{{suspect, "	h := m.Owner.Holder()\n	r, f", "	h := m.Order[len(m.Order)-1]\n	r, f"}}, search: opts(1, -1, "fence")},
		{name: "restored-record", breaks: "after a restore the owner record means nothing until every member has " +
			"said that it has nothing", rules: two + " not-settled old-generation", focus: "restore",
			edits: []edit{{coordinate, `	if m.unsettled() != "" {
		return
	}
`, ""}}, test: "ha TestAfterARestore",
			search: &explore.Options{Faults: 2, Delays: -1, Restores: 1, Begin: []string{"running"}, Only: []string{"stall", "cut"}}},
		{name: "old-generation-runs", breaks: "a guest of an older generation is killed",
			rules: "not-settled two-hosts false-proof", focus: "restore",
			edits: []edit{{hold, "case !g.Epoch.IsZero() && g.Epoch.Gen < m.Gen:", "case m.Now < 0:"}}},
		{name: "handover-unproved", breaks: "the source hands over only when it is proved to be without the guest",
			rules: two + " stale-guest", focus: "migration",
			edits: []edit{{move, "	case m.gone():\n		d.left()\n", "	case m.gone() || m.Guest.Seen.State == cluster.GuestPaused:\n		d.left()\n"},
				{move, "cluster.Event{Kind: cluster.EvSettling, Host: n.Host}, true)",
					"cluster.Event{Kind: cluster.EvSettling, Host: n.Host}, false)"}},
			search: opts(1, 1, "migrating")},
		{name: "resume-early", breaks: "what has arrived goes on only when the source is proved to be without the guest", rules: two,
			focus: "migration",
			edits: []edit{{hold, "	if d.stray() == killed ||",
				"	if m.receiver() && m.Guest.Seen.State == cluster.GuestArrived && m.guarded() {\n		d.do(Resume{})\n	}\n	if d.stray() == killed ||"}},
			search: opts(1, -1, "migrating")},
		{name: "gone-is-moved", breaks: "the end of the source's process does not say that all of the guest has arrived",
			rules: "stale-guest", focus: "arrival",
			edits:  []edit{{move, `cluster.Settling, m.Owner.To, "", m.Guest.Seen.Moved`, `cluster.Settling, m.Owner.To, "", true`}},
			search: opts(2, 1, "migrating", "move-fails", "guest-ends", "slow")},
		{name: "resume-unguarded", breaks: "a guest goes on at the target under an armed watchdog", rules: "unguarded-guest", focus: "-",
			edits: []edit{{move, "if m.leased(startMargin) && (m.guarded() || m.frozen()) {",
				"if m.leased(startMargin) {"}}, test: "ha TestAGuestThatHasArrivedGoesOnWhenTheSourceIsWithoutIt"},
		{name: "arrived-and-unregistered", breaks: "a host that has booted kills what a migration brought before " +
			"it registered", rules: "not-up", focus: "-",
			edits: []edit{{hold, "	case m.returned():\n", "	case m.Now < 0:\n"}}, test: "ha TestAHostThatHasNotRegisteredKillsWhatIsNotItsOwn"},
		{name: "release-unproved", breaks: "Released(e) is written after a kill and a look", rules: two, focus: "start",
			edits: []edit{{hold, "Proof: kind, Detail: n.Reason}, prove)",
				"Proof: kind, Detail: n.Reason}, prove && m0)"},
				{hold, "func (d *decision) stopping() {", "const m0 = false\n\nfunc (d *decision) stopping() {"},
				{view, "m.Guest.SeenAt > m.Guest.Touched && !m.busy(WorkStart)", "!m.busy(WorkStart)"}}},
		{name: "report-first", breaks: "no decision waits for a report", rules: "not-up", focus: "verbose",
			edits: []edit{{coordinate, "	d.report()\n	if d.writing() {",
				"	d.report()\n	if d.writing() || d.decided(WorkReport) || m.busy(WorkReport) {"},
				{action, "	if len(s) <= maxText {", "	if len(s) <= 1<<30 {"}},
			test: "ha TestAReportNeverStandsBeforeADecision"},
		{name: "long-texts", breaks: "a text of a device or a host never keeps a record from being written",
			rules: "not-up two-hosts", focus: "-",
			edits: []edit{{action, "	if len(s) <= maxText {", "	if len(s) <= 1<<30 {"}}, test: "ha TestTextsOfRecordsAreShort"},
	}
}

// dutyBugs are in what the program around the core must do.
func dutyBugs() []bug {
	const agentAct, restore, bmc, dog = "internal/ha/loop/act.go", "testbed/sim/restore.go", "testbed/sim/bmc.go",
		"internal/host/watchdog/keeper/keeper.go"
	return []bug{
		{name: "pet-beyond", breaks: "the keeper pets at moments <= L only", rules: two, focus: "hang",
			edits: []edit{{dog, "if now > k.limit || !k.may() {", "if k.limit == 0 {"},
				{dog, "	if k.fires <= k.Reset() {\n", "	if k.fires > 0 {\n"}}, test: "host/watchdog/keeper TestKeeper"},
		{name: "late-pet", breaks: "a pet that came late is made good", rules: two, focus: "-",
			edits: []edit{{dog, "	if k.fires <= k.Reset() {\n", "	if k.fires > 0 {\n"}}, test: "host/watchdog/keeper TestKeeper"},
		{name: "no-look-after-the-kill", breaks: "the agent looks at the process table after the kill of a " +
			"write with Prove", rules: two, focus: "-",
			edits: []edit{{agentAct, `g.State != cluster.GuestAbsent {`, `g.State == "never" {`}}, test: "ha/loop TestAReleaseLooksAfterTheKill"},
		{name: "look-after-the-fact", breaks: "an observation counts from when it began", rules: "stale-start", focus: "start",
			edits: []edit{{"testbed/sim/agent.go", "		a.core.Observed(seen, at)\n", "		a.core.Observed(seen, h.clock())\n"}}},
		{name: "fence-no-readback", breaks: "a fence command's success is no proof, only the state read back as off", rules: two, focus: "fence",
			edits: []edit{{bmc, `			end(ha.Outcome{OK: why == "", Why: why, Device: "sim-bmc"})`,
				`			end(ha.Outcome{OK: why == "" || why == staysOn, Why: why, Device: "sim-bmc"})`}}},
		{name: "answer-to-another", breaks: "an outcome is handed in with the action that it is of", rules: two, focus: "-",
			edits: []edit{{agentAct, "Rev: c.Mod})", "Rev: c.Mod})\n		conds = conds[:1]"}}, test: "ha/loop TestATransactionIsTheCoresWordForWord"},
		{name: "restored-generation", breaks: "a restored store adds a restore generation to every epoch",
			rules: two + " old-generation", focus: "restore",
			edits: []edit{{restore, "gen: s.gen + 1,", "gen: s.gen,"}}},
	}
}
