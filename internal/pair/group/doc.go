// Package group runs the group of a pair on one node. It follows the store, looks
// at the node, asks the core (package pair) what to do, and carries it out. To
// package ha it is a driver like a hypervisor's: what starts, is killed and
// migrates is the group.
// See docs/adr/0042, 0046, 0049 and 0054.
//
//	driver.go  the driver, as the loop of package ha calls it
//	run.go     the loop: one goroutine owns the core
//	act.go     one function per action of the core
//	database.go  a copy of the data that is a MariaDB server
//	device.go  one that is a DRBD device
//	beside.go  a copy with a partition beside it, a second DRBD device
//	change.go  the group gets other parts while it goes on
//	make.go    what the group begins with on a new device
//	mount.go   a member: the file system on it
//	server.go  another one: a MariaDB server on it
//	above.go   what stands on it, and hangs with it
//	member.go  members of the group: programs, and the virtual address
package group
