// Package ceph knows one image in a Ceph pool: whether it can be used from this host,
// who has it open, and how those are locked out for good. It asks by the programs of
// Ceph's own package ceph-common, each a process that is ended when its time is over:
// a cluster that does not answer lets a client wait for minutes.
// See docs/adr/0036.
//
// To lock a client out is to put its address on the cluster's blocklist. An address
// has a number that each client draws when it begins, so an entry means one process,
// and no later one of that host. No OSD takes a write of such a client any more once it
// knows the entry, and it knows it before it takes the first operation of a client that
// began after the entry was made.
package ceph
