package install

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/testbed/try"
)

// member tells whether its host is installed, and notes as one of which cluster it is asked.
type member struct {
	in  *Installed
	mu  *sync.Mutex
	all *[]string
}

func (m member) Ask(_ context.Context, q Request) (Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := "no node"
	if q.Query.Pair != nil {
		of = "of " + q.Query.Pair.Cluster
	}
	*m.all = append(*m.all, q.Query.Host+" "+of)
	return Answer{Facts: &Facts{Installed: m.in}}, nil
}

func (member) Close() error { return nil }

// TestANewNodeIsAskedAsOneOfItsCluster: what the other node holds on a disk that both see is not a stranger's.
func TestANewNodeIsAskedAsOneOfItsCluster(t *testing.T) {
	on := config.PairShared{Disk: "/dev/sdb", Mount: "/mnt"}
	for name, c := range map[string]struct {
		shared *config.PairShared
		b      *Installed
		want   string
	}{
		"installed anew": {&on, &Installed{Cluster: "x"}, "a of ,a of x,b of ,c no node"},
		"a new cluster":  {&on, nil, "a of ,b of ,c no node"},
		"replication":    {nil, &Installed{Cluster: "x"}, "a of ,b of ,c no node"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := pairConfig()
			cfg.Pair.Shared = c.shared
			hosts := Members(cfg)
			var said []string
			r := &run{Options: Options{Config: cfg}, conns: map[string]Conn{}}
			for _, h := range hosts {
				in := map[string]*Installed{"b": c.b}[h.Name]
				r.conns[h.Name] = member{in, &r.mu, &said}
			}
			try.Must(t, r.gather(t.Context(), hosts))
			slices.Sort(said)
			if got := strings.Join(said, ","); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
