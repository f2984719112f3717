package host

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/pair"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// TestATakeoverWaitsForWhatIsNotApplied: the time that is told of one grows by how far the standby is behind.
func TestATakeoverWaitsForWhatIsNotApplied(t *testing.T) {
	p := (&Part{cfg: config.Pair{Nodes: []string{"n1", "n2"}}}).Serve(nil)
	for name, c := range map[string]struct {
		change func(*group.Report, *cluster.HostStatus, *cluster.Takeover)
		want   time.Duration
	}{
		"it is behind": {func(*group.Report, *cluster.HostStatus, *cluster.Takeover) {}, 27 * time.Second},
		"nobody knows how far": {func(r *group.Report, _ *cluster.HostStatus,
			_ *cluster.Takeover) {
			r.LagKnown = false
		}, 8 * time.Second},
		"what a silent host said long ago": {func(_ *group.Report, h *cluster.HostStatus,
			_ *cluster.Takeover) {
			h.Alive = false
		}, 8 * time.Second},
		"no takeover is possible": {func(_ *group.Report, _ *cluster.HostStatus, to *cluster.Takeover) { *to = cluster.Takeover{} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			standby := group.Report{PairReport: cluster.PairReport{Role: "standby", Linked: true, Lag: 19 * time.Second, LagKnown: true}}
			active := group.Report{PairReport: cluster.PairReport{Role: "active", Lag: time.Hour, LagKnown: true}}
			hosts := []cluster.HostStatus{{Host: cluster.Host{Name: "n1"}, Alive: true}, {Host: cluster.Host{Name: "n2"}, Alive: true}}
			out := cluster.PairStatus{Takeover: cluster.Takeover{Possible: true, Within: 8 * time.Second}}
			c.change(&standby, &hosts[1], &out.Takeover)
			got, err := p.reported(out, hosts, []store.KV{
				{Key: group.KeySync, Value: records.Encode(pair.Sync{InSync: []cluster.HostID{"n1", "n2"}}), ModRev: 5},
				{Key: group.KeyNode + "n1", Value: records.Encode(active)},
				{Key: group.KeyNode + "n2", Value: records.Encode(standby)},
			})
			try.Must(t, err)
			if got.Takeover.Within != c.want {
				t.Errorf("within %s, want %s", got.Takeover.Within, c.want)
			}
		})
	}
}
