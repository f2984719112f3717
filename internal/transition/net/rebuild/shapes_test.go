package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// ask sends a request to a Neutron as an administrator, and reads the object of the answer.
func ask(t *testing.T, s *nettest.Server, method, path string, body any) map[string]any {
	t.Helper()
	var text []byte
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		try.Must(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint()+"/v2.0/"+path, bytes.NewReader(text))
	try.Must(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Roles", "admin")
	req.Header.Set("X-Project-Id", fmt.Sprintf("%032d", 5))
	res, err := http.DefaultClient.Do(req)
	try.Must(t, err)
	said, err := io.ReadAll(res.Body)
	try.Must(t, errors.Join(err, res.Body.Close()))
	var all map[string]map[string]any
	if res.StatusCode > 299 {
		t.Fatalf("%s %s: %s: %s", method, path, res.Status, said)
	}
	if json.Unmarshal(said, &all) != nil { // an answer without an object
		return nil
	}
	for _, o := range all {
		return o
	}
	return nil
}

// TestShapes: what a platform has beside plain networks is on a real Neutron as it was, and each rule as narrow. Both ways to
// read it tell the same, and what is not carried over is told by kind and ID.
func TestShapes(t *testing.T) {
	need.Drill(t, "360, network: QoS, trunks, routers, floating IPs, address groups and all other shapes are rebuilt "+
		"through kills, and are equal")
	s := nettest.StartWithMore(t, nettest.MariaDB, "neutron")
	ctx := aWhile(t)
	d := nettest.Shapes()
	try.Must(t, d.Check("shapes"))
	order := Order{API: API{Endpoint: s.Endpoint()}, DB: database(s), Jobs: 4, Applied: filepath.Join(t.TempDir(), "applied")}
	for _, at := range []string{"POST /v2.0/subnets", "PUT /v2.0/ports/" + d.Trunks[0].PortID} { // where it is ended in the middle
		ends, end := context.WithCancel(ctx)
		p := nettest.NewProxy(t, s)
		p.Fault = func(r *http.Request, _ int) nettest.Fault {
			if r.Method+" "+r.URL.Path != at {
				return nettest.None
			}
			end()
			return nettest.Down
		}
		o := order
		o.API.Endpoint = p.URL
		if _, err := Apply(ends, d, o, silent); !errors.Is(err, context.Canceled) {
			t.Fatalf("apply that is ended at %s: %v", at, err)
		}
		end()
	}
	r, err := Apply(ctx, d, order, silent)
	if err != nil {
		if left, err := differs(ctx, d, order.API, false); err == nil {
			for _, x := range left {
				t.Log(Text(x))
			}
		}
		t.Fatalf("%v\n%s", err, s.Log())
	}
	if want := []string{"60000000-0000-4000-8000-000000001003", "60000000-0000-4000-8000-000000001009",
		"60000000-0000-4000-8000-000000001010"}; !slices.Equal(r.Unbound, want) {
		t.Errorf("without a host: %v, want %v", r.Unbound, want)
	}
	all := 0
	for _, n := range d.Counts() {
		all += n
	}
	if again, err := Apply(ctx, d, order, silent); err != nil || len(again.Created) > 0 || len(again.Renewed) > 0 || again.Equal != all {
		t.Errorf("applied again: %+v, %v; want %d equal", again, err, all)
	}
	parent := ask(t, s, "GET", "ports/60000000-0000-4000-8000-000000001006", nil)
	if got := fmt.Sprint(parent["binding:vif_details"]); !strings.Contains(got, "bridge_name:tbr-80000000-0") {
		t.Errorf("the port of a trunk is bound to %s, want the trunk's bridge", got)
	}
	shapesChanged(t, s, d, order)

	// The old platform has more, which is not carried over.
	router := ask(t, s, "POST", "routers", map[string]any{"router": map[string]any{"name": "r",
		"project_id": d.Networks[0].ProjectID, "distributed": true}})["id"].(string)
	ask(t, s, "PUT", "quotas/"+d.Networks[0].ProjectID, map[string]any{"quota": map[string]any{"port": 99}})
	api, byRows := filepath.Join(t.TempDir(), "api.json"), filepath.Join(t.TempDir(), "rows.json")
	old, err := Export(ctx, order.API, api, nil)
	try.Must(t, err)
	if got, want := fmt.Sprint(old.KindsLeftOut()), "[quota 1: "+d.Networks[0].ProjectID+" router 1: "+router+"]"; got != want {
		t.Errorf("left out: %s, want %s", got, want)
	}
	_, err = ExportRows(ctx, database(s), byRows, nil)
	try.Must(t, err)
	one, err1 := os.ReadFile(api)
	two, err2 := os.ReadFile(byRows)
	if try.Must(t, errors.Join(err1, err2)); !bytes.Equal(one, two) {
		other, err := Read(byRows)
		try.Must(t, err)
		left, err := net.Diff(old, other)
		t.Errorf("read from the database it differs from the API's: %v, %+v, left out %v", err, left, other.LeftOut)
	}
	var e *fail.Error
	if _, err := Apply(ctx, old, order, silent); !errors.As(err, &e) || e.Kind != fail.Refused ||
		!strings.Contains(e.Error(), "router 1: "+router) || !strings.Contains(e.Remedy, "--leave-out quota,router") {
		t.Errorf("apply of what leaves out a router: %v", err)
	}
	order.LeaveOut, order.DryRun = []string{"quota", "router"}, true
	if r, err := Apply(ctx, old, order, silent); err != nil || len(r.LeftOut) != 2 || len(r.Created) > 0 {
		t.Errorf("the same, allowed: %+v, %v", r, err)
	}
	v, err := Verify(ctx, old, order.API, false, silent)
	if err != nil || len(v.LeftOut) != 2 || len(v.Beside) != 2 {
		t.Errorf("verify of what leaves out a router: %+v, %v", v, err)
	}
	for _, x := range v.Differences {
		t.Errorf("verify: %s", Text(x))
	}
	const free = "60000000-0000-4000-8000-000000001009" // a port that is bound takes none
	ask(t, s, "PUT", "ports/"+free, map[string]any{"port": map[string]any{"numa_affinity_policy": "required"}})
	for name, read := range map[string]func() (*net.Document, error){
		"by the API":        func() (*net.Document, error) { return Export(ctx, order.API, api, nil) },
		"from the database": func() (*net.Document, error) { return ExportRows(ctx, database(s), byRows, nil) },
	} {
		var f *net.Faults
		if _, err := read(); !errors.As(err, &f) || !strings.Contains(err.Error(),
			`port `+free+`: numa_affinity_policy: value "required": it is not carried over`) {
			t.Errorf("%s, a port with an attribute that is not carried over: %v", name, err)
		}
	}
	if _, err := Export(ctx, order.API, api, []string{"port.numa_affinity_policy"}); err != nil {
		t.Errorf("the same, allowed: %v", err)
	}
	// What was written as rows is what Neutron works with.
	f, r1 := d.FloatingIPs[0], d.Routers[0]
	ask(t, s, "PUT", "floatingips/"+f.ID, map[string]any{"floatingip": map[string]any{"port_id": nil}})
	ask(t, s, "PUT", "routers/"+r1.ID, map[string]any{"router": map[string]any{"routes": []any{}}})
	for _, p := range r1.Interfaces {
		ask(t, s, "PUT", "routers/"+r1.ID+"/remove_router_interface", map[string]any{"port_id": p})
	}
	ask(t, s, "DELETE", "floatingips/"+f.ID, nil)
	ask(t, s, "PUT", "routers/"+r1.ID, map[string]any{"router": map[string]any{"external_gateway_info": nil}})
	ask(t, s, "DELETE", "routers/"+r1.ID, nil)
	is, err := Export(ctx, order.API, api, []string{"port.numa_affinity_policy"})
	try.Must(t, err)
	if len(is.Routers) > 0 || len(is.FloatingIPs) != 1 || len(is.Ports) != len(d.Ports)-len(r1.Interfaces)-2 {
		t.Errorf("after the router was removed: %+v, %+v, %d ports of %d", is.Routers, is.FloatingIPs, len(is.Ports), len(d.Ports))
	}
}

// shapesChanged has the old platform change what others refer to, after it was applied.
func shapesChanged(t *testing.T, s *nettest.Server, d *net.Document, order Order) {
	t.Helper()
	p := &d.QoSPolicies[0]
	p.Name, p.IsDefault, p.Rules = "slower", false, p.Rules[1:]
	d.QoSPolicies[2].IsDefault = true
	d.AddressGroups[0].Addresses = []string{"192.0.2.0/26"}
	d.SubnetPools[0].Prefixes = append(d.SubnetPools[0].Prefixes, "10.112.0.0/13")
	d.Networks[0].Tags, d.Networks[1].Tags, d.Networks[1].QoSPolicyID = nil, []string{"new"}, nil
	d.RBACPolicies = slices.DeleteFunc(d.RBACPolicies, func(r net.RBACPolicy) bool { return r.ObjectType == "security_group" })
	for i := range d.Subnets {
		if len(d.Subnets[i].ServiceTypes) > 0 {
			d.Subnets[i].ServiceTypes = []string{"compute:nova"}
		}
	}
	d.Routers[0].Routes, d.FloatingIPs[0].Description = nil, "told anew"
	moved := slices.IndexFunc(d.Ports, func(p net.Port) bool { return p.ID == d.Routers[0].Interfaces[1] })
	d.Ports[moved].Name = "renamed" // so it is made anew
	gone := d.Trunks[0].SubPorts[1].PortID
	d.Trunks[0].SubPorts = d.Trunks[0].SubPorts[:1]
	d.Ports = slices.DeleteFunc(d.Ports, func(p net.Port) bool { return p.ID == gone })
	d.Normalize()
	try.Must(t, d.Check("shapes that changed"))
	r, err := Apply(t.Context(), d, order, silent)
	if err != nil {
		t.Fatalf("after changes: %v\n%s", err, s.Log())
	}
	if len(r.Created) > 0 || r.Removed["port"] != 1 || r.Renewed["port"] != 1 || r.Renewed["router"] != 1 ||
		r.Renewed["floatingip"] != 1 || r.Removed["rbac_policy"] != 1 || r.Renewed["qos_policy"] != 2 || r.Renewed["trunk"] != 1 {
		t.Errorf("after changes: %+v", r)
	}
	if left, err := differs(t.Context(), d, order.API, false); err != nil || len(left) > 0 {
		t.Errorf("after changes it differs: %v, %+v", err, left)
	}
}
