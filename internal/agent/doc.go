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
//	pair.go      what this host's part in a pair is made of
//	peers.go     the agents of other hosts, as the tools know them
//
// No decision is made here.
package agent
