// Package heartbeat tells members quickly that one of them has fallen silent.
//
// Each member sends every other one a small UDP datagram at each interval, while
// its agent's main loop turns (Beats.Pulse). The datagram also carries the
// sender's view: how long ago it last heard each host. What came is handed out
// as cluster.Word values; who is suspect is decided elsewhere, from them.
//
// A heartbeat proves nothing about a guest. It may be lost, late, doubled or
// forged by a thief of the key: then a host is suspected too early or too late,
// and nothing is started for that reason alone.
//
// Datagrams are authenticated with HMAC-SHA256 and a secret that the cluster
// shares. The rules about replays, new processes of a peer and stalls of this
// process are in one type without I/O, table. Instants are readings of the clock
// in Options; no wall clock is used, and only ages are sent.
package heartbeat
