// Package drbdnode makes two hosts under QEMU without KVM, with a Debian kernel and the
// real DRBD in it: the kernel's own 8.4, or a module 9 that was built for it (node.sh). Each
// has a disk that survives a loss of power, a link to the other one that can be cut, and a way
// in for commands that needs no such link.
//
// What runs inside, beside the programs of Debian, is one static program of the caller: its
// first argument is "serve" when it is to call Serve.
package drbdnode
