// Package engine carries jobs out: it keeps their plans and journals in the
// store, and moves them on.
//
// The scheduler of the coordinator's agent asks the job's Planner which steps may
// begin, and grants them. The worker of each host claims what is granted to it,
// lets an Executor do it, and writes what became of it. Neither decides anything about
// upgrades: the first is told by a pure Planner, the second by the record.
//
// Below job/ in the store:
//
//	run/KIND        the job of the kind, at most one
//	plan/ID/NNNN    its plan, compressed, in pieces; never changes
//	step/ID/STEP    the record of a step; one without a record is pending
//	todo/HOST/KIND  which steps the host has to look at, and the job's state; host "." is the coordinator
//	waits/KIND      why nothing more begins
//	old/ID          jobs that have ended; the last ones are kept
//
// A worker follows its own todo keys and reads single records. So a host's share
// of the store's work does not grow with the number of hosts.
//
// What makes it safe: every write compares the revision of what it was decided
// on. A grant compares the coordinator's record (the term), the job and the step;
// a claim compares the job and the step; a result compares the claim. A write
// whose answer was lost is read back, or made void before the next decision.
package engine
