package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/align/aligntest"
)

// debianPython sees Debian's packages of OpenStack; another one earlier in PATH does not.
const debianPython = "/usr/bin/python3"

// Guests of internal/align/profile/testdata/rows.sql.
const (
	guestWeb  = "90000000-0000-4000-8000-000000000101"
	guestDB   = "90000000-0000-4000-8000-000000000102"
	guestLost = "90000000-0000-4000-8000-000000000103" // deleted
	guestWin  = "90000000-0000-4000-8000-000000000104"
	guestSoft = "90000000-0000-4000-8000-000000000105" // deleted softly
)

// newCloud is an empty platform of Debian's release, made by its own programs.
type newCloud struct {
	*aligntest.Rig
	dir string
}

// TestNovaReadsAlignedRows aligns rows of Liberty with databases that Debian's own
// nova-manage, glance-manage and cinder-manage made. Nova's objects read every guest, and
// a real nova-api tells of them. Rows that are spoilt afterwards are found.
func TestNovaReadsAlignedRows(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no real Nova")
	}
	needsOpenStack(t)
	cloud := makeCloud(t)
	old := aligntest.MariaDB(t)
	old.Load("liberty-schema.sql", "liberty_", "liberty_")
	rows, err := os.ReadFile("../internal/align/profile/testdata/rows.sql")
	if err != nil {
		t.Fatal(err)
	}
	old.SQL(string(rows))
	cloud.align(t, old)
	t.Run("objects", cloud.objectsRead)
	t.Run("api", cloud.apiTells)
	t.Run("manage", func(t *testing.T) {
		cloud.manage(t, "nova", "cell_v2", "verify_instance", "--uuid", guestWeb)
		cloud.manage(t, "nova", "db", "online_data_migrations")
	})
	t.Run("spoilt", cloud.spoiltRowsAreFound)
}

func needsOpenStack(t *testing.T) {
	t.Helper()
	for _, name := range []string{"nova-manage", "nova-api", "glance-manage", "cinder-manage"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%v: packaging/test-deps.sh installs it", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, debianPython, "-c", "import nova.version, pymysql").CombinedOutput(); err != nil {
		t.Skipf("%s has no Nova: %v: %s", debianPython, err, out)
	}
}

// makeCloud makes the new platform's databases. Those of Neutron are its agents only.
func makeCloud(t *testing.T) *newCloud {
	t.Helper()
	c := &newCloud{aligntest.MariaDB(t, "--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci", "--max-connections=300"), t.TempDir()}
	c.SQL("CREATE USER 'cloud'@'%' IDENTIFIED BY 'cloud'; GRANT ALL ON *.* TO 'cloud'@'%'")
	for _, db := range []string{"nova_api", "nova", "nova_cell0", "glance", "cinder", "neutron"} {
		c.SQL("CREATE DATABASE " + db)
	}
	c.SQL(agentsTable(t))
	for _, name := range []string{"nova.conf", "glance.conf", "cinder.conf"} {
		c.conf(t, name, "0", "http://127.0.0.1:9")
	}
	// Two at a time, as different programs of a control node are set up.
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		c.manage(t, "nova", "api_db", "sync")
		c.manage(t, "nova", "cell_v2", "map_cell0", "--database_connection", c.url()+"/nova_cell0?charset=utf8")
		c.manage(t, "nova", "db", "sync")
		c.manage(t, "nova", "cell_v2", "create_cell", "--name", "cell1")
	}()
	go func() {
		defer both.Done()
		c.manage(t, "glance", "db_sync")
		c.manage(t, "cinder", "db", "sync")
	}()
	both.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// agentsTable is the statement that makes Neutron's table of agents.
func agentsTable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../internal/align/testdata/zed-schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("USE `zed_neutron`;"))
	at := bytes.Index(text, []byte("CREATE TABLE `agents`"))
	if at < 0 {
		t.Fatal("zed-schema.sql: no table agents")
	}
	create, _, _ := strings.Cut(string(text[at:]), ";\n")
	return "USE neutron; " + create
}

// url is the server as SQLAlchemy names it.
func (c *newCloud) url() string {
	return fmt.Sprintf("mysql+pymysql://cloud:cloud@127.0.0.1:%d", c.Port())
}

func (c *newCloud) conf(t *testing.T, name, port, neutron string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/align", name))
	if err != nil {
		t.Fatal(err)
	}
	// Not filled: addresses of databases have an @ of their own.
	writeFile(t, filepath.Join(c.dir, name), strings.NewReplacer("@DIR@", c.dir, "@DB@", c.url(), "@PORT@", port, "@NEUTRON@", neutron).Replace(string(text)))
}

// manage runs one of the programs that set databases up.
func (c *newCloud) manage(t *testing.T, what string, args ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, what+"-manage", append([]string{"--config-file", filepath.Join(c.dir, what+".conf")}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}

// align plans, copies from one server to the other and verifies by the program.
func (c *newCloud) align(t *testing.T, old *aligntest.Rig) {
	t.Helper()
	args := []string{"--profile", "openstack-liberty-zed", "--source", old.DSN(), "--target", c.DSN(), "--ids", c.idFiles(t)}
	for _, db := range []string{"nova", "glance", "cinder", "neutron"} {
		args = append(args, "--source-db", db+"=liberty_"+db)
	}
	var plan struct {
		Tables []struct{ Rows int64 }
		Errors []any
	}
	holdfast(t, &plan, "plan", args)
	if len(plan.Errors) > 0 || len(plan.Tables) < 40 {
		t.Fatalf("plan of %d tables, errors %v", len(plan.Tables), plan.Errors)
	}
	var run struct{ Tables []struct{ Rows int64 } }
	holdfast(t, &run, "run", args)
	for i, x := range plan.Tables {
		if i >= len(run.Tables) || run.Tables[i].Rows != x.Rows || x.Rows == 0 {
			t.Errorf("table %d of the plan: %d rows; copied: %v", i, x.Rows, run.Tables)
			break
		}
	}
	var verify struct {
		Equal  bool
		Checks []struct {
			Name  string
			Holds bool
		}
	}
	holdfast(t, &verify, "verify", args)
	if !verify.Equal || len(verify.Checks) < 15 {
		t.Fatalf("verify: %+v", verify)
	}
}

// holdfast runs a command of `transition db` and reads what it prints.
func holdfast(t *testing.T, into any, command string, args []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../bin/holdfast", append([]string{"transition", "db", command, "-o", "json"}, args...)...)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		t.Fatalf("transition db %s: %v: %s%s", command, err, fault.Bytes(), out.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("transition db %s: %v: %s", command, err, out.Bytes())
	}
}

// idFiles writes the files of IDs. The new platform has other projects, users, nodes,
// zones and pools; the one volume type is its own.
func (c *newCloud) idFiles(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(c.dir, "ids")
	kind := strings.TrimSpace(c.SQL("SELECT id FROM cinder.volume_types WHERE name = '__DEFAULT__'"))
	for name, lines := range map[string][]string{
		"project":           {"c0000000000040008000000000000001,shop", "c0000000000040008000000000000002,bank", "*,others"},
		"user":              {"a0000000000040008000000000000001,ada", "b0000000000040008000000000000002,bob"},
		"node":              {"cmp01.example,cmp01.new", "cmp02.example,cmp02.new"},
		"availability_zone": {"az-a,zone-1", "nova,nova"},
		"pool":              {"ctl01@ceph#ssd,new@rbd#fast", "ctl01@ceph#hdd,new@rbd#slow"},
		"volume_type":       {"95000000-0000-4000-8000-000000000001," + kind},
	} {
		writeFile(t, filepath.Join(dir, name+".csv"), strings.Join(lines, "\n")+"\n")
	}
	return dir
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
	}
	Flavors    map[string]struct{ Name string }
	Aggregates map[string]struct{ Hosts []string }
	Services   [][]any
	Faults     []string
}

// read has Nova's objects read all guests.
func (c *newCloud) read(t *testing.T) reading {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, debianPython, "testdata/align/nova_reads.py", filepath.Join(c.dir, "nova.conf"))
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	ended := cmd.Run()
	var r reading
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("nova_reads.py: %v, %v: %s", ended, err, fault.Bytes())
	}
	if (ended == nil) != (len(r.Faults) == 0) {
		t.Errorf("nova_reads.py: %v with faults %q", ended, r.Faults)
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
		got := fmt.Sprintf("%d %q %s on %s/%s in %s of %s/%s: flavor %s, keys %v, %d ports, %d devices, pool %s, spec %v %d", s.ID, s.Name, s.State, s.Host, s.Node, s.Zone, s.Project, s.User,
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
	if s := r.Servers[guestWeb]; s != nil && (s.Spec.Group == nil || *s.Spec.Group != "apart" || s.Metadata["role"] != "web ?" || !slices.Equal(s.Tags, []string{"Größe", "prod"})) {
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
	if ask("flavors/detail?is_public=None", &flavors); fmt.Sprint(flavors.Flavors) != `[{2 m1.small} {c0ffee00-0000-4000-8000-000000000002 big "db"}]` {
		t.Errorf("flavors %v", flavors)
	}
	var aggregates struct {
		Aggregates []struct {
			Name     string
			Hosts    []string
			Metadata map[string]string
		}
	}
	if ask("os-aggregates", &aggregates); fmt.Sprint(aggregates.Aggregates) != "[{rack-a [cmp01 cmp02] map[availability_zone:zone-1 pool:az-a]} {Gestell ü [] map[]}]" {
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
	neutron := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ports": [], "networks": [], "security_groups": [], "extensions": []}`) // a client that went away
	}))
	t.Cleanup(neutron.Close)
	addr := freePort(t)
	_, port, _ := strings.Cut(addr, ":")
	c.conf(t, "nova.conf", port, neutron.URL)
	log := &bytes.Buffer{}
	cmd := exec.Command("nova-api", "--config-file", filepath.Join(c.dir, "nova.conf"))
	cmd.Stdout, cmd.Stderr = log, log
	// It has children: they are ended together, and with this process at the latest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			t.Errorf("nova-api: %v", err)
		}
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("nova-api:\n%s", log)
		}
	})
	ask := func(path string) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", "admin:shop")
		return http.DefaultClient.Do(req)
	}
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		r, err := ask("")
		if err == nil {
			if err := r.Body.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nova-api does not answer: %v", err)
		}
	}
	return func(path string, into any) {
		t.Helper()
		r, err := ask("v2.1/" + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v: %s", path, r.Status, err, text)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
	}
}

// spoiltRowsAreFound: the reader of rows must find what is wrong, or it proves nothing.
// Each round spoils several guests in different ways; the rows are put back.
func (c *newCloud) spoiltRowsAreFound(t *testing.T) {
	tables := []string{"nova_api.request_specs", "nova_api.instance_mappings", "nova_api.host_mappings", "nova.instance_extra", "nova.instance_info_caches", "nova.instances",
		"nova.block_device_mapping", "nova.compute_nodes", "nova.services"}
	c.SQL("CREATE DATABASE kept")
	for _, x := range tables {
		c.SQL(fmt.Sprintf("CREATE TABLE kept.`%s` AS SELECT * FROM %s", x, x))
	}
	put := func() {
		var text strings.Builder
		text.WriteString("SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO';")
		for _, x := range tables {
			fmt.Fprintf(&text, "DELETE FROM %s; INSERT INTO %s SELECT * FROM kept.`%s`;", x, x, x)
		}
		c.SQL(text.String())
	}
	for _, round := range [][][2]string{ // SQL, and what is said of it
		{
			{"DELETE FROM nova_api.request_specs WHERE instance_uuid = '" + guestWeb + "'", guestWeb + " request spec: RequestSpecNotFound"},
			{"UPDATE nova.instance_extra SET flavor = NULL WHERE instance_uuid = '" + guestDB + "'", guestDB + ": OrphanedObjectError"},
			{"UPDATE nova.instance_info_caches SET network_info = '[{' WHERE instance_uuid = '" + guestWin + "'", guestWin + ": JSONDecodeError"},
			{"UPDATE nova_api.instance_mappings SET queued_for_delete = 0 WHERE instance_uuid = '" + guestSoft + "'", guestSoft + ": queued_for_delete False"},
			{"DELETE FROM nova_api.host_mappings WHERE host = 'cmp01'", guestWeb + ": host cmp01 has no mapping"},
			{"UPDATE nova.compute_nodes SET hypervisor_hostname = 'other' WHERE host = 'cmp02'", guestSoft + ": no compute node cmp02.new"},
			{"UPDATE nova_api.instance_mappings SET user_id = 'x' WHERE instance_uuid = '" + guestSoft + "'", guestSoft + ": mapping of bank, x"},
		},
		{
			{"DELETE FROM nova.instance_info_caches WHERE instance_uuid = '" + guestWeb + "'", guestWeb + ": no info cache"},
			{"UPDATE nova.block_device_mapping SET uuid = NULL WHERE instance_uuid = '" + guestDB + "'", guestDB + ": block device without uuid"},
			{"UPDATE nova.instances SET hidden = 1 WHERE uuid = '" + guestWin + "'", guestWin + ": hidden"},
			{"DELETE FROM nova_api.instance_mappings WHERE instance_uuid = '" + guestSoft + "'", guestSoft + ": no mapping"},
			{`UPDATE nova.instance_extra SET numa_topology = REPLACE(numa_topology, '"pcpuset": [], ', '') WHERE instance_uuid = '` + guestWeb + "'", guestWeb + ": NotImplementedError"},
			{`UPDATE nova.instance_extra SET numa_topology = REPLACE(numa_topology, '"dedicated"', 'null') WHERE instance_uuid = '` + guestDB + "'", guestDB + ": pinned CPUs"},
			{"UPDATE nova.services SET version = 2 WHERE host = 'cmp01'", "service of cmp01: version 2"},
			{`UPDATE nova_api.request_specs SET spec = REPLACE(spec, '"nova_object.version": "1.11"', '"nova_object.version": "9.9"') WHERE instance_uuid = '` + guestWin + "'", guestWin + " request spec: IncompatibleObjectVersion"},
		},
	} {
		for _, x := range round {
			c.SQL(x[0])
		}
		faults := c.read(t).Faults
		for _, x := range round {
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, x[1]) }) {
				t.Errorf("%s: not found among %q", x[0], faults)
			}
		}
		put()
	}
	if r := c.read(t); len(r.Faults) > 0 {
		t.Errorf("after all was put back: %q", r.Faults)
	}
}
