// Package libvirt is what all who call this host's libvirtd share: connections, what its answers mean, its settings and
// certificates, and the processes of QEMU. The driver of the protected guest (protected), the other guests (guests),
// their migrations (migration) and the storage pools (pools) stand on it.
//
// No call outlives its context, although libvirt's remote procedure calls have
// no deadline: when a context ends, the connection of the call is closed.
//
// The packages know package cluster and its libraries, never another adapter
// and never the core. They need Linux 5.3 (pidfd) and libvirt 6.
package libvirt
