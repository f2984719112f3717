//go:build !race

package mutants

// Files of the core of pairs.
const (
	pairDecide  = "internal/pair/decide.go"
	pairMachine = "internal/pair/machine.go"
)

// pairBugs break the five rules of package pair.
func pairBugs() []bug {
	const random, search = "pair TestRandomCoursesAtLength", "pair TestNoCourseLosesAWriteAtLength"
	return []bug{
		{name: "pair-unlicensed", breaks: "a node is promoted only after a transaction that found its copy complete", focus: "-", test: random,
			edits: []edit{{pairDecide, "	if !m.licensed() {\n		if m.owned()",
				"	if !m.owned() {\n		if m.owned()"}, {pairDecide, "		if m.Own != m.Sync.Mod || m.Writing {\n			return nil\n		}\n", ""}}},
		{name: "pair-alone-first", breaks: "the active acknowledges alone only after the peer is out of Complete", focus: "-", test: search,
			edits: []edit{{pairDecide, "	return !m.Sync.Has(m.Peer) && m.Promoted", "	return m.Promoted"},
				{pairDecide, "		if m.Own == m.Sync.Mod && !m.Writing {\n			return Alone{}\n		}\n", "		return Alone{}\n"}}},
		{name: "pair-alone-beside-an-offer", breaks: "no offer to the peer is on its way when the active goes on alone", focus: "-", test: search,
			edits: []edit{{pairDecide, "		if m.Own == m.Sync.Mod && !m.Writing {\n			return Alone{}\n		}\n", "		return Alone{}\n"}}},
		{name: "pair-complete-too-soon", breaks: "the peer is complete only after commits wait for it and it " +
			"has everything", focus: "-", test: search,
			edits: []edit{{pairDecide, "m.Joined == m.Sync.Mod && r.Linked && m.fresh():", "r.Linked && m.fresh():"}}},
		{name: "pair-join-of-another-revision", breaks: "the offer compares the revision from before the join", focus: "-", test: search,
			edits: []edit{{pairDecide, "m.Joined = a.SyncMod", "m.Joined = m.Sync.Mod"}}},
		{name: "pair-cut-while-complete", breaks: "a copy that is cut leaves Complete first", focus: "-", test: search,
			edits: []edit{{pairDecide, "r.Linked || !m.Judged() && !m.Left || cut && !m.Left {", "r.Linked {"}}},
		{name: "pair-left-by-hearsay", breaks: "a copy leaves by a transaction of its own, whatever this node knows", focus: "-", test: search,
			edits: []edit{{pairDecide, "m.Phase == Ended && !m.Left && !r.Linked",
				"m.Phase == Ended && m.Sync.Has(m.Self) && !r.Linked"},
				{pairDecide, "r.Linked || !m.Judged() && !m.Left || cut && !m.Left {", "r.Linked || cut && m.Sync.Has(m.Self) {"}}},
		{name: "pair-doubt-for-ever", breaks: "a proof that does not hold any more is made anew", focus: "-", test: random,
			edits: []edit{{pairDecide, "	return m.Phase == Ended && m.Judged() && m.peerServes() && " +
				"m.Sync.Has(m.Self) && r.Role == RoleStandby && r.Linked && !r.Whole\n", "	return r.Role > 9\n"}}},
		{name: "pair-lost-writes", breaks: "a copy that may have lost writes is not promoted", focus: "-", test: random,
			edits: []edit{{pairDecide, "m.Judged() && r.Whole && r.Role != RoleUnknown {", "m.Judged() {"},
				{pairMachine, "	case !r.Whole:\n		return \"its copy may have lost writes\"\n", ""}}},
		{name: "pair-joined-for-ever", breaks: "a join counts until the active goes on alone", focus: "-", test: search,
			edits: []edit{{pairDecide, "	case Promote, Alone, Follow, Demote:", "	case Promote, Follow, Demote:"},
				{pairMachine, "	if r.Role != RoleActive || !r.Waits {\n		m.Joined = 0\n	}\n", ""}}},
		{name: "pair-adopts-without-doubt", breaks: "a new process does not know what the one before has on its way", focus: "-", test: search,
			edits: []edit{{pairMachine, "	m.Promoted, m.WasActive = true, true\n", "	m.Promoted, m.WasActive, m.Own = true, true, m.Sync.Mod\n"}}},
		{name: "pair-address-last", breaks: "the address goes before the writes end", focus: "-", test: search,
			edits: []edit{{pairDecide, "	if a := m.down(0, hard); a != nil {\n		return a\n	}\n	switch " +
				"r := m.Seen.Replica; {", "	switch r := m.Seen.Replica; {"}}},
		{name: "pair-address-before-the-data", breaks: "the group starts in its order", focus: "-", test: search,
			edits: []edit{{pairDecide, "		if a := m.down(0, true); a != nil && !m.Shut() {\n			return a\n		}\n", ""}}},
		{name: "pair-proof-gone", breaks: "who leaves does not take the proof of the other one with it", focus: "-", test: random,
			edits: []edit{{pairDecide, "		p.Sync.Proof = s.Proof\n", ""}}},
		{name: "pair-no-cut", breaks: "what a former active has beyond its peer is cut", focus: "-", test: random,
			edits: []edit{{pairDecide, "	cut := r.Wrote || !r.Whole\n", "	cut := !r.Whole\n"}}},
	}
}
