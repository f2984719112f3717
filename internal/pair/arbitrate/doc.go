// Package arbitrate drives package arbiter: it keeps the store of a pair without a third voter. It
// looks at this node's member of the store and asks the peer's agent, has the machine decide, carries
// its actions out, and tells it how they ended. What its caller owes the machine is listed there.
//
// It stands on three ports: what decides which node goes on alone (Arbiter: fence devices, addresses,
// a disk), what the pair keeps up (Group), and who runs that (Core). It decides nothing itself but one
// thing: of two nodes that were both told whose data are kept, both go by the same word.
package arbitrate
