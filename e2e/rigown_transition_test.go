package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/job"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/hostconf"
	"holdfast/testbed/lab"
)

// carried is a whole transition on a laboratory: a database that works on, and the hosts' upgrade.
type carried struct {
	*rig
	id       string // of its job
	from     string // host whose agent does the work
	old, new *aligntest.Rig
	dir      string   // of this test
	files    []string // that the host gets
	network  string   // lines of the transition's file: a stage, and the network; "": it has none
}

const carriedMapping = `format: 1
name: items
tables:
- target: new.items
  from: old.items
  columns:
  - copy: [id, name]
`

// carriedConfig is a file of each host.
const carriedConfig = `format: 1
files: [{template: carried.conf, path: /etc/carried.conf, mode: "0640"}]
values: {level: 1}
clusters: {lab: {groups: {all: {hosts: [%s]}}, hosts: {%s: {values: {level: 2}}}}}
`

// carry begins a transition on a host whose hosts are upgraded by these flags of `upgrade run`.
func (r *rig) carry(t testing.TB, h, bundle string, flags ...string) *carried {
	t.Helper()
	c := r.platforms(t, h)
	c.begin(t, bundle, flags...)
	return c
}

// platforms starts the database servers of an old and a new platform, which a host reaches.
func (r *rig) platforms(t testing.TB, h string) *carried {
	t.Helper()
	t.Setenv("TMPDIR", r.dir) // the servers' sockets are linked into the laboratory, which takes one file system
	c := &carried{rig: r, from: h, dir: t.TempDir(),
		old: aligntest.MariaDB(t, "--log-bin=bin", "--binlog-format=ROW", "--server-id=1", "--max-connections=300"),
		new: aligntest.MariaDB(t, "--max-connections=300")}
	c.old.SQL("CREATE DATABASE old; USE old; CREATE TABLE items (id INT AUTO_INCREMENT PRIMARY KEY, name " +
		"VARCHAR(20)) ENGINE=InnoDB; INSERT INTO old.items (name) SELECT CONCAT('row ', seq) FROM seq_1_to_500")
	c.new.SQL("CREATE DATABASE new; CREATE TABLE new.items (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB")
	c.files = []string{filepath.Join(c.dir, "items.yaml")}
	writeFile(t, c.files[0], carriedMapping)
	for name, s := range map[string]*aligntest.Rig{"old": c.old, "new": c.new} {
		// The host has a system of its own, and sees this folder of it only.
		socket := r.lab.HostPath(h, name+".sock")
		if err := os.Link(s.Socket(), socket); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		})
		file := filepath.Join(c.dir, name+".cnf")
		writeFile(t, file, fmt.Sprintf("[client]\nuser=%s\npassword=%s\nsocket=%s/%s.sock\n", aligntest.User,
			aligntest.Password, lab.HostDir, name))
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		c.files = append(c.files, file)
	}
	return c
}

// begin begins the transition.
func (c *carried) begin(t testing.TB, bundle string, flags ...string) {
	t.Helper()
	h := c.from
	if _, err := c.give(h, "ids"); err != nil {
		t.Fatal(err)
	}
	config := []string{filepath.Join(c.dir, "config.yaml"), filepath.Join(c.dir, "carried.conf")}
	writeFile(t, config[0], fmt.Sprintf(carriedConfig, strings.Join(c.lab.Hosts(), ", "), h))
	writeFile(t, config[1], "host = {{.host}}\nlevel = {{.level}}\n")
	if _, err := c.give(h, "config", config...); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(flags)
	if err != nil {
		t.Fatal(err)
	}
	site := filepath.Join(c.dir, "site.yaml")
	at := lab.HostDir + "/transition/"
	writeFile(t, site, strings.ReplaceAll(fmt.Sprintf(`format: 1
name: lab
host: %s
databases: {mapping: AT/items.yaml, ids: %s/ids, source: "/?option-file=AT/old.cnf", target: "/?option-file=AT/new.cnf", follow: true}
config: {dir: %s/config}
upgrade:
  bundle: %s
  flags: %s
stages:
  collect:
    before: [{name: hosts, run: [holdfast, host, list]}]
  restart:
    after: [{name: version, host: %s, run: [/bin/grep, -q, %q, /usr/share/platform/VERSION]}]
%s`, h, lab.HostDir, lab.HostDir, bundle, list, c.lab.Hosts()[1], platformNew, c.network), "AT/", at))
	if _, err := c.give(h, "transition", append(c.files, site)...); err != nil {
		t.Fatal(err)
	}
	var j job.View
	if err := json.Unmarshal([]byte(c.command(t, h, "transition", "run", at+"site.yaml", "--yes", "-o", "json")), &j); err != nil {
		t.Fatal(err)
	}
	c.id = j.ID
}

// await waits until the job is as it should be.
func (c *carried) await(t testing.TB, what string, ok func(job.View) bool) {
	t.Helper()
	began := time.Now()
	c.until(t, what, func(ctx context.Context) (string, bool) {
		why := ""
		for _, h := range c.lab.Hosts() {
			j, err := ask(c.rig, h, func(a *api.Client) (job.View, error) { return a.Job(ctx, c.id) })
			if err == nil {
				return fmt.Sprintf("%+v", j), ok(j)
			}
			why = err.Error()
		}
		return why, false
	})
	t.Logf("%s after %s", what, time.Since(began).Round(time.Second))
}

// asks waits for a question before a step.
func (c *carried) asks(t testing.TB, step string) {
	t.Helper()
	c.await(t, "the question before "+step, func(j job.View) bool { return j.State == "paused" && strings.HasPrefix(j.Why, step+": ") })
}

func (c *carried) runs(step string) func(job.View) bool {
	return func(j job.View) bool {
		return slices.ContainsFunc(j.Steps, func(s job.StepView) bool { return s.ID == step && s.State == "running" })
	}
}

// cutOver has the old platform write until its end, also what meanwhile does, and answers the question for that.
func (c *carried) cutOver(t testing.TB, meanwhile ...func()) {
	t.Helper()
	c.asks(t, "cutover/databases")
	c.old.SQL("UPDATE old.items SET name = 'last' WHERE id = 7; DELETE FROM old.items WHERE id = 8; INSERT INTO " +
		"old.items (name) VALUES ('late')")
	for _, do := range meanwhile {
		do()
	}
	c.command(t, c.lab.Hosts()[2], "jobs", "resume", c.id)
	c.await(t, "the hosts are begun with", c.runs("hosts/upgrade"))
	for _, h := range c.lab.Hosts() {
		level := 1
		if h == c.from {
			level = 2
		}
		got, err := c.lab.Exec(t.Context(), h, "sh", "-c", "stat -c '%a %U:%G' /etc/carried.conf && cat /etc/carried.conf")
		if want := fmt.Sprintf("640 root:root\nhost = %s\nlevel = %d", h, level); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s has %q, %v: want %q", h, got, err, want)
		}
	}
	if got, want := c.new.SQL("SELECT COUNT(*), MAX(name = 'late'), SUM(id = 8), MAX(id = 7 AND name = 'last') "+
		"FROM new.items"), "500\t1\t0\t1"; got != want {
		t.Errorf("the new platform has %q, want %q", got, want)
	}
	c.told(t)
}

// told wants that any member tells how far the parts of steps are, and what they have said. Others may not ask.
func (c *carried) told(t testing.TB) {
	t.Helper()
	for _, h := range c.lab.Hosts()[:3] {
		for step, said := range map[string]string{"align/copy": "transition db run", "cutover/verify": "transition db verify"} {
			o, err := ask(c.rig, h, func(a *api.Client) (job.Output, error) { return a.StepOutput(t.Context(), c.id, step) })
			if err != nil || string(o.Host) != c.from || !strings.Contains(o.Log, said) || o.LogBytes < int64(len(o.Log)) {
				t.Errorf("%s, by %s: %+v, %v", step, h, o, err)
			}
			if step == "cutover/verify" && (len(o.Parts) != 1 || o.Parts[0].Name != "new.items" ||
				o.Parts[0].State != "done" || o.Parts[0].Done != 500) {
				t.Errorf("%s, by %s: its parts are %+v", step, h, o.Parts)
			}
		}
	}
}

// takesBack has the hosts' files taken back, one of which somebody has changed: that one is left, and the job pauses, until it
// is as it was written.
func (c *carried) takesBack(t testing.TB) {
	t.Helper()
	hosts := c.lab.Hosts()
	all, err := ask(c.rig, hosts[0], func(a *api.Client) ([]job.View, error) { return a.Jobs(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(all, func(j job.View) bool { return j.Kind == string(hostconf.Job) })
	if at < 0 {
		t.Fatalf("no job has written files: %+v", all)
	}
	in := func(h, script string) string {
		t.Helper()
		out, err := c.script(t.Context(), h, script)
		if err != nil {
			t.Fatalf("%s: %v: %s", h, err, out)
		}
		return strings.TrimSpace(out)
	}
	changed := hosts[1]
	in(changed, "cp -p /etc/carried.conf /etc/carried.was && echo by hand >>/etc/carried.conf")
	var j job.View
	if err := json.Unmarshal([]byte(c.command(t, hosts[2], "transition", "config", "back", all[at].ID, "--yes", "-o",
		"json")), &j); err != nil {
		t.Fatal(err)
	}
	back := *c
	back.id = j.ID
	step := ""
	back.await(t, "the file that was changed", func(j job.View) bool {
		for _, s := range j.Steps {
			if s.State == string(job.Failed) {
				step = s.ID
			}
		}
		return step != "" && j.State == "paused" && strings.Contains(fmt.Sprintf("%+v", j), "/etc/carried.conf was changed since")
	})
	if got := in(changed, "tail -n 1 /etc/carried.conf"); got != "by hand" {
		t.Errorf("%s has %q at the end of its file", changed, got)
	}
	in(changed, "mv /etc/carried.was /etc/carried.conf")
	c.command(t, hosts[2], "jobs", "retry", j.ID, step)
	back.await(t, "the files taken back", func(j job.View) bool { return j.State == "ended" && j.Result == "done" })
	for _, h := range hosts {
		if got := in(h, "ls -d /etc/carried.* || true"); strings.HasPrefix(got, "/etc") {
			t.Errorf("%s still has %s", h, got)
		}
	}
}

// ends answers the last question, and wants the job done and what it made removed.
func (c *carried) ends(t testing.TB) {
	t.Helper()
	c.asks(t, "cleanup/databases")
	if got := c.new.SQL("SHOW DATABASES LIKE 'migrate%'"); got != "migrate_journal" {
		t.Errorf("before the end there is %q", got)
	}
	c.command(t, c.lab.Hosts()[1], "jobs", "resume", c.id)
	c.await(t, "the transition", func(j job.View) bool { return j.State == "ended" && j.Result == "done" })
	if got := c.new.SQL("SHOW DATABASES LIKE 'migrate%'") + c.old.SQL("SHOW DATABASES LIKE 'migrate%'"); got != "" {
		t.Errorf("it has left %q", got)
	}
	t.Log(c.command(t, c.from, "jobs", "show", c.id))
}
