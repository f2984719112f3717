package install

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
)

// TestReplacedMembers: one member may be another one, and only in a cluster that runs.
func TestReplacedMembers(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []string // nil: no cluster runs
		in     *Installed
		want   []string
	}{
		{"one of another name and address", []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.9 z"}, nil, nil},
		{"one at another address", []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.9 c"}, nil, nil},
		{"one of another name", []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.3 z"}, nil, nil},
		{"the machine itself, under its old name", []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.3 z"},
			&Installed{Cluster: "x", Host: "z", Active: true}, nil},
		{"the machine of another cluster", []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.9 z"},
			&Installed{Cluster: "y", Host: "k"}, []string{" cluster"}},
		{"two", []string{"192.0.2.1 a", "192.0.2.8 y", "192.0.2.9 z"}, nil, []string{"a cluster", "b cluster"}},
		{"no cluster runs", nil, nil, []string{"a cluster", "b cluster"}},
	} {
		cfg, all := testConfig(), good()
		now := cfg
		var before *config.Cluster
		members := []string{"192.0.2.1 a", "192.0.2.2 b", "192.0.2.9 z"}
		if c.before != nil {
			now.Node = c.before
			members, before = c.before, &now
		}
		for i := range 2 {
			all[i].facts.Installed = &Installed{Cluster: "x", Host: all[i].host.Name, Active: true, Store: true, Members: members}
		}
		if c.in != nil {
			c.in.Members = members
			all[2].facts.Installed = c.in
		}
		if got := failed(judge(cfg, config.Node{}, all, before, nil)); !slices.Equal(got, c.want) {
			t.Errorf("%s: failed %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhoCanDoWithout(t *testing.T) {
	for text, want := range map[string]string{
		`{"members":[{"name":"a","reachable":true},{"name":"b","reachable":true},{"name":"c"}]}`:                                            "",
		`{"members":[{"name":"a","reachable":true},{"name":"b","reachable":true},{"name":"c","reachable":true}]}`:                           "",
		`{"members":[{"name":"a","reachable":true},{"name":"b"},{"name":"c"}]}`:                                                             "of the other 2 members of the store 1 do not answer (b)",
		`{"members":[{"name":"a","reachable":true},{"name":"b"},{"name":"c","reachable":true}]}`:                                            "without c there is no majority",
		`{"members":[{"name":"a","reachable":true},{"name":"b","reachable":true},{"name":"","learner":true},{"name":"c"}]}`:                 "",
		`{"members":[{"name":"a","reachable":true},{"name":"b","reachable":true},{"name":"e","reachable":true},{"name":"d"},{"name":"c"}]}`: "",
	} {
		var st storeStatus
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			t.Fatal(err)
		}
		if got := st.away("c"); got != want && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
