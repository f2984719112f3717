// Package votedisk is the arbiter disk of a pair: a small file or a device that
// both nodes can write. Of each generation of the pair's store it names one winner,
// for ever, whoever asks, in whatever order, and however often they crash.
// See docs/adr/0045.
//
// It is Disk Paxos on one disk (Gafni and Lamport, "Disk Paxos", 2003, section 3)
// with two processes. Each node has a block of its own, which it alone writes:
//
//	generation, ballot (mbal), ballot of the vote (bal), vote (inp)
//
// A node takes a ballot that is its own, writes it, and reads the other's block; it
// votes for what was voted for at the highest ballot, else for itself, writes that,
// and reads again. A higher ballot of the other one ends the try. What is written
// with no higher ballot beside it is decided.
//
// A block lies in two sectors of 4096 bytes that are written in turn, with a number
// and a checksum. So a write that is torn leaves the block of before, as if it had
// not begun. Reads and writes pass by this host's cache and return when the disk
// has them (O_DIRECT, O_DSYNC); one mount or device must not cache for both.
//
// Generations only grow along a pair's life. A block of a later one tells who asks
// for an earlier one that it is over: it has lost.
package votedisk
