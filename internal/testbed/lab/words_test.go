package lab

import (
	"reflect"
	"testing"

	"holdfast/internal/cluster"
)

// TestStanding: only the word of the holder's own agent counts, and only while that reaches a
// quorum; the others are those that could take the VM.
func TestStanding(t *testing.T) {
	good := func() cluster.Status {
		s := cluster.Status{Self: "h2", Connected: true, Members: []cluster.HostID{"h1", "h2", "h3"}, Owner: cluster.Owner{State: cluster.Running, Host: "h2"}}
		for _, h := range []cluster.HostID{"h1", "h2", "h3", "h4"} { // h4 runs guests only
			s.Hosts = append(s.Hosts, cluster.HostStatus{Host: cluster.Host{Name: h, Fit: true}, Alive: true})
		}
		return s
	}
	for _, c := range []struct {
		name string
		edit func(*cluster.Status)
		want standing
	}{
		{"all well", func(*cluster.Status) {}, standing{"h2", []string{"h1", "h3"}}},
		{"a host is silent", func(s *cluster.Status) { s.Hosts[0].Alive = false }, standing{"h2", []string{"h3"}}},
		{"a host is not fit", func(s *cluster.Status) { s.Hosts[2].Fit = false }, standing{"h2", []string{"h1"}}},
		{"another host has it", func(s *cluster.Status) { s.Self = "h1" }, standing{}},
		{"it is being started", func(s *cluster.Status) { s.Owner.State = cluster.Assigned }, standing{}},
		{"no quorum", func(s *cluster.Status) { s.Connected = false }, standing{}},
		{"the agent does not answer", func(s *cluster.Status) { *s = cluster.Status{} }, standing{}},
	} {
		s := good()
		c.edit(&s)
		if got := standingOf(s); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
