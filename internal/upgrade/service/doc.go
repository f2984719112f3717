// Package fleet is what an agent does for jobs besides keeping the management VM
// up: it tells the store what this host has (guests, memory, kernel, pools), reads
// what all hosts have told, and carries out the steps of upgrades on this host
// with the adapters of internal/host. It decides nothing: which step comes next
// is the planner's word, brought by internal/job/engine.
package service
