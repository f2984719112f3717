package rebuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// aWhile is a context that ends after what 2,000 ports may take on a slow machine.
func aWhile(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func silent(Progress) {}

// TestFourPorts: what was applied to a real Neutron is what its API tells; applied once more it changes nothing.
func TestFourPorts(t *testing.T) {
	s := nettest.Start(t, nettest.MariaDB, "neutron", true)
	d := nettest.Platform(1, 4)
	try.Must(t, d.Check("platform"))
	p := nettest.NewProxy(t, s)
	order := Order{API: API{Endpoint: p.URL}, DB: database(s), Jobs: 4}
	var e *fail.Error
	if _, err := Apply(t.Context(), nettest.Shapes(), order, silent); !errors.As(err, &e) || e.Kind != fail.Refused ||
		!strings.Contains(e.Error(), "\nqos: qos_policy 80000000-0000-4000-8000-000000000005\n") ||
		!strings.Contains(e.Error(), "\ntrunk: trunk 80000000-0000-4000-8000-000000000008") ||
		s.DB.SQL("SELECT COUNT(*) FROM neutron.agents") != "0" {
		t.Errorf("apply on a platform without QoS and trunks: %v, want it refused, and nothing written", err)
	}
	if _, err := Apply(t.Context(), d, order, silent); err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	once(t, d, p.Made())
	if left, err := differs(t.Context(), d, API{Endpoint: s.Endpoint()}, false); err != nil || len(left) > 0 {
		t.Errorf("the target differs in %d places: %v, %v", len(left), left, err)
	}
	if again, err := Apply(t.Context(), d, order, silent); err != nil || len(again.Created) > 0 {
		t.Errorf("applied again, it created %v, %v", again.Created, err)
	}
}

// differs are the differences that Verify finds.
func differs(ctx context.Context, d *net.Document, at API, reserve bool) ([]net.Difference, error) {
	v, err := Verify(ctx, d, at, reserve, silent)
	if err != nil {
		return nil, err
	}
	return v.Differences, nil
}

func database(s *nettest.Server) Database { return Database{DSN: s.DB.DSN(), Name: s.Name} }

// two are servers with a MariaDB server in common.
func two(t *testing.T) (rig *aligntest.Rig, a, b *nettest.Server) {
	rig = nettest.MariaDB(t)
	of := func(testing.TB) *aligntest.Rig { return rig }
	return rig, nettest.Start(t, of, "neutron_a", true), nettest.Start(t, of, "neutron_b", true)
}

// childEnv has what the test's own program is to apply, as a process that is killed: a document's file, an endpoint, and
// the DSN and name of a database, with line ends between.
const childEnv = "HOLDFAST_NET_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		w := strings.Split(what, "\n")
		d, err := Read(w[0])
		if err == nil {
			_, err = Apply(context.Background(), d, Order{API: API{Endpoint: w[1]}, DB: Database{DSN: w[2], Name: w[3]},
				Jobs: 4, Applied: w[0] + ".applied"}, silent)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// once reports what was not made exactly once by the API.
func once(t *testing.T, d *net.Document, made map[string]int) {
	t.Helper()
	var ids []string
	for _, g := range d.SecurityGroups {
		if g.Name != net.Default {
			ids = append(ids, g.ID)
		}
	}
	for _, r := range d.SecurityGroupRules {
		ids = append(ids, r.ID)
	}
	for _, n := range d.Networks {
		ids = append(ids, n.ID)
	}
	for _, s := range d.Subnets {
		ids = append(ids, s.ID)
	}
	for _, p := range d.Ports {
		ids = append(ids, p.ID)
	}
	for _, id := range ids {
		if made[id] != 1 {
			t.Errorf("%s was made %d times", id, made[id])
		}
	}
	if len(made) != len(ids) {
		t.Errorf("%d objects were made by the API, want %d", len(made), len(ids))
	}
}

// TestRebuild: what was applied to a real Neutron that is busy, away, or silent for many requests is what its API
// tells. What is exported there is applied to another one by a process that is killed again and again, and there is
// equal; applied once more it changes nothing, and no reading leaves a default security group of somebody's.
func TestRebuild(t *testing.T) {
	need.Drill(t, "360, network: the whole network is rebuilt in spite of every kind of fault and of kills, and is equal")
	rig, a, b := two(t)
	const ports = 24
	ctx := aWhile(t)
	d := nettest.Platform(6, ports)
	try.Must(t, d.Check("platform"))
	faulty := nettest.NewProxy(t, a)
	var requests atomic.Int64
	faulty.Fault = func(r *http.Request, _ int) nettest.Fault {
		n := requests.Add(1)
		switch post := r.Method == http.MethodPost; {
		case n%13 == 5:
			return nettest.Busy
		case n%17 == 3:
			return nettest.Down
		case post && n%5 == 2:
			return nettest.Cut
		case post && n%7 == 4:
			return nettest.Late
		}
		return nettest.None
	}
	r, err := Apply(ctx, d, Order{API: API{Endpoint: faulty.URL}, DB: database(a), Jobs: 4}, silent)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.Log())
	}
	t.Logf("%d ports applied in %.1f s", r.Created["port"], r.Seconds)
	if r.Created["port"] != ports || r.Equal != 0 {
		t.Errorf("created %v, %d were there: want %d ports and none", r.Created, r.Equal, ports)
	}
	once(t, d, faulty.Made())
	file := filepath.Join(t.TempDir(), "net.json")
	if _, err := Export(ctx, API{Endpoint: a.Endpoint()}, file, nil); err != nil {
		t.Fatal(err)
	}
	old, err := Read(file)
	try.Must(t, err)
	if same, err := net.Diff(d, old); err != nil || len(same) > 0 {
		t.Fatalf("exported differs from what was applied: %v, %v", err, same)
	}

	byRows := filepath.Join(t.TempDir(), "rows.json")
	if _, err := ExportRows(ctx, database(a), byRows, nil); err != nil {
		t.Fatal(err)
	}
	api, err := os.ReadFile(file)
	try.Must(t, err)
	if text, err := os.ReadFile(byRows); err != nil || !bytes.Equal(text, api) {
		d, derr := Read(byRows)
		try.Must(t, derr)
		left, derr := net.Diff(old, d)
		t.Errorf("exported from the database it differs from the API's: %v, %v: %+v", err, derr, left)
	}

	counted := nettest.NewProxy(t, b)
	killed(ctx, t, counted, 4, faulty.Writes(), file, database(b))
	if left, err := differs(ctx, old, API{Endpoint: counted.URL}, false); err != nil || len(left) > 0 {
		t.Fatalf("after kills the target differs: %v, %v", err, left)
	}
	once(t, old, counted.Made())
	for name, query := range map[string]string{"rows of attributes": "SELECT resource_type, COUNT(*) FROM " +
		"neutron_%s.standardattributes GROUP BY 1 ORDER BY 1", "agents": "SELECT id FROM neutron_%s.agents ORDER BY 1"} {
		if x, y := rig.SQL(fmt.Sprintf(query, "a")), rig.SQL(fmt.Sprintf(query, "b")); x != y {
			t.Errorf("%s: after kills\n%s\nwithout\n%s", name, y, x)
		}
	}
	before, writes := rig.SQL("SELECT * FROM neutron_b.standardattributes ORDER BY id"), counted.Writes()
	r, err = Apply(ctx, old, Order{API: API{Endpoint: counted.URL}, DB: database(b), Jobs: 4}, silent)
	try.Must(t, err)
	if len(r.Created) > 0 || counted.Writes() != writes {
		t.Errorf("applied again, it created %v by %d requests", r.Created, counted.Writes()-writes)
	}
	if rig.SQL("SELECT * FROM neutron_b.standardattributes ORDER BY id") != before {
		t.Error("applied again, it changed rows of the database")
	}
	if got := rig.SQL("SELECT project_id FROM neutron_b.default_security_group ORDER BY 1"); got != "00000000000000000000000000000005\n00000000000000000000000000000006" {
		t.Errorf("default security groups are of the projects\n%s\nwant the document's two only", got)
	}
	// A Neutron that ended between the port and its binding.
	var bound net.Port
	for _, p := range d.Ports {
		if p.VIFType == "ovs" {
			bound = p
		}
	}
	rig.SQL("UPDATE neutron_b.ml2_port_bindings SET vif_type = 'unbound' WHERE port_id = '" +
		bound.ID + "'; DELETE FROM neutron_b.ml2_port_binding_levels WHERE port_id = '" + bound.ID + "'")
	if left, err := differs(ctx, old, API{Endpoint: b.Endpoint()}, false); err != nil || len(left) != 1 {
		t.Fatalf("verify of a port that is not bound: %+v, %v", left, err)
	}
	if r, err := Apply(ctx, old, Order{API: API{Endpoint: b.Endpoint()}, DB: database(b), Jobs: 4},
		silent); err != nil || r.Bound != 1 || len(r.Created) > 0 {
		t.Errorf("apply where a port is not bound: %+v, %v", r, err)
	}
	old = goesOn(ctx, t, counted, file, database(b))
	// Something differs, something is missing, something is too much.
	rig.SQL("UPDATE neutron_b.ports SET device_id = 'other' WHERE id = '" + old.Ports[3].ID + "'")
	left, err := differs(ctx, old, API{Endpoint: b.Endpoint()}, false)
	try.Must(t, err)
	if len(left) != 1 || left[0].Kind != "port" || left[0].Field != "device_id" || left[0].ID != old.Ports[3].ID ||
		string(left[0].New) != `"other"` {
		t.Errorf("verify of a changed port: %+v", left)
	}
	var e *fail.Error
	for what, then := range map[string]func(){"that differs": func() {},
		"and the document has it otherwise": func() { old.Ports[3].Name = "both" }} {
		then()
		if _, err := Apply(ctx, old, Order{API: API{Endpoint: b.Endpoint()}, DB: database(b), Jobs: 4,
			Applied: file + ".applied"}, silent); !errors.As(err, &e) || e.Kind != fail.Refused {
			t.Errorf("apply on a target %s: %v, want it refused", what, err)
		}
	}
}

// goesOn has an old platform change all that it can after its network was applied, and once more when that was being
// brought over, which somebody has ended in the middle. It returns what is there at the end.
func goesOn(ctx context.Context, t *testing.T, p *nettest.Proxy, file string, db Database) *net.Document {
	t.Helper()
	o := Order{API: API{Endpoint: p.URL}, DB: db, Jobs: 1, Applied: file + ".applied"}
	now := func() *net.Document {
		d, err := Read(file)
		try.Must(t, err)
		network := d.Networks[len(d.Networks)-1].ID // it goes, with all that is on it
		d.Networks = d.Networks[:len(d.Networks)-1]
		d.Subnets = slices.DeleteFunc(d.Subnets, func(s net.Subnet) bool { return s.NetworkID == network })
		d.Ports = slices.DeleteFunc(d.Ports, func(p net.Port) bool { return p.NetworkID == network })
		d.Networks[0].Name, d.Networks[0].MTU = "renamed", 1400
		s := &d.Subnets[0]
		s.GatewayIP, s.DNSNameservers, s.HostRoutes = nil, []string{"192.0.2.99"}, []net.Route{}
		web := slices.IndexFunc(d.SecurityGroups, func(g net.Group) bool { return g.Name != net.Default })
		group := d.SecurityGroups[web].ID // so does a group
		d.SecurityGroups = slices.Delete(d.SecurityGroups, web, web+1)
		d.SecurityGroups[len(d.SecurityGroups)-1].Description = "told anew"
		d.SecurityGroupRules = slices.DeleteFunc(d.SecurityGroupRules, func(r net.Rule) bool { return r.SecurityGroupID == group })
		d.SecurityGroupRules[len(d.SecurityGroupRules)-1].Description = "told anew"
		for i := range d.Ports {
			d.Ports[i].Groups = slices.DeleteFunc(d.Ports[i].Groups, func(id string) bool { return id == group })
		}
		first := d.Ports[0] // another guest has its addresses
		first.ID, first.DeviceID = "00000000-0000-4000-8000-000000000001", "70000000-0000-4000-8000-000000000999"
		d.Ports[0] = first
		try.Must(t, d.Check("what the platform has now"))
		return d
	}
	ends, end := context.WithCancel(ctx)
	posts := 0
	p.Fault = func(r *http.Request, write int) nettest.Fault {
		switch {
		case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/ports"):
			if posts++; posts == 2 {
				end()
				return nettest.Down
			}
		case r.Method == http.MethodDelete && write%3 == 0:
			return nettest.Late
		case r.Method != http.MethodGet && write%4 == 1:
			return nettest.Cut
		}
		return nettest.None
	}
	if _, err := Apply(ends, now(), o, silent); !errors.Is(err, context.Canceled) {
		t.Fatalf("apply that is ended in the middle: %v", err)
	}
	p.Fault = nil
	is := now()
	is.Ports[0].ID, is.Ports[0].Name = "00000000-0000-4000-8000-000000000002", "yet another one"
	r, err := Apply(ctx, is, o, silent)
	try.Must(t, err)
	if r.Removed["port"] != 1 || r.Created["port"] < 2 {
		t.Errorf("gone on: %+v", r)
	}
	if left, err := differs(ctx, is, API{Endpoint: p.URL}, false); err != nil || len(left) > 0 {
		t.Errorf("gone on, it differs: %v, %+v", err, left)
	}
	writes := p.Writes()
	if r, err := Apply(ctx, is, o, silent); err != nil || len(r.Created)+len(r.Removed)+len(r.Renewed) > 0 || p.Writes() != writes {
		t.Errorf("applied once more, it did %+v by %d requests: %v", r, p.Writes()-writes, err)
	}
	return is
}

// killed applies a document by a process of its own, which is killed at four of the requests that change something, others in each
// run: before Neutron gets the request, or when it has. all is how many such requests there are. The fifth one ends well.
func killed(ctx context.Context, t *testing.T, p *nettest.Proxy, kills, all int, file string, db Database) {
	t.Helper()
	var pid, at atomic.Int64
	var before atomic.Bool
	p.Fault = func(r *http.Request, write int) nettest.Fault {
		if r.Method == http.MethodGet || pid.Load() == 0 || int64(write) < at.Load() {
			return nettest.None
		}
		if err := unix.Kill(int(pid.Swap(0)), unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if before.Load() {
			return nettest.Busy
		}
		return nettest.None
	}
	for i := range kills + 1 {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{file, p.URL, db.DSN, db.Name}, "\n"))
		var said bytes.Buffer
		cmd.Stderr = &said
		before.Store(i%2 == 1)
		part := max(1, all/(kills+3))
		at.Store(int64((i+1)*part + rand.N(part)))
		t.Logf("process %d is killed at request %d of some %d", i, at.Load(), all)
		try.Must(t, cmd.Start())
		if i < kills {
			pid.Store(int64(cmd.Process.Pid))
		}
		switch err := cmd.Wait(); {
		case i == kills && err != nil:
			t.Fatalf("after %d kills: %v: %s", kills, err, said.String())
		case i < kills && !strings.Contains(fmt.Sprint(err), "killed"):
			t.Fatalf("the process that was to be killed at request %d ended: %v: %s", at.Load(), err, said.String())
		}
	}
	p.Fault = nil
}

// TestKilledWithManyPorts applies a large network by a process that is killed ten times. It takes most of an hour.
func TestKilledWithManyPorts(t *testing.T) {
	need.Drill(t, "360, network: 2,000 ports in 50 networks are rebuilt, each once, by a process that is killed ten times")
	const ports, networks = 2000, 50
	s := nettest.Start(t, nettest.MariaDB, "neutron", true)
	d := nettest.Platform(networks, ports)
	try.Must(t, d.Check("platform"))
	file := filepath.Join(t.TempDir(), "net.json")
	try.Must(t, Save(d, file))
	ctx, p := aWhile(t), nettest.NewProxy(t, s)
	began := time.Now()
	killed(ctx, t, p, 10, len(d.SecurityGroups)+len(d.SecurityGroupRules)+len(d.Networks)+len(d.Subnets)+ports, file, database(s))
	t.Logf("%d ports in %d networks by 11 processes in %s", ports, len(d.Networks), time.Since(began).Round(time.Second))
	once(t, d, p.Made())
	if left, err := differs(ctx, d, API{Endpoint: s.Endpoint()}, false); err != nil || len(left) > 0 {
		t.Errorf("after kills the target differs in %d places: %v", len(left), err)
	}
	before, writes := s.DB.SQL("SELECT * FROM neutron.standardattributes ORDER BY id"), p.Writes()
	r, err := Apply(ctx, d, Order{API: API{Endpoint: p.URL}, DB: database(s), Jobs: 4}, silent)
	try.Must(t, err)
	if len(r.Created) > 0 || p.Writes() != writes || s.DB.SQL("SELECT * FROM neutron.standardattributes ORDER BY id") != before {
		t.Errorf("applied again, it created %v by %d requests, or changed rows", r.Created, p.Writes()-writes)
	}
}

// TestStockNeutron: without the extension, apply says what is to be installed, and writes nothing.
func TestStockNeutron(t *testing.T) {
	need.Drill(t, "P7: a Neutron without the extension is refused with what is to be done, and nothing is written")
	s := nettest.Start(t, nettest.MariaDB, "neutron", false)
	_, err := Apply(try.Context(t), nettest.Platform(1, 1), Order{API: API{Endpoint: s.Endpoint()}, DB: database(s), Jobs: 4}, silent)
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Refused || e.Remedy == "" {
		t.Fatalf("apply: %v, want it refused with a remedy", err)
	}
	if n := s.DB.SQL("SELECT (SELECT COUNT(*) FROM neutron.agents) + (SELECT COUNT(*) FROM neutron.default_security_group)"); n != "0" {
		t.Errorf("%s rows were written", n)
	}
}
