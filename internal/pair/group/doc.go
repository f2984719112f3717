// Package group runs the group of a pair on one node. It follows the store, looks
// at the node, asks the core (package pair) what to do, and carries it out. To
// package ha it is a driver like a hypervisor's: what starts, is killed and
// migrates is the group.
// See docs/adr/0042, 0046, 0049 and 0054.
//
//	driver.go    the driver, as the loop of package ha calls it
//	run.go       the loop: one goroutine owns the core, one function per action of it
//	orders.go    what people and the store ask for: a beginning, another composition, a choice of copies
//	report.go    what this node tells of itself, and for how long clients were kept out
//	database.go  a copy of the data that is a MariaDB server
//	device.go    one that is a DRBD device
//	beside.go    a copy with a partition beside it, a second DRBD device
//	copy.go      what copies share
//	compare.go   both databases are compared row by row
//	member.go    members of the group: programs and the virtual address
//	unit.go      another one: a unit of systemd
//	mount.go     another one: the file system, and what stands on it and hangs with it
//	server.go    another one: a MariaDB server on it
//	voter.go     a host that only votes in the store
package group
