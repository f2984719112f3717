// Package pair holds every decision about the data of a two-node pair, and about
// the order in which its group of services starts and stops; which node may run
// the group is decided elsewhere (package ha), by leases, watchdogs and proofs.
// The package is a deterministic state machine: no I/O, no clock, no goroutine.
// The agent and the search of all courses drive the same Machine.
//
//	m := pair.New(self, peer, members, patience)
//	m.Grant(epoch)                     // package ha lets the group run here
//	m.OwnerIs(owner, mod)              // records, as a watch tells of them
//	m.Observed(seen, from)             // what there is on this node
//	for _, act := range m.Decide(now)  // what is to be begun
//	m.Done(act, outcome, now)          // how it ended
//
// # Why no acknowledged write is lost
//
// One record in the store, Sync, says which copies have every write that was
// ever acknowledged to a client. Five rules keep it true:
//
//  1. A node is promoted only after a transaction that found it in Sync.InSync
//     and put its epoch there. Every transaction compares the revision of Sync, so
//     whoever had an older epoch can not change it any more.
//  2. The active acknowledges without its peer only after a transaction has taken
//     the peer out of InSync. Until then commits wait for the peer.
//  3. The peer comes back into InSync only after commits wait for it again and
//     it has all that was acknowledged before; the transaction compares the
//     revision of Sync from before that began.
//  4. A copy that may lose writes (the last unacknowledged ones of a former active
//     are cut, or it is made anew) first leaves InSync, by a transaction.
//  5. A copy whose driver can not vouch that it kept all that it had is not
//     promoted, whatever the record says.
//
// Transactions of the holder compare the owner record as well: one that comes too
// late must not keep the node from the group that it was given to.
//
// A copy is called complete when it has every acknowledged write; it may have
// more, which nobody was told of.
//
// Where no copy is left that is complete and can be promoted, none is, until a person
// chooses one (Resolve). That is the only way in which acknowledged writes are given up.
//
// # Duties of the caller
//
// Before the first Decide the records and a look are handed in, and Adopt is called
// where a process before this one left the group running for an epoch that it noted.
// One goroutine uses a Machine. Instants are of one clock that never goes back.
// Records are handed in in the order of their revisions. A look at the node is
// handed in with an instant read before it began. Every action that Decide gives
// is carried out, transactions with all their conditions, and ended by Done once.
// A Demote and a StopMember are OK only when what they ended was seen to be gone;
// a Join only when, after its call, the peer had all that this node had then and
// every later commit waits for the peer; a Drain only when, besides, no client
// can write here any more.
package pair
