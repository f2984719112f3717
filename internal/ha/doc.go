// Package ha holds every decision about where a protected guest may run. It is
// pure: no I/O, no clock, no goroutine, no randomness. The agent, the simulator
// and the tests all call the same function:
//
//	actions := ha.Decide(view)
//
// The caller fills a View with what it last saw (the store's records with their
// revisions and the time when each change was seen, and the truth on its own
// host), and carries the actions out. Decide is level-triggered: it remembers
// nothing, so it may be called at any time and as often as one likes, and a
// restarted agent decides as the old one would have.
//
// hold.go keeps the holder's promise (start only with a valid lease and an armed
// watchdog, stop at the deadline, say so). coordinate.go is the coordinator: it
// gives a resource to a host, and takes it from a lost one only with a proof.
// ARCHITECTURE.md gives the argument why two hosts never run it at once.
package ha
