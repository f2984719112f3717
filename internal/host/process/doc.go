// Package process drives a guest that is an ordinary process of this machine in
// place of a virtual machine. It needs neither root nor a hypervisor: the demo
// and tests run whole clusters with it, several hosts on one machine.
//
// The guest's process carries its identity twice: in its arguments
// (--host, --epoch, --uuid, so that /proc/PID/cmdline shows them) and in its
// environment (HOLDFAST_GUEST, HOLDFAST_EPOCH, HOLDFAST_HOST, so that processes
// that it starts carry it too). The host's name is part of the identity, since
// here several hosts share one process table. What runs is read from that table
// and from nothing else: no pid file, no memory.
package process
