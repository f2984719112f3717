// Package ha holds every decision about where the management VM may run, and all
// that is remembered for it; here "the guest" is always the management VM. The
// package is a deterministic state machine: no I/O, no clock, no goroutine, no
// randomness. The agent, the simulator and the search of
// all courses drive the same Machine.
// See docs/adr/0028 and 0029.
//
//	m := ha.New(self, resource, me)
//	m.Changed(record, at) ...          // what happened
//	for _, act := range m.Decide(now)  // what is to be begun
//	m.Done(act, outcome, now)          // how it ended
//
// # Duties of the caller
//
// One goroutine uses a Machine. All instants are of one clock that never goes
// back and never gives the same instant twice. In this order:
//
//  1. Before the first Decide: Configure, then Watched and Observed once, so that
//     a new agent knows what the one before it left.
//  2. Each change of a record is handed in (Changed), in the order of its
//     revisions, with an instant that was read after the change had come here.
//     Follow(true) comes after a whole listing, and never for a store of an older
//     generation than this host has seen.
//  3. Each look at the guest is handed in (Observed) with an instant that was read
//     before the look began. GuestAbsent is a proof: the process table was read,
//     and no start is still open. The same holds for the watchdog (Watched).
//  4. Decide is called after each event, and every 100 ms at the least, with a
//     reading of the clock. Every action that it returns is begun, in that order,
//     word by word as it is: a transaction with all its conditions. A renewal
//     counts from that reading, so it must not have been sent before.
//  5. With Txn.Prove the guest is first killed and seen to be gone; if either can
//     not be proved, nothing is sent. A Start is not carried out when the clock
//     shows Until or later.
//  6. Every action is ended by Done exactly once, with the same value that Decide
//     gave, after the pause that Rest gives. An answer that does not come in time
//     is an outcome that is not OK, with a reason. A Fence is OK only when the
//     state was read back as off after the order; a Kill when the process is
//     proved gone.
//  7. After Done of an action that Touches the guest, and after a change of the
//     owner record, the guest is looked at anew, soon.
//  8. A Defect is a mistake in this package, and is reported as one.
//
// # Files
//
// machine.go what happens, and what is remembered of it; action.go what is to be
// done; lease.go the lease and what this host says of itself; guard.go the
// watchdog; hold.go what the owner record asks of its holder; migrate.go a guest
// that moves; coordinate.go the coordinator, which gives a resource to a host and
// takes it from a lost one only with a proof; suspect.go whom to fence and what
// proves a loss; view.go what is true by what is known; explain.go what status
// says. docs/safety.md gives the argument why two hosts never run it at once.
package ha
