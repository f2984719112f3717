// Package pacemaker runs Pacemaker and Corosync, as Debian packages them, on
// the hosts of the laboratory, with the same guest, the same kind of fence
// device and the same client as Holdfast's drills, so that the outages of both
// can be measured in one run on one machine.
//
// What is given to it so that nobody can say it was handicapped: a resource
// agent that does nothing but `virsh create`, `virsh destroy` and `virsh
// domstate` (faster than VirtualDomain, which Options.Resource offers as well),
// a fence agent that is one shell script around ipmitool (faster than
// fence_ipmilan), and a profile with a token of 1 s and a monitor of 1 s next
// to the one that leaves everything at its default.
//
// A cluster keeps the laboratory's guest, an address with a web server, or what
// a pair has: MariaDB with a replica, a service and an address (Options.Work).
// The agent of the database is ocf:heartbeat:mariadb as it is packaged. The
// guest's domain has the devices of the one that Holdfast's agent starts; name,
// UUID and the place of the seed differ.
//
// It needs root and the packages that Missing lists, and leaves nothing behind
// after Down.
package pacemaker
