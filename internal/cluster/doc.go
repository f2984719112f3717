// Package cluster holds the words of the domain: hosts, the owner record of a
// protected guest, epochs, proofs, desired state and events, with their JSON
// forms and validation. It does no I/O, reads no clock and depends on the
// standard library alone, so that everything else may import it.
package cluster
