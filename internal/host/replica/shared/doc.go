// Package shared is the data path to a disk that both nodes of a pair see at once: a LUN of
// FC or iSCSI. There is one copy; who may write it is said by a SCSI-3 persistent
// reservation, where the device has it, and the file system on it says whose disk it is.
// See docs/adr/0047.
//
//	scsi.go   the commands and their answers, pure (SPC-4, T10/BSR INCITS 513)
//	sgio.go   one command to a device, by the ioctl SG_IO
//	disk.go   claim, release, holder
//	files.go  the file system on it, and whether the disk answers
//
// The reservation is of the type Write Exclusive. Of that type only the node that holds it
// writes; the other one, registered or not, may read, and looks at the file system so. With
// Exclusive Access it could not. Of the types Registrants Only and All Registrants a
// standby that is registered could write (SPC-4, "Persistent Reservations").
//
// Measured with tgt 1.0.85, QEMU 7.2 (scsi-block over iscsi://) and Linux 6.1 in two
// emulated hosts (testbed/drbdnode):
//
//   - A write of a node that does not hold the reservation ends with EIO; a read ends well.
//   - RESERVE by who holds it already ends well, by any other one with a reservation conflict.
//   - PREEMPT AND ABORT is an invalid field of the CDB there, and PREEMPT works. READ FULL
//     STATUS is one, too. So it is never asked which of two nexus with one key holds it: a
//     RESERVE that ends well says so.
//   - A release and a preemption by one node are a unit attention for the other one, at its
//     next command, which is not carried out: it is repeated.
//   - A node that boots is another nexus: its registration of before is there still.
//   - A direct read of a place that is dirty in the cache has the kernel write it first: EIO, where
//     the reservation is another's.
package shared
