package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/net/rebuild"
	"holdfast/internal/upgrade"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// networked is a laboratory of three hosts with a system of their own, for a transition with its network.
const networked kind = "networked"

// TestTransitionWithItsNetwork is a whole transition with a network: from one real Neutron into another one, with a
// database, files of hosts and their upgrade. While the network is applied, the agent of the coordinator is killed,
// then that of the host that does the work, which then loses its power: all is made once. The old platform changes
// its network until the cut-over. At the end both Neutrons tell the same.
func TestTransitionWithItsNetwork(t *testing.T) {
	need.Drill(t, "P5: a whole transition with a network, from one real Neutron into another, in spite of kills and a loss of power")
	onLab(t, networked, transitionWithItsNetwork)
}

func transitionWithItsNetwork(t testing.TB, r *rig) {
	r.spent(t, true)
	r.installPlatform(t)
	r.leadsElsewhere(t)
	st := r.healthy(t)
	hosts := slices.DeleteFunc(slices.Clone(r.lab.Hosts()),
		func(h string) bool { return h == string(st.Owner.Host) || h == string(st.Coordinator) })
	from := hosts[0] // neither the management VM's nor the coordinator's
	c := r.platforms(t, from)
	n := c.networks(t)
	faults := n.faults(t, map[int]func(context.Context) error{
		8: func(ctx context.Context) error {
			st, err := r.status(ctx)
			if err == nil {
				err = n.killed(ctx, string(st.Coordinator))
			}
			return err
		},
		20: func(ctx context.Context) error { return n.killed(ctx, from) },
		32: func(ctx context.Context) error {
			err := errors.Join(r.lab.Crash(ctx, from), r.lab.On(ctx, from))
			if err == nil { // the platform's daemon has no init system here
				_, err = r.script(ctx, from, lab.HostDir+"/platform-"+platformOld+"/ctl.sh start")
			}
			return err
		},
	})
	key := newKey(t)
	bundle := r.bundleOn(t, from, platformBundle(t, key, false), key)
	c.begin(t, bundle[1], slices.Concat([]string{"--version", platformOld, "--mode", "rolling", "--keep-guests"}, bundle[2:])...)
	c.asks(t, "network/export")
	c.command(t, from, "jobs", "resume", c.id)
	c.asks(t, "cutover/databases")
	if left := faults(); left > 0 {
		t.Errorf("%d faults did not come: the network was applied by %d requests", left, n.proxy.Writes())
	}
	for id, times := range n.proxy.Made() {
		if times != 1 {
			t.Errorf("%s was made %d times", id, times)
		}
	}
	n.equal(t)
	c.cutOver(t, func() { n.change(t) })
	n.equal(t)
	u := r.awaitUpgrade(t, "the upgrade", ended)
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Errorf("upgraded: %+v, job %+v", u, u.Job)
	}
	r.haveAll(t, platformNew)
	c.ends(t)
	n.equal(t)
}

// networks are the Neutrons of a transition's two platforms.
type networks struct {
	*carried
	old, new *nettest.Server
	proxy    *nettest.Proxy // before the new one
	is       *net.Document  // what the old one was filled with
}

// networks starts them on the platforms' servers, has hosts reach them, and fills the old one.
func (c *carried) networks(t testing.TB) *networks {
	t.Helper()
	start := func(s *aligntest.Rig) *nettest.Server {
		return nettest.Start(t, func(testing.TB) *aligntest.Rig { return s }, "neutron", true)
	}
	n := &networks{carried: c, old: start(c.old), new: start(c.new), is: nettest.Platform(4, 16)}
	reached := func(s *nettest.Server) *nettest.Proxy {
		l, err := c.lab.Listen()
		if err != nil {
			t.Fatal(err)
		}
		return nettest.NewProxyAt(t, s, l)
	}
	n.proxy = reached(n.new)
	c.network = fmt.Sprintf(`  network: {confirm: the message bus works, after: [{name: written, run: [/bin/grep, -q, %s, %s/net.json]}]}
network: {file: %s/net.json, source: {endpoint: %q}, target: {endpoint: %q, db: "/?option-file=AT/new.cnf"}, reserveDHCP: true}
`, n.is.Ports[0].ID, lab.HostDir, lab.HostDir, reached(n.old).URL, n.proxy.URL)
	ctx, cancel := waiting(t)
	defer cancel()
	o := rebuild.Order{API: rebuild.API{Endpoint: n.old.Endpoint()}, DB: rebuild.Database{DSN: c.old.DSN(), Name: "neutron"}, Jobs: 4}
	if _, err := rebuild.Apply(ctx, n.is, o, func(rebuild.Progress) {}); err != nil {
		t.Fatalf("fill the old platform: %v\n%s", err, n.old.Log())
	}
	return n
}

// killed kills the agent of a host, and waits until it is back, so that no host is taken for dead by the next one.
func (n *networks) killed(ctx context.Context, h string) error {
	err := n.lab.Kill(ctx, h, lab.AgentDaemon)
	for err == nil {
		st, serr := n.statusOf(ctx, h)
		if serr == nil && st.Connected && inOrder(st) == 3 {
			break
		}
		if !clock.Sleep(ctx, 200*time.Millisecond) {
			err = fmt.Errorf("the agent of %s is not back: %+v, %w", h, st, cmp.Or(serr, ctx.Err()))
		}
	}
	return err
}

// faults has things happen at the n-th request that would change something in the new Neutron, which waits for their
// end, as those do that come meanwhile. What is returned tells how many are left.
func (n *networks) faults(t testing.TB, at map[int]func(context.Context) error) func() int {
	var mu sync.Mutex
	n.proxy.Fault = func(r *http.Request, write int) nettest.Fault {
		if r.Method == http.MethodGet {
			return nettest.None
		}
		mu.Lock()
		defer mu.Unlock()
		do := at[write]
		if do == nil {
			return nettest.None
		}
		delete(at, write)
		ctx, cancel := waiting(t)
		defer cancel()
		if err := do(ctx); err != nil {
			t.Errorf("at request %d: %v", write, err)
		}
		t.Logf("at request %d of the new Neutron: a fault", write)
		return nettest.None
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(at)
	}
}

// askNeutron sends a request to a Neutron, and reads its answer into v; nil: there is none.
func askNeutron(t testing.TB, s *nettest.Server, method, path string, body, v any) {
	t.Helper()
	var text []byte
	if body != nil { // Neutron refuses a DELETE with one
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := waiting(t)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Endpoint()+"/v2.0/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("status %d: %s", res.StatusCode, got)
	}
	if err == nil && v != nil {
		err = json.Unmarshal(got, v)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// port is what a guest knows of its port, and what its host knows of it.
type port struct {
	ID      string        `json:"id"`
	Network string        `json:"network_id"`
	MAC     string        `json:"mac_address"`
	IPs     []net.FixedIP `json:"fixed_ips"`
	Owner   string        `json:"device_owner"`
	Device  string        `json:"device_id"`
	Host    string        `json:"binding:host_id"`
	Groups  []string      `json:"security_groups"`
}

// told is what a Neutron tells of its ports by ID, and of its other objects what stands for them.
func told(t testing.TB, s *nettest.Server) (ports map[string]port, others []string) {
	t.Helper()
	var list struct{ Ports []port }
	askNeutron(t, s, http.MethodGet, "ports", nil, &list)
	ports = map[string]port{}
	for _, p := range list.Ports {
		slices.SortFunc(p.IPs, func(a, b net.FixedIP) int { return cmp.Compare(a.IPAddress, b.IPAddress) })
		slices.Sort(p.Groups)
		if p.Owner == "network:dhcp" {
			p.Device = "" // it waits for an agent
		}
		ports[p.ID] = p
	}
	for what, field := range map[string]string{"networks": "provider:segmentation_id", "subnets": "cidr",
		"security-group-rules": "security_group_id"} {
		var all map[string]json.RawMessage
		of := ""
		if what == "security-group-rules" { // Neutron makes a group for the project that asks for rules
			of = "?project_id=00000000000000000000000000000005"
		}
		askNeutron(t, s, http.MethodGet, what+of, nil, &all)
		var objects []map[string]any
		if err := json.Unmarshal(all[strings.ReplaceAll(what, "-", "_")], &objects); err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			others = append(others, fmt.Sprint(what, " ", o["id"], " ", o["name"], " ", o[field]))
		}
	}
	slices.Sort(others)
	return ports, others
}

// equal wants both Neutrons to tell the same.
func (n *networks) equal(t testing.TB) {
	t.Helper()
	was, old := told(t, n.old)
	is, others := told(t, n.new)
	for id, p := range was {
		if q, ok := is[id]; !ok || !reflect.DeepEqual(p, q) {
			t.Errorf("port %s: the old platform has %+v, the new one %+v", id, p, q)
		}
	}
	if len(was) < 16 || len(is) != len(was) || len(old) < 13 || !slices.Equal(old, others) {
		t.Errorf("the old platform has %d ports and\n%s\nthe new one %d and\n%s", len(was), strings.Join(old, "\n"),
			len(is), strings.Join(others, "\n"))
	}
	t.Logf("both Neutrons tell the same of %d ports and %d other objects", len(is), len(others))
}

// change is what people do on the old platform before the cut-over: a guest comes, one goes, one is put on a
// port that had none, a rule goes, and a network gets another name.
func (n *networks) change(t testing.TB) {
	t.Helper()
	guests := slices.DeleteFunc(slices.Clone(n.is.Ports), func(p net.Port) bool { return p.DeviceOwner != "compute:nova" })
	gone, changed := guests[0], guests[len(guests)-1]
	free := n.is.Ports[slices.IndexFunc(n.is.Ports, func(p net.Port) bool { return p.HostID == "" })]
	rule := n.is.SecurityGroupRules[slices.IndexFunc(n.is.SecurityGroupRules, func(r net.Rule) bool { return r.PortRangeMax != nil })]
	ip := changed.FixedIPs[0]
	of := map[string]any{"network_id": changed.NetworkID, "project_id": changed.ProjectID, "name": "late",
		"device_owner": "compute:nova", "device_id": "70000000-0000-4000-8000-000000000999", "binding:host_id": changed.HostID}
	askNeutron(t, n.old, http.MethodDelete, "ports/"+gone.ID, nil, nil)
	askNeutron(t, n.old, http.MethodPost, "ports", map[string]any{"port": of}, nil)
	askNeutron(t, n.old, http.MethodPut, "ports/"+free.ID,
		map[string]any{"port": map[string]any{"device_owner": "compute:nova", "device_id": of["device_id"],
			"binding:host_id": changed.HostID}}, nil)
	askNeutron(t, n.old, http.MethodPut, "ports/"+changed.ID,
		map[string]any{"port": map[string]any{"fixed_ips": []net.FixedIP{{SubnetID: ip.SubnetID,
			IPAddress: ip.IPAddress[:strings.LastIndex(ip.IPAddress, ".")] + ".150"}}}}, nil)
	askNeutron(t, n.old, http.MethodDelete, "security-group-rules/"+rule.ID, nil, nil)
	askNeutron(t, n.old, http.MethodPut, "networks/"+changed.NetworkID, map[string]any{"network": map[string]any{"name": "renamed"}}, nil)
}
