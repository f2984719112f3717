// Package protected runs one guest on this host through libvirtd and
// QEMU, the one that Holdfast's own HA protects, and proves whether it runs.
//
// The process table is the truth: a guest is absent when no process of it
// exists, and killed when its process, told by pid and start time, is gone.
// libvirtd is only asked for what the process table can not tell (running,
// paused, migrating), and to start, shut down and migrate. So a libvirtd that is
// dead or frozen neither hides a guest nor keeps it alive.
//
// A call to start the guest does not end with its context: it may still be carried out by a libvirtd
// that thaws, so its connection stays open until the outcome is known, and until
// then the guest is not reported absent and not proved gone. What libvirtd says of
// its domains meanwhile is no proof. Kill, and a driver that finds a start which an
// earlier one has left open, end libvirtd where nothing else settles it: other guests
// go on, and the service manager starts it again.
package protected
