//go:build !race

package mutants

// Files of the arbitration of pairs without a third voter.
const (
	arbDecide  = "internal/pair/arbiter/decide.go"
	arbMachine = "internal/pair/arbiter/machine.go"
)

// arbiterBugs break the rules of package arbiter.
func arbiterBugs() []bug {
	b := func(name, by, breaks string, edits ...edit) bug {
		return bug{name: "arbiter-" + name, breaks: breaks, focus: "-", test: "pair/arbiter TestOneGoesOnAloneAtLength/" + by, edits: edits}
	}
	return []bug{
		b("ping-without-waiting", "ping", "ping licenses only after the peer's lease and watchdog are over",
			edit{arbDecide, "	case m.By == Ping && !m.ended():\n", ""},
			edit{arbDecide, "m.Ballot.By != Fence && m.Ballot.By != Operator && !m.ended()", "m.Ballot.By == Disk && !m.ended()"}),
		b("disk-without-waiting", "disk", "who wins by the disk waits until what the peer ran has ended",
			edit{arbDecide, "m.Ballot.By != Fence && m.Ballot.By != Operator && !m.ended()", "m.Ballot.By == Ping && !m.ended()"}),
		b("kept-by-hearsay", "disk", "the group was here when the member stopped, or the winner waits",
			edit{arbMachine, "m.StoppedAt, m.ActiveAtStop = now, s.serves()", "m.StoppedAt, m.ActiveAtStop = now, true"}),
		b("kept-by-a-failed-look", "disk-faults", "a look that has failed is no proof that the group was here",
			edit{arbMachine, "m.StoppedAt, m.ActiveAtStop = now, s.serves()", "m.StoppedAt, m.ActiveAtStop = now, s.Holds"}),
		b("extends-without-winning", "disk", "a lease is extended only by a contest that was won",
			edit{arbDecide, "		return o.Won\n", "		return true\n"}),
		b("forms-before-the-contest", "fence", "a store is formed only after the contest was won",
			edit{arbDecide, "		return Tiebreak{Gen: s.Gen}\n", "		return Form{From: s.Gen, Gen: s.Gen + 1, WasActive: m.MayBeActive}\n"}),
		b("lost-answer-counts-as-won", "fence", "a contest whose answer is lost is not won",
			edit{arbMachine, "		case o.Won:\n", "		case o.Won || !o.Lost:\n"}),
		b("lost-counts-as-won", "disk", "a disk that belongs to the peer is not won",
			edit{arbMachine, "		case o.Won:\n", "		case o.Won || o.Lost:\n"},
			edit{arbMachine, "		case o.Lost && m.By == Disk:\n			m.Out = true\n", ""}),
		b("asks-without-a-mark", "disk", "who asks the disk has noted it before",
			edit{arbDecide, "	case m.By == Disk && m.marked() != Contesting:\n		return SetBallot{Ballot{State: Contesting, From: s.Gen}}\n", ""}),
		b("wins-without-a-mark", "fence", "what was won is written down before the store is formed",
			edit{arbDecide, "		return SetBallot{m.Winning}\n", "		m.Ballot = m.Winning\n		return m.form()\n"}),
		b("stale-cold-start", "fence", "a node that was away contests nothing before it was in a quorum again",
			edit{arbDecide, "	return m.HadQuorum || m.Confirmed", "	return m.Ballot.Gen == 0 || m.Confirmed"}),
		b("keeps-its-old-store", "fence", "a returning node is wiped before it joins",
			edit{arbDecide, "		return m.discard(Wipe{})\n", "		if !m.Seen.Running {\n			return Join{}\n		}\n		return StopMember{}\n"}),
		b("starts-its-old-store", "fence", "a store that another one was formed from is given up",
			edit{arbDecide, "	case m.stale():\n", "	case m.stale() && m.Seen.Running:\n"},
			edit{arbDecide, "p.Gen != s.Gen || m.PeerStatus.Won", "m.PeerStatus.Won"}),
		b("votes-too-soon", "fence", "a copy that has joined contests only after its vote was sealed",
			edit{arbDecide, "m.Seen.Store.Role == Two && (m.Now.Sub", "(m.Now.Sub"}),
		b("both-fence-at-once", "fence", "fences have turns that do not meet",
			edit{arbDecide, "	if !m.WasActive {\n", "	if m.Self == \"\" {\n"}),
		b("turn-by-a-failed-look", "fence", "a look that has failed takes no turn of the node that serves",
			edit{arbDecide, "	if !m.WasActive {\n", "	if !m.MayBeActive {\n"}),
		b("fences-again-at-once", "fence-faults", "fences keep to their turns when they fail",
			edit{arbDecide, "m.By != Fence || since%(3*ahead) < ahead/2", "m.By != 0"}),
		b("split-keeps-nothing", "ping", "who loses a split brain saves what it has",
			edit{arbDecide, "m.discard(Wipe{Save: true})", "m.discard(Wipe{})"}),
		b("wiped-while-it-runs", "ping", "the group has ended before the store is wiped",
			edit{arbDecide, "	case m.Seen.Holds && !(", "	case false && !("}),
	}
}
