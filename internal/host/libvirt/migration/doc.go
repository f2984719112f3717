// Package migration is what the migrations of the protected guest and of all others have in common: how the target is
// reached, whether memory travels encrypted, the call by which libvirtd carries out the whole of it, what is told
// while it runs, how it is aborted, also where QEMU hangs, and what libvirtd writes into the guest's log about its end.
// What arrives, and who may let it go on, is decided by those who call it.
package migration
