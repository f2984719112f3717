package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
)

// debianPython sees Debian's packages of OpenStack; another one earlier in PATH does not.
const debianPython = "/usr/bin/python3"

// newCloud is an empty platform of Debian's release, made by its own programs.
type newCloud struct {
	*aligntest.Rig
	dir string
}

func needsOpenStack(t *testing.T) {
	t.Helper()
	need.Real(t, built, need.Programs("nova-common", "nova-manage", "nova-status"), need.Programs("nova-api", "nova-api"),
		need.Programs("nova-conductor", "nova-conductor"), need.Programs("glance-common", "glance-manage"),
		need.Programs("cinder-common", "cinder-manage"),
		func() error {
			if out, err := exec.Command(debianPython, "-c",
				"import nova.version, glance.version, cinder.version, pymysql").CombinedOutput(); err != nil {
				return fmt.Errorf("%s has no OpenStack: %w: %s", debianPython, err, out)
			}
			return nil
		})
}

// makeCloud makes the new platform's databases. Those of Neutron are its agents only.
func makeCloud(t *testing.T) *newCloud {
	t.Helper()
	c := &newCloud{aligntest.MariaDB(t, "--character-set-server=utf8mb3", "--collation-server=utf8mb3_general_ci",
		"--max-connections=300"), t.TempDir()}
	c.SQL("CREATE USER 'cloud'@'%' IDENTIFIED BY 'cloud'; GRANT ALL ON *.* TO 'cloud'@'%'")
	for _, name := range []string{"nova.conf", "glance.conf", "glance-paste.ini", "cinder.conf"} {
		c.conf(t, name, "127.0.0.1:0", "http://127.0.0.1:9")
	}
	if firstCloud.sql == "" {
		c.setUp(t)
		firstCloud.sql, firstCloud.url = c.dump(t), c.url()
	} else {
		c.SQL(strings.ReplaceAll(firstCloud.sql, firstCloud.url, c.url()))
	}
	return c
}

// cloudDatabases are those that a cloud has.
var cloudDatabases = []string{"nova_api", "nova", "nova_cell0", "glance", "cinder", "neutron"}

// firstCloud is what the first test's cloud was made of, for the tests after it: the
// platform's programs take their time. url stands in it, too.
var firstCloud struct{ sql, url string }

// dump is the text of all databases of the cloud.
func (c *newCloud) dump(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serviceWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mariadb-dump", append([]string{"--no-defaults", "--socket=" + c.Socket(),
		"--user=root", "--default-character-set=utf8mb4", "--databases"}, cloudDatabases...)...)
	var fault bytes.Buffer
	cmd.Stderr = &fault
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, fault.Bytes())
	}
	return string(text)
}

// setUp makes the databases by the platform's own programs.
func (c *newCloud) setUp(t *testing.T) {
	t.Helper()
	for _, db := range cloudDatabases {
		c.SQL("CREATE DATABASE " + db)
	}
	c.SQL(agentsTable(t))
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
	c.SQL("INSERT INTO cinder.services (created_at, updated_at, deleted, host, `binary`, topic, report_count, " +
		"disabled, availability_zone, uuid, rpc_current_version, object_current_version) VALUES " +
		"(NOW(), NOW(), 0, 'new@rbd', 'cinder-volume', 'cinder-volume', 1, 0, 'nova', '" + backEnd + "', '3.17', '1.39')")
}

// agentsTable is the statement that makes Neutron's table of agents.
func agentsTable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../internal/transition/db/mapping/testdata/zed-schema.sql")
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

// conf writes a configuration of testdata/align. The service listens at addr, when it is
// one; others are asked at elsewhere.
func (c *newCloud) conf(t *testing.T, name, addr, elsewhere string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/align", name))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	// Not filled: addresses of databases have an @ of their own.
	writeFile(t, filepath.Join(c.dir, name), strings.NewReplacer("@DIR@", c.dir, "@DB@", c.url(), "@PORT@", port,
		"@ELSEWHERE@", elsewhere).Replace(string(text)))
}

// manage runs one of the programs that set databases up.
func (c *newCloud) manage(t *testing.T, what string, args ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), serviceWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, what+"-manage", append([]string{"--config-file", filepath.Join(c.dir, what+".conf")}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, out)
	}
}

// args are those of every command that brings the rows of a server into the cloud.
func (c *newCloud) args(t *testing.T, old *aligntest.Rig) []string {
	t.Helper()
	args := []string{"--profile", "openstack-liberty-zed", "--source", old.DSN(), "--target", c.DSN(), "--ids", c.idFiles(t)}
	for _, db := range []string{"nova", "glance", "cinder", "neutron"} {
		args = append(args, "--source-db", db+"=liberty_"+db)
	}
	return args
}

// align plans, copies from one server to the other and verifies by the program, also that
// Nova's own code reads guests.
func (c *newCloud) align(t *testing.T, old *aligntest.Rig) {
	t.Helper()
	args := c.args(t, old)
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
	before := aligntest.Checksums(t, c.Rig, cloudDatabases...)
	if last := verified(t, append(args, "--nova-conf", filepath.Join(c.dir, "nova.conf"), "--nova-python",
		debianPython)); last != "Nova's own code reads 4 guests" {
		t.Errorf("the last check is %q", last)
	}
	if after := aligntest.Checksums(t, c.Rig, cloudDatabases...); !maps.Equal(before, after) { // Nova mends some rows as it reads them
		t.Errorf("reading has changed rows: %v, %v", before, after)
	}
}

// verified has the program compare every row, and gives the last of what it has asked
// beside them.
func verified(t *testing.T, args []string) (last string) {
	t.Helper()
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
	return verify.Checks[len(verify.Checks)-1].Name
}

// holdfast runs a command of `transition db` and reads what it prints.
func holdfast(t *testing.T, into any, command string, args []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serviceWithin)
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

// backEnd is the new platform's service of volumes, new@rbd.
const backEnd = "c1de0000-0000-4000-8000-000000000001"

// idFiles writes the files of IDs. The new platform has other projects, users, nodes,
// zones and pools; the one volume type is its own, and so are the stores of images.
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
		"service":           {"ctl01@ceph," + backEnd},
		"backend":           {"rbd://0a0b0c/images,ceph", "file:///var,files", "*,-"},
	} {
		writeFile(t, filepath.Join(dir, name+".csv"), strings.Join(lines, "\n")+"\n")
	}
	return dir
}
