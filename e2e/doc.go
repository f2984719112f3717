// Package e2e holds the drills: the real program on the laboratory's hosts with
// real libvirtd and QEMU, real faults, an observer outside, and a client that
// asks the guest every 20 ms. Nothing but tests lives here; they need root, the
// packages of packaging/test-deps.sh and bin/holdfast (make build).
package e2e
