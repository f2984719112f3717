// Package explore tries every course of a small cluster up to a depth: three
// hosts, one guest, a store, and the real core (ha.Machine). Where package
// sim draws one course at random, this one follows them all and remembers every
// state that it has met, so that it says "there is none" within its scope.
//
// The world is a plain value (state.go). Time goes in ticks of two seconds: T is
// 3 of them, a keepalive 1, G 1, W 2, and epsilon 0, so that every instant at
// which something may happen one tick too early or too late is met exactly. A
// step is one thing that happens: a message is taken by the store, or answered;
// an action on a host ends; a fault; a repair; a tick. An agent decides within
// the step by which it learns something new, as the real one does.
//
// What is due happens promptly and in a fixed order, unless the explorer spends
// something: a fault (a message or a reply is lost, power goes, a host or an
// agent freezes, a cut, a stall of the store, a fence device or a kill that
// fails) or a delay (one message or action is held back, for any time, while all
// else goes on; a watch or a look that lags). Repairs and the end of a delay are
// free, at any later step. All courses within what may be spent are followed:
// every fault at every step, in every order. With Options.AnyOrder what is due
// happens in every order too.
//
// Faults and repairs of a host happen between ticks, before something that
// concerns it, or before a write or an election is taken; not between the
// renewals of two others. The model takes for granted what the core does: a look
// at the guest shows no absence while the hypervisor may still carry out a start,
// the source of a migration goes on only if the target certainly does not run the
// guest, and a fence device does not lie when its state is read back. Package
// mutants shows what follows when they do not hold.
//
// States are told apart by 127 bits of a SHA-256 of their canonical form: with
// n states the probability that any two are mistaken for one is below n*n/2^128,
// 3e-25 for ten million.
//
// Files: state.go the world; canon.go its canonical form, which makes equal what
// can not be told apart, and the hash; step.go what may happen next; happen.go
// and fault.go what it does; store.go transactions, watches and restores; hyper.go
// guests and migrations; agent.go actions of the core; core.go how the core is
// filled and kept; names.go the words of small numbers; check.go the rules;
// begin.go the states from which it sets out; search.go the search; set.go the
// states met; print.go and main.go what people see. The model has no goroutine;
// the search has a few.
package explore
