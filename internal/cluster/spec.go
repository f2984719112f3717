package cluster

import (
	"errors"
	"net/netip"
)

// GuestSpec is what a driver needs to start the resource on one host.
type GuestSpec struct {
	Resource  ResourceID
	Epoch     Epoch  // the token that the start carries
	UUID      string // of the domain, the same on every host
	Name      string // of the domain
	Arch      string // of its machine, libvirt's name; "": the host's
	MemoryMiB int
	CPUs      int
	Image     string // path of the disk image
	RBD       *RBD   // it is in a Ceph pool; Image names it for people
	// XML of the operator's own domain, in place of what the fields Arch, MemoryMiB, CPUs, Image, NICs and Boot say; ""
	// for none
	Domain    string
	Folder    string // a directory that all hosts share, for Domain
	Seed      string // path of a NoCloud seed ISO, "" for none
	NICs      []NIC
	Boot      *DirectBoot // nil: boot from the image
	Emulate   bool        // no KVM on this host: plain emulation
	OnPanic   string      // destroy (default), coredump or preserve: what the hypervisor does when the guest's kernel panics
	VNC       *VNC        // a console; nil: none
	Lockspace string      // virtlockd's directory on the shared storage; empty: no lock manager
}

// RBD is an image in a Ceph pool.
type RBD struct {
	Mons    []string // HOST or HOST:PORT of monitors
	Pool    string
	Image   string
	User    string // of Ceph, without "client."
	Keyring string // file with the user's key; its owner alone may read it
}

// NIC is a network card of the guest.
type NIC struct {
	Bridge string
	MAC    string
}

// Card is the address that a network card of the guest should have on one host.
type Card struct {
	MAC       string       // lower case
	Addr      netip.Prefix // with its own bits
	Gateway   netip.Addr   // of the default route; invalid: it does not go over this card
	Elsewhere []netip.Addr // that it has on other hosts
}

// VNC is a console at the host's address.
type VNC struct {
	Listen       string // IP address
	PasswordFile string // its owner alone may read it
}

// DirectBoot lets the hypervisor load a kernel itself (paths on the host).
type DirectBoot struct {
	Kernel  string
	Initrd  string
	Cmdline string
}

// Errors of drivers that callers branch on.
var (
	// ErrNotStarted: the start was refused before anything could run.
	ErrNotStarted = errors.New("not started")
	// ErrInUse: another process, on this host or another one, has what the guest needs for itself.
	ErrInUse = errors.New("the guest's disk is in use by another process, here or on another host")
	// ErrNotProved: the process may still exist.
	ErrNotProved = errors.New("not proved to have ended")
	// ErrNoAgent: no agent in the guest answers.
	ErrNoAgent = errors.New("qemu-guest-agent in the guest does not answer")
)
