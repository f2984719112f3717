package faults

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// lines are what products write; each entry of the built-in catalogue has one.
func lines() map[string][]string {
	return map[string][]string{
		"logrep-user-exists": {"2023-10-10 07:30:56 ERROR [pid:16272] [logicrep_ctl.py:338 <module>] LREP already " +
			"exist,please choose another name"},
		"logrep-start-failed": {"[ERROR] start logicrep failed. [Line:79, File:/opt/cantian/action/start.sh]"},
		"pre-upgrade-failed":  {"[ERROR] Execute cantian-common pre_upgrade.sh return failed. [Line:92, File:/x/action/appctl.sh]"},
		"array-not-reachable": {"[ERROR] try to ping storage array ip '10.0.0.9', but failed",
			"Please check whether input is correct. If the network is disconnected, manually delete snapshot according to the upgrade guide."},
		"mysql-socket":       {"ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/var/run/mysqld/mysqld.sock' (2)"},
		"not-active-manager": {"Not find any CVKs, maybe current host is not alive CVM. Please check."},
		"hot-standby-stopped": {"[WARN] The kernel of system has been upgraded and this is stateful failover system. The",
			"The system is a stateful failover system, and the kernel has been upgraded. Please enable",
			"2) Enable stateful failover after the CVM host reboots. To enable stateful failover, execute"},
		"single-path-pools": {"The CVK(192.168.20.110) have single path ocfs2 pools: [iscsi-tt iscsi-t ], please remove them, and then add back"},
		"kernel-needs-reboot": {"The host kernels have been upgraded. Please restart the hosts before performing any other",
			"[WARN] The kernel of system has been upgraded. Please reboot the upgraded host manually"},
		"see-post-check-report":  {"[WARN] Please see the post-check report for more detailed results:"},
		"job-already-running":    {"start: Job is already running: cron"},
		"reboot-hangs-in-umount": {"umount: /vms/pool: target is busy.", "INFO: task umount:4711 blocked for more than 120 seconds."},
		"python-module-missing":  {"ModuleNotFoundError: No module named 'requests'", "ImportError: No module named paramiko"},
		"tree-missing":           {"-bash: tree: command not found", "sh: 1: tree: not found"},
		"low-privilege-user":     {"mkdir: cannot create directory '/opt/cantian': Permission denied"},
		"rolled-back-in-part":    {"[INFO ] existing nodes have not been rollback successfully, details: rollup_success rolldown_success"},
		"upgraded-in-part":       {"[INFO ] currently only 1 nodes have performed the rollup upgrade operation, totals:2."},
	}
}

func catalogue(t testing.TB) *Catalogue {
	t.Helper()
	c, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func match(t *testing.T, c *Catalogue, src Source, log string) []Hit {
	t.Helper()
	hits, err := c.Match(src, strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

func TestEachKnownFaultIsFoundAndNoOther(t *testing.T) {
	c := catalogue(t)
	samples := lines()
	for _, f := range c.Faults() {
		if len(samples[f.ID]) == 0 {
			t.Errorf("%s has no sample", f.ID)
		}
		for _, line := range samples[f.ID] {
			hits := match(t, c, Source{Module: "any", Log: "/var/log/x.log"}, "[INFO] begin\n"+line+"\n[INFO] end\n")
			if len(hits) != 1 || hits[0].ID != f.ID || hits[0].Line != 2 || hits[0].Text != line || hits[0].Level != f.Level {
				t.Errorf("%s: %q gives %+v", f.ID, line, hits)
			}
			for _, h := range hits {
				if len(h.Causes) == 0 || h.Causes[0].Cause == "" || h.Causes[0].Remedy == "" {
					t.Errorf("%s says no cause or remedy", h.ID)
				}
			}
		}
		for _, e := range f.Match {
			if !slices.ContainsFunc(samples[f.ID], func(l string) bool {
				one := &Catalogue{entries: []entry{{Fault: f, match: nil}}}
				one.entries[0].match = append(one.entries[0].match, (&parser{}).expression("", e))
				return len(match(t, one, Source{}, l)) == 1
			}) {
				t.Errorf("%s: no sample for %s", f.ID, e)
			}
		}
	}
}

func TestASuccessHasNoKnownFault(t *testing.T) {
	log := `[INFO ] start logicrep . [Line:76, File:/opt/cantian/action/start.sh]
[INFO ] start logicrep success. [Line:83, File:/opt/cantian/action/start.sh]
[INFO ] recommended upgrade mode is offline,rollup
[INFO ] Execute cantian-common pre_upgrade.sh return success. [Line:114, File:/x/action/appctl.sh]
[INFO ] >>>>> all 2 nodes were upgraded successfully, pass check cluster upgrade status <<<<<
[ -OK- ] Single path of shared storage pools post-check... Done.
All CVKs update o2cb parameter O2CB_HEARTBEAT_THRESHOLD to 61 successfully..
success to stop resource service...
`
	if hits := match(t, catalogue(t), Source{}, log); len(hits) > 0 {
		t.Errorf("%+v", hits)
	}
}

func TestTheCausesOfAFailedPreCheckAreInOrder(t *testing.T) {
	hits := match(t, catalogue(t), Source{}, lines()["pre-upgrade-failed"][0])
	var words []string
	for _, c := range hits[0].Causes {
		words = append(words, strings.Fields(c.Cause)[0]+" "+strings.Fields(c.Cause)[1])
	}
	want := []string{"Parameter names", "The cluster", "The directory", "The installed", "None of"}
	if !slices.Equal(words, want) {
		t.Errorf("%v", words)
	}
}

func TestFailuresComeFirstAndEachOnce(t *testing.T) {
	log := "start: Job is already running: cron\nstart: Job is already running: cron\n" +
		lines()["mysql-socket"][0] + "\n" + lines()["not-active-manager"][0]
	var got []string
	for _, h := range match(t, catalogue(t), Source{}, log) {
		got = append(got, h.ID)
	}
	if want := "mysql-socket not-active-manager job-already-running"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func parse(t *testing.T, text string) *Catalogue {
	t.Helper()
	c, err := Parse("x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const mine = `format: 1
faults:
- {id: mine, match: [boom], where: {module: "db*", phase: install, log: "*.log"}, cause: c, remedy: r}
`

func TestWhereAFaultMayBe(t *testing.T) {
	c := parse(t, mine)
	for src, want := range map[Source]int{
		{}:                                     1,
		{Module: "db1"}:                        1,
		{"db1", "install", "/var/log/a.log"}:   1,
		{"web", "install", "/var/log/a.log"}:   0,
		{"db1", "start", "/var/log/a.log"}:     0,
		{"db1", "install", "/var/log/a.txt"}:   0,
		{Log: "/x.log/a.txt"}:                  0,
		{Module: "db/1", Phase: "", Log: "ok"}: 0,
	} {
		if hits := match(t, c, src, "boom"); len(hits) != want {
			t.Errorf("%+v: %+v", src, hits)
		}
	}
}

func TestOwnEntriesComeFirstAndReplace(t *testing.T) {
	more := parse(t, "format: 1\nfaults:\n- {id: mysql-socket, match: [\"ERROR 2002\"], level: info, cause: ours, "+
		"remedy: none}\n- {id: new, match: [x], cause: c, remedy: r}\n")
	base := catalogue(t)
	c := base.With(more)
	if n := len(c.Faults()); n != len(base.Faults())+1 || c.Faults()[0].ID != "mysql-socket" {
		t.Errorf("%d entries, first %s", n, c.Faults()[0].ID)
	}
	hits := match(t, c, Source{}, "ERROR 2002 (HY000)")
	if len(hits) != 1 || hits[0].Causes[0].Cause != "ours" {
		t.Errorf("%+v", hits)
	}
}

func TestACatalogueIsReadStrictly(t *testing.T) {
	one := func(entry string) string { return "format: 1\nfaults:\n- " + entry + "\n" }
	for want, text := range map[string]string{
		`1:1: format: value "0": want 1`:               "faults: []\n",
		`3:44: faults[0].extra`:                        one("{id: a, match: [x], cause: c, remedy: r, extra: 1}"),
		`3:8: faults[0].id: value "A b": want 1 to 64`: one("{id: A b, match: [x], cause: c, remedy: r}"),
		`4:8: faults[1].id: value "a": is given twice`: one("{id: a, match: [x], cause: c, " +
			"remedy: r}\n- {id: a, match: [x], cause: c, remedy: r}"),
		`3:3: faults[0].match: value "": want one`:                       one("{id: a, cause: c, remedy: r}"),
		`3:19: faults[0].match[0]: value "(": want a regular expression`: one("{id: a, match: [\"(\"], cause: c, remedy: r}"),
		`3:19: faults[0].match[0]: value "x*": want one that does not`:   one("{id: a, match: [\"x*\"], cause: c, remedy: r}"),
		`3:30: faults[0].level: value "bad": want fail, warn or info`:    one("{id: a, match: [x], level: bad, cause: c, remedy: r}"),
		`3:39: faults[0].where.module: value "[": want a pattern`: one("{id: a, match: [x], where: {module: " +
			"\"[\"}, cause: c, remedy: r}"),
		`3:3: faults[0]: value "a": want cause and remedy, or causes`: one("{id: a, match: [x]}"),
		`3:3: faults[0].remedy: value "": want a text`:                one("{id: a, match: [x], cause: c}"),
		`3:32: faults[0].causes[0].cause: value "": want a text`:      one("{id: a, match: [x], causes: [{remedy: r}]}"),
		`3:19: faults[0].match[0]: value "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`: one("{id: a, match: [" +
			strings.Repeat("x", 2000) + "], cause: c, remedy: r}"),
		`1:9: malformed YAML`: "format: [",
	} {
		_, err := Parse("x.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:"+want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestLongLinesAreCutAndLongLogsToo(t *testing.T) {
	c := parse(t, mine)
	long := strings.Repeat("a", MaxLine-1)
	if hits := match(t, c, Source{}, "boom"+long+"\nx"); len(hits) != 1 || len(hits[0].Text) > MaxLine {
		t.Errorf("%d hits", len(hits))
	}
	hits := match(t, c, Source{}, long+long+long+"boom\nboom")
	if len(hits) != 1 || hits[0].Line != 2 {
		t.Errorf("%+v", hits)
	}
	endless := io.MultiReader(strings.NewReader("boom\n"), &zeros{})
	if hits, err := c.With(parse(t, "format: 1\nfaults:\n- {id: other, match: [other], cause: c, remedy: r}\n")).Match(Source{},
		endless); err != nil || len(hits) != 1 {
		t.Errorf("%+v %v", hits, err)
	}
}

// zeros never ends.
type zeros struct{}

func (*zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestALogThatCanNotBeReadIsAnError(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("boom\n"), iotest.ErrReader(errors.New("disk")))
	c := parse(t, mine).With(parse(t, "format: 1\nfaults:\n- {id: other, match: [other], cause: c, remedy: r}\n"))
	hits, err := c.Match(Source{}, broken)
	if err == nil || !strings.Contains(err.Error(), "disk") || len(hits) != 1 {
		t.Errorf("%+v %v", hits, err)
	}
}

func FuzzMatch(f *testing.F) {
	for _, ls := range lines() {
		f.Add(strings.Join(ls, "\n"))
	}
	c := catalogue(f)
	f.Fuzz(func(t *testing.T, log string) {
		hits, err := c.Match(Source{}, strings.NewReader(log))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hits {
			if h.Line < 1 || len(h.Text) > MaxLine || strings.Contains(h.Text, "\n") {
				t.Errorf("%+v", h)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(mine)
	f.Add(string(builtin[:2000]))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("x", []byte(text))
		if (c == nil) == (err == nil) {
			t.Errorf("%v %v", c, err)
		}
		if c == nil {
			return
		}
		if _, err := c.Match(Source{}, strings.NewReader(text)); err != nil {
			t.Error(err)
		}
	})
}
