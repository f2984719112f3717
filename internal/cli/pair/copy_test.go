package pair

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// TestCopiedText: the copies that are whole.
func TestCopiedText(t *testing.T) {
	p := cluster.PairStatus{Nodes: []cluster.PairNode{
		{PairHost: cluster.PairHost{Host: "h1"}},
		{PairHost: cluster.PairHost{Host: "h2"},
			PairReport: cluster.PairReport{Copy: &cluster.PairCopy{Stage: cluster.Copied, Bytes: 1e11, Rate: 83_333_333,
				Elapsed: 20 * time.Minute}}},
	}}
	if got, want := copiedText(p), "h2: copied: 100.0 GB in 20m0s, 83.3 MB/s\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
