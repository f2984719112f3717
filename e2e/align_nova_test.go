package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/readback"
	"holdfast/testbed/need"
)

// Guests of internal/transition/db/profile/testdata/rows.sql.
const (
	guestWeb  = "90000000-0000-4000-8000-000000000101"
	guestDB   = "90000000-0000-4000-8000-000000000102"
	guestLost = "90000000-0000-4000-8000-000000000103" // deleted
	guestWin  = "90000000-0000-4000-8000-000000000104"
	guestSoft = "90000000-0000-4000-8000-000000000105" // deleted softly
)

// TestNovaReadsAlignedRows aligns rows of Liberty with databases that Debian's own
// nova-manage, glance-manage and cinder-manage made. Nova's objects read every guest, real
// nova-api, glance-api and cinder-api tell of all, and a conductor works. Rows that are
// spoilt afterwards are found.
func TestNovaReadsAlignedRows(t *testing.T) {
	need.Drill(t, "P5: a real Nova, Glance and Cinder read and serve aligned rows, and rows that are spoilt are found")
	needsOpenStack(t)
	cloud := makeCloud(t)
	old := aligntest.MariaDB(t)
	old.Load("liberty-schema.sql", "liberty_", "liberty_")
	rows, err := os.ReadFile("../internal/transition/db/profile/testdata/rows.sql")
	if err != nil {
		t.Fatal(err)
	}
	old.SQL(string(rows) + imagesOfOldYears + mended)
	cloud.align(t, old)
	t.Run("all", func(t *testing.T) { // which have tables of their own
		t.Run("nova", cloud.novaTold)
		t.Run("images", cloud.imagesTold)
		t.Run("volumes", cloud.volumesTold)
	})
}

func (c *newCloud) novaTold(t *testing.T) {
	t.Parallel()
	t.Run("objects", c.objectsRead)
	t.Run("api", c.apiTells)
	t.Run("manage", func(t *testing.T) {
		c.manage(t, "nova", "cell_v2", "verify_instance", "--uuid", guestWeb)
		c.manage(t, "nova", "db", "online_data_migrations")
	})
	t.Run("spoilt", c.spoiltGuests)
	t.Run("checks", c.checksAreNovas)
	t.Run("conductor", c.conductorWorks)
	t.Run("upgrade check", c.upgradeCheck)
}

// reading is what nova_reads.py tells.
type reading struct {
	Servers map[string]*struct {
		ID           int
		Name, State  string
		Host, Node   string
		Zone         string
		Project      string
		User         string
		Flavor       string
		DeletedGuest bool `json:"deleted"`
		Metadata     map[string]string
		System       map[string]string `json:"system_metadata"`
		Keypairs     []string
		Ports        [][]any
		Devices      [][]any
		Tags         []string
		Cells        [][]any // of NUMA: CPUs, policy
		Spec         *struct {
			BFV   bool `json:"is_bfv"`
			VCPUs int
			Image *string
			Group *string
			PCI   [][]any
			Cells [][]any
		}
	} `json:"guests"`
	Flavors    map[string]struct{ Name string }
	Aggregates map[string]struct{ Hosts []string }
	Services   [][]any
	Faults     []string
}

// mended takes out of rows.sql what no release's Nova reads, and what the checks refuse:
// properties of a guest's image, and PCI devices.
const mended = "DELETE FROM liberty_nova.instance_system_metadata WHERE value IN ('2.5', 'of glass'); UPDATE " +
	"liberty_nova.pci_devices SET extra_info = '{}' WHERE id IN (3, 4);"

// read has Nova's objects read guests: all (nil), or those given.
func (c *newCloud) read(t *testing.T, guests ...string) (r reading) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serviceWithin)
	defer cancel()
	if guests == nil {
		guests = []string{readback.All}
	}
	told, err := readback.Nova{Python: debianPython, Conf: filepath.Join(c.dir, "nova.conf")}.Read(ctx, guests...)
	if err == nil {
		err = json.Unmarshal(told.Document, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *newCloud) objectsRead(t *testing.T) {
	r := c.read(t)
	if len(r.Faults) > 0 {
		t.Errorf("faults %q", r.Faults)
	}
	if len(r.Servers) != 5 || len(r.Flavors) != 2 || len(r.Aggregates) != 2 || len(r.Services) != 2 {
		t.Fatalf("%d servers, %d flavors, %d aggregates, %d services", len(r.Servers), len(r.Flavors), len(r.Aggregates), len(r.Services))
	}
	for id, want := range map[string]string{
		guestWeb:  `101 "web \"1\" \\ ünï" active on cmp01/cmp01.new in zone-1 of shop/ada: flavor 2, keys [ops], 1 ports, 1 devices, pool ssd-1, spec false 1`,
		guestDB:   `102 "db-1" stopped on cmp02/cmp02.new in  of bank/bob: flavor c0ffee00-0000-4000-8000-000000000002, keys [], 0 ports, 1 devices, pool ssd-1, spec true 4`,
		guestWin:  `104 "win-1" active on cmp01/cmp01.new in zone-1 of shop/ada: flavor 7, keys [], 0 ports, 1 devices, pool ssd-1, spec false 2`,
		guestSoft: `105 "soft" soft-delete on cmp02/cmp02.new in  of bank/bob: flavor 2, keys [], 0 ports, 1 devices, pool ssd-1, spec false 1`,
	} {
		s := r.Servers[id]
		if s == nil || s.Spec == nil {
			t.Errorf("%s: %+v", id, s)
			continue
		}
		got := fmt.Sprintf("%d %q %s on %s/%s in %s of %s/%s: flavor %s, keys %v, %d ports, %d devices, pool "+
			"%s, spec %v %d", s.ID, s.Name, s.State, s.Host, s.Node, s.Zone, s.Project, s.User,
			s.Flavor, s.Keypairs, len(s.Ports), len(s.Devices), s.System["aggregate_instance_metadata:pool"], s.Spec.BFV, s.Spec.VCPUs)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if s := r.Servers[guestDB]; s != nil && s.Spec != nil && fmt.Sprint(s.Spec.PCI) != "[[1 fast] [2 <nil>]]" {
		t.Errorf("PCI requests %v", s.Spec.PCI)
	}
	for id, want := range map[string][2]string{ // NUMA cells of the guest and of its request spec
		guestWeb: {"[[1 <nil>]]", "[[1 <nil>]]"},
		guestDB:  {"[[4 dedicated] [2 dedicated]]", "[[4 dedicated] [2 dedicated]]"},
		guestWin: {"[[2 <nil>]]", "[]"}, // Juno's
	} {
		if s := r.Servers[id]; s != nil && s.Spec != nil && [2]string{fmt.Sprint(s.Cells), fmt.Sprint(s.Spec.Cells)} != want {
			t.Errorf("%s: cells %v, in the spec %v, want %v", id, s.Cells, s.Spec.Cells, want)
		}
	}
	if s := r.Servers[guestLost]; s == nil || !s.DeletedGuest || s.Project != "others" {
		t.Errorf("the deleted guest: %+v", s)
	}
	if s := r.Servers[guestWeb]; s != nil && (s.Spec.Group == nil || *s.Spec.Group != "apart" ||
		s.Metadata["role"] != "web ?" || !slices.Equal(s.Tags, []string{"Größe", "prod"})) {
		t.Errorf("%+v, %+v", s, s.Spec)
	}
}

// apiTells asks a real nova-api. That it answers 200 proves nothing: of a guest that it
// can not read it gives a status UNKNOWN.
func (c *newCloud) apiTells(t *testing.T) {
	ask := c.startAPI(t)
	var servers struct {
		Servers []struct{ ID, Name, Status string }
	}
	ask("servers/detail?all_tenants=1", &servers)
	got := map[string]string{}
	for _, s := range servers.Servers {
		got[s.ID] = s.Status + " " + s.Name
	}
	want := map[string]string{guestWeb: `ACTIVE web "1" \ ünï`, guestDB: "SHUTOFF db-1", guestWin: "ACTIVE win-1"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("servers %v\nwant    %v", got, want)
	}
	for id, s := range want {
		var one struct {
			Server struct{ Name, Status string }
		}
		if ask("servers/"+id, &one); one.Server.Status+" "+one.Server.Name != s {
			t.Errorf("server %s: %+v, want %s", id, one, s)
		}
	}
	var flavors struct{ Flavors []struct{ ID, Name string } }
	if ask("flavors/detail?is_public=None",
		&flavors); fmt.Sprint(flavors.Flavors) != `[{2 m1.small} {c0ffee00-0000-4000-8000-000000000002 big "db"}]` {
		t.Errorf("flavors %v", flavors)
	}
	var aggregates struct {
		Aggregates []struct {
			Name     string
			Hosts    []string
			Metadata map[string]string
		}
	}
	if ask("os-aggregates", &aggregates); fmt.Sprint(aggregates.Aggregates) != "[{rack-a [cmp01 cmp02] "+
		"map[availability_zone:zone-1 pool:az-a]} {Gestell ü [] map[]}]" {
		t.Errorf("aggregates %v", aggregates)
	}
	var groups struct {
		Groups []struct {
			Name    string
			Members []string
		} `json:"server_groups"`
	}
	ask("os-server-groups?all_projects=1", &groups)
	if len(groups.Groups) != 1 || len(groups.Groups[0].Members) != 2 {
		t.Errorf("groups %+v", groups)
	}
	var services struct {
		Services []struct{ Host, Zone, Status string }
	}
	if ask("os-services", &services); fmt.Sprint(services.Services) != "[{cmp01 zone-1 enabled} {cmp02 zone-1 disabled}]" {
		t.Errorf("services %v", services)
	}
}

// startAPI starts nova-api, and returns what asks it.
func (c *newCloud) startAPI(t *testing.T) func(path string, into any) {
	t.Helper()
	addr := freePort(t)
	c.conf(t, "nova.conf", addr, standIn(t))
	ask := c.start(t, "nova-api", "nova-api", "--config-file", filepath.Join(c.dir, "nova.conf")).answers(t,
		addr)("X-Auth-Token", "admin:shop")
	return func(path string, into any) {
		t.Helper()
		if err := ask("v2.1/"+path, into); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *newCloud) spoiltGuests(t *testing.T) {
	tables := []string{"nova_api.request_specs", "nova_api.instance_mappings", "nova_api.host_mappings",
		"nova.instance_extra", "nova.instance_info_caches", "nova.instances",
		"nova.block_device_mapping", "nova.compute_nodes", "nova.services"}
	look := func() []string { return c.read(t).Faults }
	c.spoiled(t, tables, look,
		[]spoil{
			{"DELETE FROM nova_api.request_specs WHERE instance_uuid = '" + guestWeb + "'", guestWeb + " request spec: RequestSpecNotFound"},
			{"UPDATE nova.instance_extra SET flavor = NULL WHERE instance_uuid = '" + guestDB + "'", guestDB + ": OrphanedObjectError"},
			{"UPDATE nova.instance_info_caches SET network_info = '[{' WHERE instance_uuid = '" + guestWin + "'", guestWin + ": JSONDecodeError"},
			{"UPDATE nova_api.instance_mappings SET queued_for_delete = 0 WHERE instance_uuid = '" + guestSoft + "'",
				guestSoft + ": queued_for_delete False"},
			{"DELETE FROM nova_api.host_mappings WHERE host = 'cmp01'", guestWeb + ": host cmp01 has no mapping"},
			{"UPDATE nova.compute_nodes SET hypervisor_hostname = 'other' WHERE host = 'cmp02'", guestSoft + ": no compute node cmp02.new"},
			{"UPDATE nova_api.instance_mappings SET user_id = 'x' WHERE instance_uuid = '" + guestSoft + "'", guestSoft + ": mapping of bank, x"},
		},
		[]spoil{
			{"DELETE FROM nova.instance_info_caches WHERE instance_uuid = '" + guestWeb + "'", guestWeb + ": no info cache"},
			{"UPDATE nova.block_device_mapping SET uuid = NULL WHERE instance_uuid = '" + guestDB + "'", guestDB + ": block device without uuid"},
			{"UPDATE nova.instances SET hidden = 1 WHERE uuid = '" + guestWin + "'", guestWin + ": hidden"},
			{"DELETE FROM nova_api.instance_mappings WHERE instance_uuid = '" + guestSoft + "'", guestSoft + ": no mapping"},
			{`UPDATE nova.instance_extra SET numa_topology = REPLACE(numa_topology, '"pcpuset": [], ', '') WHERE instance_uuid = '` +
				guestWeb + "'", guestWeb + ": NotImplementedError"},
			{`UPDATE nova.instance_extra SET numa_topology = REPLACE(numa_topology, '"dedicated"', 'null') WHERE instance_uuid = '` +
				guestDB + "'", guestDB + ": pinned CPUs"},
			{"UPDATE nova.services SET version = 2 WHERE host = 'cmp01'", "service of cmp01: version 2"},
			{`UPDATE nova_api.request_specs SET spec = REPLACE(spec, '"nova_object.version": "1.11"', '"nova_object.version": "9.9"') WHERE instance_uuid = '` + guestWin + "'", guestWin + " request spec: IncompatibleObjectVersion"},
		},
	)
}
