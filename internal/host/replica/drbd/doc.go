// Package drbd drives one DRBD device of two nodes by drbd-utils. The kernel keeps the
// copies the same; this package lets it acknowledge a write without the peer, and make a
// node the primary, only when its caller has decided so.
// See docs/adr/0044.
//
// The device has protocol C and "fencing resource-and-stonith". Measured with 8.4.11, and the same with 9.2.16, which is
// told of its peer apart (Up):
//
//   - A primary that loses its peer freezes all writes and runs the handler "fence-peer"
//     once. What the handler answers decides: 4 goes on at once, 1 leaves it frozen. A link
//     that comes back thaws it by itself, after the peer has got the frozen writes.
//     "drbdadm resume-io" thaws it, too, and begins a new generation of the data.
//   - A secondary whose peer is not connected becomes the primary only when the handler says
//     so (4, 5 or 7), and then writes freely. "drbdadm suspend-io" before it keeps all
//     writes back, and a mount waits.
//   - Once a handler has said that the peer is outdated, this is remembered: it is not asked again.
//   - A frozen write whose link is gone for good ends well when it is thawed.
//
// So the handler (Handle) says yes for two reasons only: the mark of Alone, and the mark of
// a Promote that is under way, whose writes are suspended until Alone. Alone writes its mark
// first, and then thaws: a loss of before is thawed by resume-io, a later one by the
// handler's answer. No other method thaws a primary, but Thaw, for a node where nobody is
// left who could be told.
//
// The marks lie in a directory that is empty after a boot. The option --force is used by
// Keep only, for a copy that a person chose.
package drbd
