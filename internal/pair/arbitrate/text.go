package arbitrate

import "holdfast/internal/pair/arbiter"

// stateTexts are those of arbiters that differ.
var stateTexts = map[arbiter.Kind]map[arbiter.State]string{
	arbiter.Ping: {
		arbiter.NoFailover: "both nodes vote, and neither address answers, or the other node has no watchdog that works: no failover is possible",
		arbiter.Arbitrates: "the other node is lost: this one goes on alone if an address answers",
		arbiter.Forms:      "the other node is lost, and an address answers: this one forms its store",
	},
	arbiter.Disk: {
		arbiter.NoFailover: "both nodes vote, and the disk does not answer here, or the other node has no watchdog " +
			"that works: no failover is possible",
		arbiter.Arbitrates: "the other node is lost: this one goes on alone if the disk does not name the other",
		arbiter.Forms:      "the other node is lost, and the disk names this one: it forms its store",
		arbiter.PeerWon:    "the disk names the other node: this one waits for it",
	},
}

// stateText is a state in plain words.
func stateText(by arbiter.Kind, s arbiter.State) string {
	if text := stateTexts[by][s]; text != "" {
		return text
	}
	switch s {
	case arbiter.Whole:
		return "both nodes vote, and either can go on alone"
	case arbiter.NoFailover:
		return "both nodes vote, and the fence devices of the other one do not answer: no failover is possible"
	case arbiter.Returning:
		return "this node joins the store"
	case arbiter.Waits:
		return "this node has begun alone: it waits for the other one, or for: holdfast pair resolve"
	case arbiter.Arbitrates:
		return "the other node is lost: its fence devices are asked to show it off"
	case arbiter.Forms:
		return "the other node was shown off: this one forms its store"
	case arbiter.Alone:
		return "this node goes on alone"
	case arbiter.SplitOperator:
		return "split brain: both nodes have gone on alone: choose, on the node whose data are kept, by: holdfast pair resolve"
	case arbiter.Stale:
		return "the other node has gone on alone: the store of this one is given up"
	case arbiter.Foreign:
		return "the stores of the two nodes have nothing to do with each other: a person has to decide"
	}
	return "split brain: both nodes have gone on alone"
}
