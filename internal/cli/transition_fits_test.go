package cli

import (
	"strings"
	"testing"
)

// TestAPlanRefusesWhatACommandWould: what a command of the plan would refuse of its values is told by plan, with the field.
func TestAPlanRefusesWhatACommandWould(t *testing.T) {
	const file = `format: 1
name: a
host: cp1
platform: {file: /f, source: /s, target: /t}
databases: {profile: openstack-liberty-zed, ids: /ids, source: "/?option-file=/nothing/old.cnf", target: new@tcp(db:3306)/, sourceDB: {nova: old}, skip: [neutron.agents]}
network: {file: /n, source: {db: o@tcp(db)/}, target: {endpoint: "http://127.0.0.1:9697", db: n@tcp(db)/}, jobs: 8}
upgrade: {bundle: /b, flags: [--key, /k, --keep-guests, --pin, br-int, --canary, "1"]}
features: {guests: [g], flags: [--wait, 5m]}
stages: {cleanup: {after: [{name: commit, run: [holdfast, upgrade, commit, --yes, --wait]}]}}
`
	if s := commandLine(t, file, "transition", "plan", "-"); s.code != 0 {
		t.Fatalf("%d: %s", s.code, s.err)
	}
	for _, c := range []struct{ old, with, want string }{
		{"-zed", "-caracal", `databases.profile: value "openstack-liberty-caracal": want openstack-liberty-stein or openstack-liberty-zed`},
		{"/?option-file", "/?optionfile", `databases.source: value "(not shown)": parameter "optionfile": want one of compress, option-file`},
		{"new@tcp(db:3306)/", "db:3306", `databases.target: value "(not shown)": want USER@tcp(HOST:PORT)/, USER@unix(PATH)/ or mysql://USER@HOST:PORT/, or /?option-file=PATH`},
		{"new@tcp(db:3306)/", "new@tcp(db:3306)/nova", "want no database behind the /: sourceDB and targetDB name them"},
		{"db: n@tcp(db)/", "db: n@tcp(db)/neutron", "network.target.db: value \"(not shown)\": want no database behind the /: dbName names it"},
		{"{nova: old}", "{nvoa: old}", `databases.sourceDB.nvoa: value "nvoa": the mapping has no such database there; want one of cinder, glance, neutron, nova`},
		{"neutron.agents", "neutron.agent", `databases.skip[0]: value "neutron.agent": the mapping fills no table "neutron.agent": want`},
		{"http://127.0.0.1:9697", "127.0.0.1:9697", `network.target.endpoint: value "127.0.0.1:9697": want http://HOST:PORT or https://HOST:PORT`},
		{"jobs: 8", "jobs: 65", `network.jobs: value "65": want 1 to 64`},
		{"--canary", "--canaries", `upgrade.flags[5]: value "--canaries": holdfast upgrade run has no flag --canaries; see: holdfast upgrade run --help`},
		{`"1"`, "one", `upgrade.flags[6]: value "one": --canary "one": want a whole number`},
		{`, "1"`, "", `upgrade.flags[5]: value "--canary": want a value behind --canary`},
		{"--keep-guests", "keep-guests", "upgrade.flags[2]: value \"keep-guests\": want a flag of `holdfast upgrade run`, or the value of the one before"},
		{"5m", `"5"`, `features.flags[1]: value "5": --wait "5": want a duration such as 90s or 5m`},
		{"upgrade, commit", "upgrade, comit", "stages.cleanup.after[0].run: value \"holdfast upgrade comit --yes --wait\": want a command that `holdfast --help` lists"},
		{"commit, --yes", "commit, --yess", `stages.cleanup.after[0].run: value "holdfast upgrade commit --yess --wait": holdfast upgrade commit has no flag --yess`},
		{"commit, --yes", "commit, now, --yes", `stages.cleanup.after[0].run: value "holdfast upgrade commit now --yes --wait": holdfast upgrade commit: `},
	} {
		if !strings.Contains(file, c.old) {
			t.Fatalf("the file has no %q", c.old)
		}
		s := commandLine(t, strings.Replace(file, c.old, c.with, 1), "transition", "plan", "-")
		if got := unwrapped(s); s.code != 2 || !strings.Contains(got, c.want) || strings.Count(got, "(stdin):") != 1 {
			t.Errorf("%s: %d\ngot  %s\nwant %s", c.with, s.code, got, c.want)
		}
	}
}
