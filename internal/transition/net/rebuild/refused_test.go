package rebuild

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/testbed/need"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/try"
)

// TestAnotherDatabase: rows are written only into the database of the API. Another one, be it a copy of that, is refused, by a dry
// run as well where either has anything.
func TestAnotherDatabase(t *testing.T) {
	need.Drill(t, "360, network: rows are written only into the database of the API")
	s := nettest.Start(t, nettest.MariaDB, "neutron", true)
	other := nettest.Schema(t, s, "neutron_other")
	d := nettest.Platform(1, 1)
	o := Order{API: API{Endpoint: s.Endpoint()}, DB: Database{DSN: s.DB.DSN(), Name: other}, Jobs: 4}
	written := func() string {
		return s.DB.SQL("SELECT (SELECT COUNT(*) FROM neutron_other.standardattributes) + (SELECT COUNT(*) FROM neutron_other.agents)")
	}
	refused := func(what string, o Order, want string) {
		t.Helper()
		before := written()
		var e *fail.Error
		if _, err := Apply(t.Context(), d, o, silent); !errors.As(err, &e) || e.Kind != fail.Refused ||
			!strings.Contains(e.Error(), want) || !strings.Contains(e.Error(), "database neutron_other at ") ||
			!strings.Contains(e.Error(), o.API.Endpoint) {
			t.Errorf("%s: %v, want it refused: %s", what, err, want)
		}
		if now := written(); now != before {
			t.Errorf("%s: %s rows are there, %s were", what, now, before)
		}
	}
	dry := o
	dry.DryRun = true
	if r, err := Apply(t.Context(), d, dry, silent); err != nil || !r.Unproven {
		t.Errorf("dry run where nothing is on either side: %+v, %v", r, err)
	}
	refused("a new database beside a new API", o, "an address scope that the API has just made")
	if n := s.DB.SQL("SELECT COUNT(*) FROM neutron.address_scopes"); n != "0" {
		t.Errorf("%s address scopes are left", n)
	}

	right := o
	right.DB.Name = "neutron"
	if _, err := Apply(t.Context(), d, right, silent); err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	for what, o := range map[string]Order{"apply": o, "dry run": dry} {
		refused(what+" where the database is empty", o, "is told by the API, and is not in the database")
	}
	for _, table := range []string{"standardattributes", "agents", "networks"} {
		s.DB.SQL("SET FOREIGN_KEY_CHECKS = 0; INSERT INTO neutron_other." + table + " SELECT * FROM neutron." + table)
	}
	d = nettest.Platform(2, 2)
	if r, err := Apply(t.Context(), d, dry, silent); err != nil || r.Unproven {
		t.Errorf("dry run with a copy: %+v, %v", r, err)
	}
	refused("a copy", o, "an address scope that the API has just made")
	s.DB.SQL("UPDATE neutron_other.standardattributes SET created_at = '2016-01-01 00:00:00'")
	for what, o := range map[string]Order{"apply": o, "dry run": dry} {
		refused(what+" with the old platform's database", o, "and at 2016-01-01 00:00:00 as the database has it")
	}
	s.DB.SQL("UPDATE neutron_other.standardattributes o JOIN neutron.standardattributes s ON s.id = o.id SET " +
		"o.created_at = s.created_at; UPDATE neutron_other.agents SET id = 'x' LIMIT 1; INSERT INTO " +
		"neutron_other.agents SELECT * FROM neutron.agents WHERE id NOT IN (SELECT id FROM neutron_other.agents) AND host = 'none'")
	refused("dry run with another agent", dry, "agent ")
}

// TestRefusedObjects: what the new Neutron refuses keeps nothing else from being made; all of it is told with what to do, and the
// next run goes on with it. Ports that were made before a subnet had its service types are made, and service types follow.
func TestRefusedObjects(t *testing.T) {
	need.Drill(t, "360, network: what a new Neutron refuses is told, keeps nothing else from being made, and is made by the next run")
	s := nettest.Start(t, nettest.MariaDB, "neutron", true)
	d := nettest.Platform(5, 10)
	d.Networks[1].Segments[0].PhysicalNetwork = "physnet2"
	d.Subnets[2].DNSNameservers = nil
	for i := range 6 {
		d.Subnets[2].DNSNameservers = append(d.Subnets[2].DNSNameservers, fmt.Sprint("192.0.2.", 10+i))
	}
	d.Subnets[0].ServiceTypes = []string{"network:floatingip"}
	pairs := slices.IndexFunc(d.Ports, func(p net.Port) bool { return p.NetworkID == d.Networks[3].ID })
	d.Ports[pairs].PortSecurity = true
	for i := range 12 {
		d.Ports[pairs].AllowedPairs = append(d.Ports[pairs].AllowedPairs,
			net.Pair{IPAddress: fmt.Sprint("192.0.2.", 100+i), MACAddress: d.Ports[pairs].MACAddress})
	}
	d.Normalize()
	try.Must(t, d.Check("refused"))
	o := Order{API: API{Endpoint: s.Endpoint()}, DB: database(s), Jobs: 4, Applied: filepath.Join(t.TempDir(), "applied")}

	// What can be asked is told before anything is written.
	project := d.Networks[0].ProjectID
	ask(t, s, "PUT", "quotas/"+project, map[string]any{"quota": map[string]any{"port": 3, "subnet": 1}})
	for _, dry := range []bool{true, false} {
		o := o
		o.DryRun = dry
		var e *fail.Error
		if _, err := Apply(t.Context(), d, o, silent); !errors.As(err, &e) || e.Kind != fail.Refused ||
			!strings.Contains(e.Error(), "project "+project+": subnet: the document has 3, its quota is 1") ||
			!strings.Contains(e.Error(), "port: the document has 6, its quota is 3") || s.DB.SQL("SELECT COUNT(*) FROM neutron.agents") != "0" {
			t.Errorf("more than the quota, dry run %t: %v", dry, err)
		}
	}
	ask(t, s, "PUT", "quotas/"+project, map[string]any{"quota": map[string]any{"port": -1, "subnet": -1}})
	d.LeftOut = []net.LeftOut{}

	for range 2 { // the second one tells the same
		_, err := Apply(t.Context(), d, o, silent)
		if fail.ExitCode(err) != fail.ExitFailed {
			t.Fatalf("apply: %v\n%s", err, s.Log())
		}
		for _, want := range []string{
			"network " + d.Networks[1].ID + " \"net 1\": ", "physnet2", "network_vlan_ranges",
			"subnet " + d.Subnets[2].ID + " \"subnet 2\": ", "max_dns_nameservers",
			"port " + d.Ports[pairs].ID + " \"" + d.Ports[pairs].Name + "\": ", "max_allowed_address_pair",
			"not made, as it needs one of these: subnet 1: " + d.Subnets[1].ID, "not made, as it needs one of these: port 4: ",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if got := s.DB.SQL("SELECT (SELECT COUNT(*) FROM neutron.networks), (SELECT COUNT(*) FROM neutron.subnets), " +
			"(SELECT COUNT(*) FROM neutron.ports), (SELECT service_type FROM neutron.subnet_service_types)"); got != "4\t3\t5\tnetwork:floatingip" {
			t.Errorf("networks, subnets, ports and service types: %s", got)
		}
	}
	mended := *d
	mended.Networks, mended.Subnets, mended.Ports = slices.Clone(d.Networks), slices.Clone(d.Subnets), slices.Clone(d.Ports)
	mended.Networks[1].Segments = []net.Segment{{NetworkType: "vlan", PhysicalNetwork: "physnet1",
		SegmentationID: d.Networks[1].Segments[0].SegmentationID}}
	mended.Subnets[2].DNSNameservers = d.Subnets[2].DNSNameservers[:5]
	mended.Ports[pairs].AllowedPairs = d.Ports[pairs].AllowedPairs[:10]
	first := slices.IndexFunc(d.Ports, func(p net.Port) bool { return p.NetworkID == d.Networks[0].ID })
	mended.Ports[first].Name = "made anew" // on a subnet whose service types it does not have
	if _, err := Apply(t.Context(), &mended, o, silent); err != nil {
		t.Fatalf("mended: %v\n%s", err, s.Log())
	}
	mended.Subnets[0].ServiceTypes, mended.Subnets[3].ServiceTypes = []string{"compute:nova", "network:dhcp"}, []string{"network:floatingip"}
	if r, err := Apply(t.Context(), &mended, o, silent); err != nil || r.Renewed["subnet"]+len(r.Created) == 0 {
		t.Fatalf("with other service types: %+v, %v\n%s", r, err, s.Log())
	}
	if left, err := differs(t.Context(), &mended, o.API, false); err != nil || len(left) > 0 {
		t.Errorf("mended, it differs: %v, %v", left, err)
	}
}
