// Package upgrade is the vocabulary of upgrades, and what is decided in them. It
// is pure: no I/O, no clock. Package bundle reads and writes the files.
//
// A manifest says what a bundle holds and how it is installed; an inventory says
// what is there; Options say how an operator wants it to go. Build makes a Plan of
// the three: steps on hosts with their order, where guests go meanwhile, and
// findings, some of which block it. PlanRollback and PlanCommit make the plans that
// may follow. A Planner says which steps of a plan may begin now: it is what
// package job's engine asks.
package upgrade
