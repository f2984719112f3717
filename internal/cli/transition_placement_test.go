package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/platform"
	"holdfast/internal/transition/platform/collect"
	"holdfast/testbed/need"
)

// TestRealPlacement: what a platform that was carried over lacks in Placement, the real nova-manage makes, and that is
// read back; again, it does nothing; what it can not make is told.
func TestRealPlacement(t *testing.T) {
	need.Drill(t, "360, after the hosts: the real nova-manage makes allocations and aggregates, which are read back")
	c := nettest.StartCloud(t, nettest.MariaDB)
	guest := c.Guest("vm1")
	c.Call("POST", "compute", "/os-aggregates", "", map[string]any{"aggregate": map[string]string{"name": "fast",
		"availability_zone": "z1"}}, nil)
	// as rows are carried over
	c.DB.SQL("INSERT INTO nova_api.aggregate_hosts (host, aggregate_id, created_at) VALUES ('" + nettest.Hosts[1] + "', 1, utc_timestamp())")
	c.Call("DELETE", "placement", "/allocations/"+guest, "1.1", nil, nil)
	for _, name := range []string{"OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME",
		"OS_PROJECT_DOMAIN_NAME"} {
		t.Setenv(name, c.Keys.Env(name))
	}
	run := func(args ...string) said {
		var out, errs bytes.Buffer
		code := Main(args, command.Env{Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(""), Collect: collect.Collect})
		return said{code, out.String(), errs.String()}
	}
	if s := run("transition", "collect"); !strings.Contains(unwrapped(s), "has guests without an allocation: "+guest) ||
		!strings.Contains(unwrapped(s), "in Nova's: fast") {
		t.Errorf("before: %s%s", s.out, s.err)
	}
	place := slices.Concat([]string{"transition", "placement", "-o", "json", "--"}, c.NovaManage())
	for i, code := range []int{0, 4} { // of heal_allocations
		s := run(place...)
		r := decode[placedDoc](t, s, 0)
		if len(r.Steps) != 3 || r.Steps[1].Exit != code || r.Steps[1].Fault != "" || len(r.Findings) != 1 || r.Findings[0].Result != "pass" {
			t.Errorf("run %d: %+v\n%s", i, r, s.err)
		}
	}
	c.DB.SQL("DELETE FROM placement.allocations; DELETE FROM nova_api.host_mappings WHERE host = '" +
		nettest.Hosts[1] + "'; UPDATE nova.compute_nodes SET mapped = 1; " +
		"UPDATE nova.instances SET node = 'gone' WHERE uuid = '" + guest + "'")
	s := run(place...)
	r := decode[placedDoc](t, s, 1)
	if r.Steps[1].Exit != 2 || !strings.Contains(r.Steps[1].Fault, "has no compute node") || r.Steps[2].Exit != 4 ||
		!strings.Contains(r.Steps[2].Fault, "not mapped to a cell") || r.Findings[0].Result != "fail" {
		t.Errorf("%+v\n%s", r, s.err)
	}
}

// placedDoc is what the command prints with -o json.
type placedDoc struct {
	Steps []struct {
		Exit  int
		Fault string
	}
	Findings []platform.Finding
}
