// Package lab is the laboratory: three to nine hypervisor hosts on one Linux
// machine, each with its own libvirtd and real QEMU guests (plain emulation,
// no KVM), joined by a switch without an uplink, and the faults that a product
// for high availability must survive: loss of power, isolation, a one-way cut,
// a whole host that stands still, a daemon that hangs or dies,
// storage that hangs, a network disk without locks, a wrong clock, and management
// controllers that lie, refuse, linger or are dead.
//
// # What a host is
//
// A host is one process in its own mount, uts, ipc, network and PID
// namespaces: the program holdfast-lab, run again as "holdfast-lab __init", as PID 1. All
// processes of the host hang off it, so that SIGKILL of this one pid is a loss
// of power: the kernel ends everything in the PID namespace at once. What lies
// in the host's folder (its disk) stays; /run, /dev and sockets go. At each
// power-on the host has a new boot id. PID 1 supervises the host's daemons as
// systemd's Restart=always would.
//
// A host's simulated watchdog runs outside it (the process "holdfast-lab __watchdogs"),
// so that it fires when the whole host is frozen, and takes the host's power.
//
// A host's management controller (Options.BMCs) is a real ipmi_sim outside of
// it, at 10.98.K.(100+N) on the switch: reached by all hosts, whatever becomes
// of its own one. It asks the process "holdfast-lab __bmcs" for the state of the power
// and tells it what to switch. An isolated host reaches no controller.
//
// With Options.OwnSystem a host writes to its own view of /usr, /etc, /opt,
// /var/lib, /var/cache and /var/log: an overlay of the machine's, whose changes
// lie on the host's disk. A package that is installed on a host is on no other
// one, and not on the machine. What the machine itself changes there meanwhile
// may or may not be seen by the hosts. Packages start no services.
//
// A host reboots at its own request (RebootArgv, or from outside Reboot): it
// asks at its power socket in PowerDir, the process "holdfast-lab __power" outside ends
// all processes of the host by SIGTERM and after 1 s by SIGKILL, and powers it
// on again 2 s later.
//
// # Guests
//
// StartGuest, or the agents (Options.Agents), run the guest that stands for the
// management VM. Options.Guests adds business guests: small persistent domains
// vm1, vm2, ... on the hosts in turn, none started by libvirt when a host boots.
// Each has an address of its own on every host, answers pings and AskVM with a
// boot id, and shuts down when libvirt asks its guest agent. The first one has
// a disk in the pool SharedPool. WatchGuests counts the pings that each loses.
//
// The guest's disk is a locked file in the shared folder, or (DiskNBD) one that
// a server on the switch gives to every host without any lock, or (DiskCeph) an image
// in the pool of a real Ceph cluster there.
//
// # What the laboratory is not
//
// All hosts share one kernel: no kernel panic of one host, no loss of its page
// cache at power loss, one clock (StepClock deceives only Holdfast's own
// processes), and the shared folder is one local file system with its own locks
// instead of NFS.
//
// # Rules
//
// Every process that the laboratory starts waits at a gate until its pid and
// start time are in state.json; if the starter dies first, it ends. So Down
// finds all of them, whatever happened before, and never kills a reused pid.
// Nothing of the laboratory talks to an address from the machine's own network
// namespace: use InSwitch, Dial, Ping.
//
// Root is needed. Missing lists the packages that are not there.
package lab
