// Package sim is a simulated cluster in virtual time: hosts with their own
// clocks, watchdogs and hypervisors, a store behind a network that loses and
// delays, and on each host an agent that drives the same ha.Machine as the real one.
// Faults come from a scenario (a small text) or from a seed, and after every
// step the rules of the safety model are checked against what is true in the
// simulated world, not against the records.
//
// One goroutine, one event queue, one seeded source of randomness: the same
// scenario always gives the same events. A violation prints the scenario that
// repeats it.
//
// Files: world.go time and queue; store.go the store and its watches; net.go
// messages; beat.go heartbeats; host.go power, freezing and clocks; dog.go the
// watchdog; bmc.go fence devices; hyper.go the hypervisor; migrate.go its
// migrations; restore.go backups of the store; agent.go and act.go the agent;
// fault.go and timing.go the commands; scenario.go the text; proof.go and
// check.go the invariants; campaign.go, random.go and focus.go random scenarios;
// command.go `holdfast-lab simulate`. docs/simulator.md is for users. Nothing here may
// read a real clock or start a goroutine.
package sim
