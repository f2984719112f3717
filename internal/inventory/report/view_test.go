package report

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

func TestWhereAGuestRuns(t *testing.T) {
	runs, off := Seen{SeenAt: time.Now()}, Seen{SeenAt: time.Now()}
	runs.VMs = []inventory.VM{{UUID: "u", Running: true}}
	off.VMs = []inventory.VM{{UUID: "u"}}
	silent := runs
	silent.SeenAt = time.Now().Add(-time.Hour)
	for what, c := range map[string]struct {
		seen map[cluster.HostID]Seen
		want cluster.HostID
	}{
		"before the first listing":      {nil, ""},
		"on no host":                    {map[cluster.HostID]Seen{"h1": off}, ""},
		"on one host, off on another":   {map[cluster.HostID]Seen{"h1": off, "h2": runs}, "h2"},
		"by the word of a silent host":  {map[cluster.HostID]Seen{"h1": silent}, ""},
		"on one host, lost by a silent": {map[cluster.HostID]Seen{"h1": silent, "h2": runs}, "h2"},
	} {
		v := &View{seen: c.seen, ready: c.seen != nil}
		if got, ok := v.Where("u"); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: on %q, %t; want %q", what, got, ok, c.want)
		}
	}
}
