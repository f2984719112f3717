// Package loop drives the core (package ha) on one host. It follows the store, observes
// the guest, asks the core what to do, and carries it out on the drivers.
//
//	loop.go        the loop: everything that happens is a function posted to it
//	state.go       what the loop owns, and how records reach the core
//	follow.go      the store's records, listed and watched
//	observe.go     the guest, the watchdog, the ability to start
//	health.go      the guest's health and the shared storage
//	act.go         one function per action of the core
//	fence.go       fence devices
//	care.go        members of the store, backups
//	spec.go        what the guest is on this host
//	booted.go      the configuration that the running guest has
//	password.go    the password of the guest's root
//	reconfigure.go configurations imported while the cluster runs
//	member.go      members that are replaced
//	generation.go  restores of the store
//	trim.go        the log kept short
//	service.go     status, events and requests for the API
//	jobs.go        what jobs ask of it
//	permits.go     what hosts that run guests only may write
//
// One goroutine, the loop, owns all mutable state; others only post functions
// to it. No decision is made here.
package loop
