// Package libvirt runs one protected guest on this host through libvirtd and
// QEMU, and proves whether it runs.
//
// The process table is the truth: a guest is absent when no process of it
// exists, and killed when its process, told by pid and start time, is gone.
// libvirtd is only asked for what the process table can not tell (running,
// paused, migrating), and to start, shut down and migrate. So a libvirtd that is
// dead or frozen neither hides a guest nor keeps it alive.
//
// No call outlives its context, although libvirt's remote procedure calls have
// no deadline: when a context ends, the connection of the call is closed. A call
// to start the guest is the exception: it may still be carried out by a libvirtd
// that thaws, so its connection stays open until the outcome is known, and until
// then the guest is not reported absent and not proved gone. What libvirtd says of
// its domains meanwhile is no proof. Kill, and a driver that finds a start which an
// earlier one has left open, end libvirtd where nothing else settles it: other guests
// go on, and the service manager starts it again.
//
// Fleet is the other guests of this host, as libvirtd reports them: no fencing is involved. What
// a migration has brought stands still until it is resumed (docs/adr/0018, 0021).
//
// The package knows package cluster and its libraries, never another adapter
// and never the core. It needs Linux 5.3 (pidfd) and libvirt 6.
package libvirt
