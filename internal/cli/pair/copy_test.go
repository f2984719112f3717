package pair

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

func TestCopyText(t *testing.T) {
	for name, c := range map[string]struct {
		c    *cluster.PairCopy
		want string
	}{
		"none":          {nil, ""},
		"done":          {&cluster.PairCopy{Stage: cluster.Copied, Bytes: 5}, ""},
		"the beginning": {&cluster.PairCopy{Stage: "receiving", About: 5e8}, "h2: receiving: 0 %, 0.0 MB of about 500.0 MB, 0s so far"},
		"of an old sender": {&cluster.PairCopy{Stage: "receiving", Bytes: 5e6, Rate: 1e6, Elapsed: 5 * time.Second},
			"h2: receiving: 5.0 MB received, 1.0 MB/s, 5s so far"},
		"it stands": {&cluster.PairCopy{Stage: "receiving", Bytes: 5e6, About: 1e9, Elapsed: time.Minute},
			"h2: receiving: 0 %, 5.0 MB of about 1.0 GB, 1m0s so far"},
		"in the middle": {&cluster.PairCopy{Stage: "receiving", Bytes: 6e10, About: 1e11, Percent: 60,
			Rate: 83_333_333, Elapsed: 12 * time.Minute, Left: 8 * time.Minute},
			"h2: receiving: 60 %, 60.0 GB of about 100.0 GB, 83.3 MB/s, 12m0s so far, about 8m0s left"},
		"more than about": {&cluster.PairCopy{Stage: "receiving", Bytes: 2e9, About: 1e9, Percent: 99, Rate: 2e9,
			Elapsed: time.Second}, "h2: receiving: 99 %, 2.0 GB of about 1.0 GB, 2.0 GB/s, 1s so far"},
		"all has come": {&cluster.PairCopy{Stage: "preparing", Bytes: 1e9, About: 1e9, Percent: 100,
			Elapsed: time.Second}, "h2: preparing: 100 %, 1.0 GB of about 1.0 GB, 1s so far"},
		"what it sends": {&cluster.PairCopy{Stage: "a\x1bb"}, "h2: a\ufffdb: 0.0 MB received, 0s so far"},
	} {
		n := cluster.PairNode{PairHost: cluster.PairHost{Host: "h2", Alive: true}, PairReport: cluster.PairReport{Copy: c.c}}
		if got := copyText(n); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if n.Alive = false; copyText(n) != "" {
			t.Errorf("%s: a node that is silent copies", name)
		}
	}
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
