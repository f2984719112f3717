// Package metrics tells a monitoring system how the cluster stands, in the text format of Prometheus. What it tells is
// what a status, the lists of jobs and of hosts, and the log of events say: it has no judgement of its own, and what is
// not known is absent. Names and units follow the conventions of Prometheus; docs/metrics.md has the table.
//
// A host has series of its own only as a member of the store. Hosts that run guests only are counted by state, so that
// thousands of them add no series.
package metrics
