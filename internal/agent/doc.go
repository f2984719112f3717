// Package agent is the daemon of a host: the composition root. It reads the settings,
// keeps the store's member and the watchdog's holder running, serves the API, and runs the
// loop of package ha/loop and this host's part in jobs.
//
//	run.go       start: identity, lock, certificates, children, wiring
//	settings.go  what the files say
//	work.go      the tools that have jobs, and the engine with which they register
//	rights.go    what hosts that run guests only may write
//	restore.go   the commands that work while the agent is stopped
//	trouble.go   what does not work on this host
//	pair.go      the group of a pair, composed of its parts; and pair_*.go
//	arbitration.go  a pair without a third voter: drives package pair/arbiter; and arbitration_*.go
//
// No decision is made here.
package agent
