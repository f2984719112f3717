// Package agent is the daemon of a host: the composition root and the one main
// loop. It follows the store, observes the guest on this host, asks its core (package ha)
// what to do, and carries it out on the drivers.
//
//	agent.go    the loop: everything that happens is a function posted to it
//	state.go    what the loop owns, and how records reach the core
//	follow.go   the store's records, listed and watched
//	observe.go  the guest, the watchdog, the ability to start
//	act.go      one function per action of the core
//	spec.go     what the guest is on this host
//	records.go  keys and JSON of the records in the store
//	trim.go     the log kept short
//	service.go  status, events and requests for the API
//	run.go      start: identity, lock, certificates, children, wiring
//
// One goroutine, the loop, owns all mutable state; others only post functions
// to it. No decision is made here.
package agent
