// Package arbiter decides which node of a pair without a third voter goes on
// alone when the two do not hear each other, and how the other one comes back.
// The store of such a pair has two voters: it commits on both or not at all, so
// package ha can decide nothing on a node before that node's store was won here.
// The package is a deterministic state machine: no I/O, no clock, no goroutine.
// See docs/adr/0045.
//
//	m := arbiter.New(self, peer, by, times, mark)
//	m.Hears(word)                 // what the peer's agent says, or that it is silent
//	m.Observed(seen, now)         // what there is on this node
//	act := m.Decide(now)          // what is to be begun; nil: nothing
//	m.Done(act, outcome, now)     // how it ended
//
// # Why only one goes on, with everything
//
// Every store has a generation, a number that no other store has, and remembers
// the generation that it was formed from. Of a generation at most one node goes
// on alone:
//
//  1. A node stops its member, then contests the generation, writes durably that
//     it has won, and only then forms the store of one voter that replaces its
//     own. Since its member stopped nobody commits in the old generation.
//  2. The disk gives a generation to the first who asks, for ever. Whoever asks
//     has noted before that it does, so after a crash it asks again and goes on.
//  3. A fence wins by showing the peer off. A node that was off contests nothing
//     before it has been in a quorum again: it may be the one that was fenced.
//     So does a node that has just begun, of which the same is not known. So who is shown
//     off without an order has lost, too, at any time: it contests nothing any more.
//  4. A copy that has joined anew contests only after a record says that its vote
//     counts (Barrier). Before, the other may have committed without it.
//  5. Both voters have every commit in their log, not both know of it: Form keeps
//     the whole log, also what this member was not told to be committed.
//
// What the loser runs ends by its lease and its watchdog, because its store has no
// quorum. The winner waits Times.Silence for that since its own member stopped,
// unless the peer was shown off or the group was here.
//
// What runs here goes on when this node wins: its lease then lasts from the contest on, and from Form (Extends), and Form
// carries its license into the new store. A fence and the disk have ruled out that the peer goes on,
// too; pings have not, as ever. Who wins nothing extends nothing, as it asks again and again.
//
// A store that another one was formed from is never started again, and wiped as
// soon as the peer tells of the other one; then the node joins as a learner.
//
// Ping does not exclude the other node, so both may go on: best effort. When they
// meet, one keeps its data (the one that had the group, else the lesser name),
// the other one stops and saves what it has before it is wiped; where the operator
// decides, it waits for that.
//
// # Duties of the caller
//
// Before the first Decide the mark is handed in as it was read from this node's
// disk. While Apart nothing on this node reads the peer's store, or writes to it. A
// look is handed in only when it began after the last Done. Instants are of one
// clock that never goes back. Generations that a Tiebreak returns are unique
// (package store's care makes them so). Silence is the longest time from a renewal
// to the holder's reset, as the other's clock may take it (docs/safety.md, the
// deadline proof). A contest takes less than half of HeadStart, and what the two
// nodes call the moment of their parting differs by less than the other half.
package arbiter
