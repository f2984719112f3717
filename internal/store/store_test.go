package store

import "testing"

// TestSaid: people are told of a write without an answer in other words than those of the code.
func TestSaid(t *testing.T) {
	for in, want := range map[string]string{
		"transaction: outcome unknown: context deadline exceeded":      "the store did not acknowledge a write: context deadline exceeded",
		"record the wish: transaction: outcome unknown":                "record the wish: the store did not acknowledge a write",
		"transaction: store not available: etcdserver: no leader":      "store not available: etcdserver: no leader",
		"the generation of the store is older than what this host had": "the generation of the store is older than what this host had",
	} {
		if got := Said(in); got != want {
			t.Errorf("%q is told as %q, want %q", in, got, want)
		}
	}
}
