package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

// TestVerifyByNovasCode: what Nova's own code finds wrong counts as a check that does not
// hold. A program stands in for Python here; the real one reads in the end-to-end tests.
func TestVerifyByNovasCode(t *testing.T) {
	rig := aligntest.MariaDB(t)
	flags := platforms(t, rig, rig)
	const guests = "CREATE TABLE instances (id INT AUTO_INCREMENT PRIMARY KEY, uuid VARCHAR(36), deleted INT NOT NULL);"
	rig.SQL("CREATE DATABASE old_nova; USE old_nova; " +
		guests + "INSERT INTO instances (uuid, deleted) VALUES ('aaa', 0), ('bbb', 2), ('ccc', 0); CREATE DATABASE nova; USE nova; " + guests)
	write(t, "nova.yaml", "format: 1\nname: nova\ntables:\n- target: nova.instances\n  from: nova.instances\n  "+
		"columns:\n  - copy: [id, uuid, deleted]\n")
	write(t, "nova.conf", "")
	python := func(name, shell string) string {
		write(t, name, "#!/bin/sh\ncat > /dev/null\n"+shell+"\n")
		if err := os.Chmod(name, 0o700); err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Abs(name)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	nova := []string{"--mapping", "nova.yaml", "--source-db", "nova=old_nova", "--source", rig.DSN(), "--target", rig.DSN()}
	if s := commandLine(t, "", db("run", nova)...); s.code != 0 {
		t.Fatal(s)
	}
	self := rig.SQL("SELECT CONCAT(@@hostname, ':', @@port)")
	told := func(faults, server, database string) string {
		return fmt.Sprintf(`echo '{"faults": [%s], "servers": ["%s"], "databases": ["nova_cell0", "%s"]}'`, faults, server, database)
	}
	// First it is asked for no guest, then for those that are not deleted.
	first := func(then string) string {
		return `case "$*" in "- nova.conf") ` + told("", self,
			"nova") + `;; "- nova.conf aaa ccc" | "- nova.conf ccc aaa") ` + then + `;; *) echo "$*" >&2; exit 9;; esac`
	}
	good := python("good", first(told("", self, "nova")))
	for _, c := range []struct {
		flags []string
		more  string
		code  int
		want  string
	}{
		{nova, "--nova-conf nova.conf --nova-python " + good, 0,
			`"Nova's own code reads 2 guests", "table": "nova.instances", "broken": 0, "holds": true } ], "equal": true`},
		{nova, "--nova-conf nova.conf --nova-python " +
			python("bad", first(told(`"aaa: hidden", "ccc: no info cache"`, self, "nova")+"; exit 1")), 1,
			`"broken": 2, "holds": false, "columns": [ "where" ], "keys": [ "aaa", "ccc" ], "error": "aaa: hidden; ccc: no info cache" } ], "equal": false`},
		{nova, "--nova-conf nova.conf --nova-python " + python("dies", first("echo no answer >&2; exit 1")), 1,
			"with --nova-conf nova.conf: exit status 1: no answer\" } ], \"equal\": false"},
		{nova, "--nova-conf nova.conf --nova-python " +
			python("many", first(told(`"x"`+strings.Repeat(`, "x"`, 22), self, "nova"))), 1, `x; x; x; and 3 more"`},
		{nova, "--nova-conf nova.conf --nova-python " +
			python("none", `echo "ModuleNotFoundError: No module named 'nova'" >&2; exit 1`), 1, "No module named 'nova'"},
		{nova, "--nova-conf nova.conf --nova-python " + python("elsewhere", told("", "db9:3306", "nova")), 3,
			"leads to the server db9:3306, and the target is " + self},
		{nova, "--nova-conf nova.conf --nova-python " + python("other", told("", self, "rehearsal")), 3,
			"leads to the databases nova_cell0, rehearsal, and the target's are nova"},
		{nova, "--nova-conf nova.conf --nova-python " + python("blind", told(`"cells: CellFault"`, self, "nova_api")),
			1, "reads no database nova: cells: CellFault"},
		{nova, "--nova-conf elsewhere.conf", 2, "--nova-conf: open elsewhere.conf: no such file"},
		{nova, "--nova-conf nova.conf --nova-python no/python", 2, "--nova-python: "},
		{nova, "--all", 2, "--all: want --nova-conf, too"},
		{nova, "--nova-python " + good, 2, "--nova-python: want --nova-conf, too"},
		{flags, "--nova-conf nova.conf --nova-python " + good, 2, "--nova-conf: the mapping has no table nova.instances"},
	} {
		s := commandLine(t, "", db("verify", c.flags, append(strings.Fields(c.more), "-o", "json")...)...)
		if s.code != c.code || !strings.Contains(strings.Join(strings.Fields(s.out+s.err), " "), c.want) {
			t.Errorf("%s ended with %d: %s%s", c.more, s.code, s.out, s.err)
		}
	}
	// All are read in pages, each by a process of its own, and what is wrong with all is told once.
	const pages = `echo "$# $*" | cut -c1-20 >> pages; echo '{"faults": ["flavors: none", "of '$3'"], "servers": ["` +
		"%s" + `"], "databases": ["nova"]}'`
	rig.SQL("USE old_nova; INSERT INTO instances (uuid, deleted) SELECT CONCAT('g', seq), 0 FROM seq_1_to_1001; " +
		"DELETE FROM nova.instances; INSERT INTO nova.instances SELECT * FROM old_nova.instances")
	s := commandLine(t, "", db("verify", nova, "--nova-conf", "nova.conf", "--nova-python",
		python("pages.sh", fmt.Sprintf(pages, self)), "--all", "-o", "json")...)
	calls, err := os.ReadFile("pages")
	if err != nil || string(calls) != "2 - nova.conf\n502 - nova.conf aaa \n502 - nova.conf g499\n5 - nova.conf g999 g\n" {
		t.Errorf("called with %q, %v", calls, err)
	}
	if got := strings.Join(strings.Fields(s.out), " "); s.code != 1 ||
		!strings.Contains(got, `"Nova's own code reads 1003 guests", "table": "nova.instances", "broken": 5, "holds": false, "columns": [ "where" ], "keys": [ "flavors", "of ", "of aaa", "of g499", "of g999" ], "error": "flavors: none; of ; of aaa; of g499; of g999"`) {
		t.Errorf("ended with %d: %s%s", s.code, got, s.err)
	}
}
