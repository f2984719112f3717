package cli

import (
	"strings"
	"testing"
)

// TestAPlanWithAWrongProfile tells the other faults of its databases, too.
func TestAPlanWithAWrongProfile(t *testing.T) {
	const file = "format: 1\nname: a\nhost: h\ndatabases: {profile: bogus, ids: /ids, source: a@tcp(a)/, target: " +
		"a@tcp(b)/, targetDB: {nvoa: x}, skip: [neutron.agent, neutron.agents]}\n"
	s := commandLine(t, file, "transition", "plan", "-")
	for _, want := range []string{`databases.profile: value "bogus": want openstack`,
		`databases.targetDB.nvoa: value "nvoa": the mapping has no such database there`,
		`databases.skip[0]: value "neutron.agent": the mapping fills no table`} {
		if got := unwrapped(s); s.code != 2 || !strings.Contains(got, want) || strings.Count(got, "(stdin):") != 3 {
			t.Errorf("%d\ngot  %s\nwant %s", s.code, got, want)
		}
	}
}

// TestAPlanTakesTablesOfPlugIns: a database may have tables that nobody knows; an API has not.
func TestAPlanTakesTablesOfPlugIns(t *testing.T) {
	const file = "format: 1\nname: a\nhost: h\nnetwork: {file: /n, leaveOut: [sg_ext, quota, " +
		"port.numa_affinity_policy], source: {db: o@tcp(db)/}, target: {endpoint: \"http://127.0.0.1:9697\", db: n@tcp(db)/}}\n"
	if s := commandLine(t, file, "transition", "plan", "-"); s.code != 0 {
		t.Errorf("%d: %s", s.code, s.err)
	}
	if s := commandLine(t, strings.Replace(file, "{db: o@tcp(db)/}", `{endpoint: "http://a:1"}`, 1), "transition",
		"plan", "-"); s.code != 2 || !strings.Contains(s.err, `network.leaveOut[0]: value "sg_ext"`) {
		t.Errorf("%d: %s", s.code, s.err)
	}
}

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
		{"new@tcp(db:3306)/", "db:3306",
			`databases.target: value "(not shown)": want USER@tcp(HOST:PORT)/, USER@unix(PATH)/ or mysql://USER@HOST:PORT/, or /?option-file=PATH`},
		{"new@tcp(db:3306)/", "new@tcp(db:3306)/nova", "want no database behind the /: sourceDB and targetDB name them"},
		{"db: n@tcp(db)/", "db: n@tcp(db)/neutron", "network.target.db: value \"(not shown)\": want no database behind the /: dbName names it"},
		{"{nova: old}", "{nvoa: old}",
			`databases.sourceDB.nvoa: value "nvoa": the mapping has no such database there; want one of cinder, glance, neutron, nova`},
		{"neutron.agents", "neutron.agent", `databases.skip[0]: value "neutron.agent": the mapping fills no table "neutron.agent": want`},
		{"http://127.0.0.1:9697", "127.0.0.1:9697",
			`network.target.endpoint: value "127.0.0.1:9697": want http://HOST:PORT or https://HOST:PORT`},
		{"jobs: 8", "jobs: 65", `network.jobs: value "65": want 1 to 64`},
		{"--canary", "--canaries", `upgrade.flags[5]: value "--canaries": holdfast upgrade run has no flag --canaries; see: holdfast upgrade run --help`},
		{`"1"`, "one", `upgrade.flags[6]: value "one": --canary "one": want a whole number`},
		{`, "1"`, "", `upgrade.flags[5]: value "--canary": want a value behind --canary`},
		{"--keep-guests", "keep-guests", "upgrade.flags[2]: value \"keep-guests\": want a flag of `holdfast upgrade " +
			"run`, or the value of the one before"},
		{"5m", `"5"`, `features.flags[1]: value "5": --wait "5": want a duration such as 90s or 5m`},
		{"upgrade, commit", "upgrade, comit", "stages.cleanup.after[0].run: value \"holdfast upgrade comit --yes " +
			"--wait\": want a command that `holdfast --help` lists"},
		{"commit, --yes", "commit, --yess",
			`stages.cleanup.after[0].run: value "holdfast upgrade commit --yess --wait": holdfast upgrade commit has no flag --yess`},
		{"commit, --yes", "commit, now, --yes",
			`stages.cleanup.after[0].run: value "holdfast upgrade commit now --yes --wait": holdfast upgrade commit: `},
		// What the commands themselves refuse.
		{`--canary, "1"`, `--loss-limit, "-1"`, `upgrade.flags[6]: value "-1": --loss-limit -1: want 0 or more`},
		{`--canary, "1"`, `--loss-limit, "5"`, `upgrade.flags[6]: value "5": --loss-limit 5: want --probe with it`},
		{`--canary, "1"`, `--canary, "-1"`, `upgrade.flags[6]: value "-1": --canary -1: want 0 or more`},
		{"--keep-guests, ", "", `upgrade.flags[3]: value "br-int": --pin br-int: want --keep-guests with it`},
		{`--canary, "1"`, `--version, ""`, `upgrade.flags[6]: value "": --version "": want the version that is installed`},
		{"br-int,", `"br int",`, `upgrade.flags[4]: value "br int": --pin "br int": want names of bridges, each once`},
		{"--wait, 5m", "--flavor, --rebuild", `features.flags[1]: value "--rebuild": want the value of --flavor`},
		{"--wait, 5m", "--rebuild, --flavor", `features.flags[1]: value "--flavor": want a value behind --flavor`},
		{"--wait, 5m", "--bogus", `features.flags[0]: value "--bogus": holdfast transition features has no flag --bogus`},
		{"--wait, 5m", `--metadata, "http://a:99999", --secret, /s`,
			`features.flags[1]: value "http://a:99999": --metadata "http://a:99999": want http://HOST:PORT or https://HOST:PORT`},
		{"--wait, 5m", "--here, h", `features.flags[1]: value "h": --here is of use without --openstack only`},
		{"jobs: 8", "leaveOut: [quotaa]", `network.leaveOut[0]: value "quotaa": want what the document leaves out, a kind (`},
		{"jobs: 8", "leaveOut: [port.]", `network.leaveOut[0]: value "port.": want what the document leaves out, a kind (`},
		{"http://127.0.0.1:9697", "http://127.0.0.1:99999",
			`network.target.endpoint: value "http://127.0.0.1:99999": want http://HOST:PORT or https://HOST:PORT`},
		{"db:3306", "db:99999", `databases.target: value "(not shown)": port "99999": want 1 to 65535`},
		{"{db: o@tcp(db)/}", `{endpoint: "http://a", dbName: neutron}`,
			`network.source.dbName: value "neutron": want none beside endpoint: it is for db`},
		{"{nova: old}", `{nova: "a b"}`, `databases.sourceDB.nova: value "a b": want the name of a database, without spaces`},
		{"upgrade, commit, --yes, --wait", "transition, pin, br-int, --for, 1s",
			`"holdfast transition pin br-int --for 1s": --for 1s: want whole seconds, 10s to 4h0m0s`},
		{"upgrade, commit, --yes, --wait", "transition, net, apply",
			`"holdfast transition net apply": no --endpoint given; want http://HOST:PORT`},
		{"upgrade, commit, --yes, --wait", "status, -o, xml", `"holdfast status -o xml": output format "xml": want text or json`},
		{"upgrade, commit, --yes, --wait", "upgrade, report, -o, xml", `output format "xml": want text, json or html`},
		{"upgrade, commit, --yes, --wait", "transition, db, plan, --mapping, /m",
			`"holdfast transition db plan --mapping /m": no --source given; want USER@tcp`},
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

// TestAPlanTellsAllFlagsThatAreWrong at once, beside other faults of the file, and nothing that only follows from them.
func TestAPlanTellsAllFlagsThatAreWrong(t *testing.T) {
	const file = `format: 1
name: a
host: cp1
platform: {file: f, source: /s, target: /t}
upgrade: {bundle: /b, flags: [--bogus, "1", --pin, br-int, --canaries=1, --canary, one, keep-guests, --loss-limit, "-1"]}
features: {guests: [g], flags: [--here, h, --bogus, --flavour, m1, --wait, "5"]}
stages: {cleanup: {after: [{name: plan, run: [holdfast, transition, db, plan, --mappings, /m, --source, a@tcp(a)/, --targets, b, --bogus, --skip]}]}}
`
	s := commandLine(t, file, "transition", "plan", "-")
	got := unwrapped(s)
	for _, want := range []string{
		`platform.file: value "f": want an absolute path`,
		`upgrade.flags[0]: value "--bogus": holdfast upgrade run has no flag --bogus; see`,
		`upgrade.flags[4]: value "--canaries=1": holdfast upgrade run has no flag --canaries`,
		`upgrade.flags[6]: value "one": --canary "one": want a whole number`,
		`upgrade.flags[7]: value "keep-guests": want a flag of`, `upgrade.flags[9]: value "-1": --loss-limit -1: want 0 or more`,
		`features.flags[1]: value "h": --here is of use without --openstack only`,
		`features.flags[2]: value "--bogus": holdfast transition features has no flag --bogus`,
		`features.flags[3]: value "--flavour"`, `features.flags[6]: value "5": --wait "5": want a duration`,
		`holdfast transition db plan has no flag --mappings, --targets, --bogus; see: holdfast transition db plan --help; want a value behind --skip`,
	} {
		if s.code != 2 || !strings.Contains(got, want) {
			t.Errorf("%d\ngot  %s\nwant %s", s.code, got, want)
		}
	}
	if n := strings.Count(got, "(stdin):"); n != 11 {
		t.Errorf("%d faults: %s", n, got)
	}
}
