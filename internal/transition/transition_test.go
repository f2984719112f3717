package transition

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/strictyaml"
)

const whole = `format: 1
name: site-a
host: cp1
platform: {file: /var/lib/holdfast/old.json, source: /root/old-openrc, target: /root/new-openrc}
databases:
  profile: openstack-liberty-zed
  ids: /etc/holdfast/ids
  source: /?option-file=/etc/holdfast/old.cnf
  target: new@tcp(10.0.0.2:3306)/
  sourceDB: {nova: liberty_nova, glance: liberty_glance}
  skip: [nova.services]
  leaveOutOrphans: true
  follow: true
  novaConf: /etc/nova/nova.conf
network:
  file: /var/lib/holdfast/net.json
  source: {endpoint: "http://127.0.0.1:9696"}
  target: {endpoint: "http://127.0.0.1:9697", openrc: /root/new-openrc, db: "holdfast@unix(/run/mysqld/mysqld.sock)/", dbName: neutron2}
  jobs: 8
  leaveOut: [quota, port.numa_affinity_policy]
  reserveDHCP: true
  hosts: true
config: {dir: /srv/config, cluster: site-a}
upgrade:
  bundle: /srv/compute.hfb
  flags: [--keep-guests, --pin, br-int, --probe, --loss-limit, "3"]
nova: {manage: [/usr/bin/docker, exec, nova_api, nova-manage]}
features: {guests: [canary1, canary2], flags: [--flavor, m1.large]}
stages:
  ready:
    before:
      - {name: rabbit, run: [/usr/sbin/rabbitmqctl, cluster_status], timeout: 30s}
  network:
    after:
      - {name: dhcp, host: net1, run: [/usr/local/bin/dhcp-works, "vlan 10"]}
  restart:
    confirm: restart placement, scheduler and conductor
  cleanup:
    after:
      - {name: endpoints, run: [/usr/local/bin/drop-endpoints]}
`

func parsed(t *testing.T, text string) *Plan {
	t.Helper()
	f, faults := Parse([]byte(text))
	if len(faults) > 0 {
		t.Fatal(strictyaml.Lines("file", faults))
	}
	return Build(f)
}

func shown(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s %s %s", s.ID, s.Host, Line(s.Run))
		if s.Confirm != "" {
			fmt.Fprintf(&b, " <- %s", s.Confirm)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestAWholePlan(t *testing.T) {
	const dbs = "--ids /etc/holdfast/ids --source '/?option-file=/etc/holdfast/old.cnf' --target " +
		"'new@tcp(10.0.0.2:3306)/' --source-db glance=liberty_glance,nova=liberty_nova --skip nova.services --leave-out-orphans"
	const prof = "--profile openstack-liberty-zed " + dbs
	const apply = "--file /var/lib/holdfast/net.json --applied /var/lib/holdfast/net.json.applied --endpoint " +
		"http://127.0.0.1:9697 --db 'holdfast@unix(/run/mysqld/mysqld.sock)/' --openrc /root/new-openrc --db-name " +
		"neutron2 --leave-out quota,port.numa_affinity_policy --jobs 8 --reserve-dhcp"
	const flags = "--keep-guests --pin br-int --probe --loss-limit 3"
	want := strings.Join([]string{
		"collect/platform cp1 holdfast transition collect --openrc /root/old-openrc --out /var/lib/holdfast/old.json",
		"collect/features-canary1 cp1 holdfast transition features --openstack --openrc /root/old-openrc --guest " +
			"canary1 --yes --out /var/lib/holdfast/old.json.features-canary1 --flavor m1.large",
		"collect/features-canary2 cp1 holdfast transition features --openstack --openrc /root/old-openrc --guest " +
			"canary2 --yes --out /var/lib/holdfast/old.json.features-canary2 --flavor m1.large",
		"ready/rabbit cp1 /usr/sbin/rabbitmqctl cluster_status",
		"ready/platform cp1 holdfast transition collect --openrc /root/new-openrc --check control --before /var/lib/holdfast/old.json",
		"ready/databases cp1 holdfast transition db plan " + prof,
		"ready/network-export cp1 holdfast transition net export --out /var/lib/holdfast/net.json --endpoint " +
			"http://127.0.0.1:9696 --leave-out quota,port.numa_affinity_policy",
		"ready/network-hosts cp1 holdfast transition net host --file /var/lib/holdfast/net.json --agents --fix-file /var/lib/holdfast/net.json",
		"ready/network cp1 holdfast transition net apply " + apply + " --dry-run",
		"ready/config cp1 holdfast transition config diff /srv/config --cluster site-a",
		"ready/upgrade cp1 holdfast upgrade run --bundle /srv/compute.hfb --dry-run " + flags,
		"align/copy cp1 holdfast transition db run " + prof + " --follow --catch-up",
		"network/export cp1 holdfast transition net export --out /var/lib/holdfast/net.json --endpoint " +
			"http://127.0.0.1:9696 --leave-out quota,port.numa_affinity_policy",
		"network/hosts cp1 holdfast transition net host --file /var/lib/holdfast/net.json --agents --fix-file /var/lib/holdfast/net.json",
		"network/apply cp1 holdfast transition net apply " + apply,
		"network/verify cp1 holdfast transition net verify --file /var/lib/holdfast/net.json --endpoint " +
			"http://127.0.0.1:9697 --openrc /root/new-openrc --reserve-dhcp",
		"network/dhcp net1 /usr/local/bin/dhcp-works 'vlan 10'",
		"cutover/check cp1 holdfast transition db plan " + prof,
		"cutover/catch-up cp1 holdfast transition db run " + prof + " --follow --catch-up",
		"cutover/databases cp1 holdfast transition db run " + prof + " --follow --cut-over <- " + confirmCutover,
		"cutover/verify cp1 holdfast transition db verify " + prof + " --nova-conf /etc/nova/nova.conf",
		"cutover/network-export cp1 holdfast transition net export --out /var/lib/holdfast/net.json --endpoint " +
			"http://127.0.0.1:9696 --leave-out quota,port.numa_affinity_policy",
		"cutover/network-hosts cp1 holdfast transition net host --file /var/lib/holdfast/net.json --agents --fix-file /var/lib/holdfast/net.json",
		"cutover/network-apply cp1 holdfast transition net apply " + apply,
		"cutover/network-verify cp1 holdfast transition net verify --file /var/lib/holdfast/net.json --endpoint " +
			"http://127.0.0.1:9697 --openrc /root/new-openrc --reserve-dhcp",
		"hosts/config cp1 holdfast transition config apply /srv/config --cluster site-a --yes --wait",
		"hosts/upgrade cp1 holdfast upgrade run --bundle /srv/compute.hfb --yes --wait --join " + flags,
		"restart/placement cp1 holdfast transition placement --openrc /root/new-openrc -- /usr/bin/docker exec " +
			"nova_api nova-manage <- restart placement, scheduler and conductor",
		"restart/platform cp1 holdfast transition collect --openrc /root/new-openrc --check all --before /var/lib/holdfast/old.json",
		"features/features-canary1 cp1 holdfast transition features --openstack --openrc /root/new-openrc --guest " +
			"canary1 --yes --before /var/lib/holdfast/old.json.features-canary1 --flavor m1.large",
		"features/features-canary2 cp1 holdfast transition features --openstack --openrc /root/new-openrc --guest " +
			"canary2 --yes --before /var/lib/holdfast/old.json.features-canary2 --flavor m1.large",
		"cleanup/databases cp1 holdfast transition db clean --yes --source '/?option-file=/etc/holdfast/old.cnf' " +
			"--target 'new@tcp(10.0.0.2:3306)/' <- " + confirmCleanup,
		"cleanup/endpoints cp1 /usr/local/bin/drop-endpoints",
	}, "\n") + "\n"
	p := parsed(t, whole)
	if got := shown(p); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := p.Steps[3]; s.Timeout != 30*time.Second || s.Again {
		t.Errorf("a command of the operator: %+v", s)
	}
	for _, s := range p.Steps {
		if tried := strings.Contains(s.ID, "/features-"); s.ID == "align/copy" && s.Timeout != works || s.Run[0] == Self && s.Again == tried {
			t.Errorf("a command of ours: %+v", s)
		}
	}
	text, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := NewPlanner(text)
	if err != nil || !reflect.DeepEqual(&back.(*Planner).plan, p) || len(back.Steps()) != len(p.Steps) {
		t.Errorf("read back: %v", err)
	}
}

// TestPartsAlone: each part is there without the others, and asks where it has to.
func TestPartsAlone(t *testing.T) {
	const head = "format: 1\nname: a\nhost: h\n"
	const dbs = "databases: {mapping: /m.yaml, ids: /ids, source: a@tcp(b)/, target: c@tcp(d)/"
	for text, want := range map[string]string{
		head + dbs + "}\n": "ready/databases align/copy align/verify cleanup/databases?",
		head + dbs + ", follow: true}\nstages: {cutover: {confirm: stop, before: [{name: x, run: [/x]}]}}\n": "ready/databases align/copy cutover/x cutover/check cutover/catch-up cutover/databases? cutover/verify cleanup/databases?",
		head + "network: {file: /n, source: {db: a@tcp(b)/}, target: {endpoint: \"http://x\", db: " +
			"a@tcp(b)/}}\nstages: {network: {confirm: look}}\n": "ready/network-export ready/network network/export? " +
			"network/apply network/verify cutover/network-export? cutover/network-apply cutover/network-verify",
		head + "platform: {file: /f, source: /s, target: /t}\n":                         "collect/platform ready/platform restart/platform",
		head + "config: {dir: /srv/config, cluster: a}\n":                               "ready/config hosts/config",
		head + "upgrade: {bundle: /b}\n":                                                "ready/upgrade hosts/upgrade",
		head + "stages: {features: {after: [{name: all, run: [holdfast, version]}]}}\n": "features/all",
		head + "stages: {collect: {confirm: look}}\n":                                   "collect/confirm?",
	} {
		var got []string
		for _, s := range parsed(t, text).Steps {
			if s.Confirm != "" {
				s.ID += "?"
			}
			got = append(got, s.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, strings.Join(got, " "), want)
		}
	}
}

func TestFaults(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("the file has no %q", old)
		}
		return strings.Replace(whole, old, new, 1)
	}
	for text, want := range map[string]string{
		edit("format: 1", "format: 2"):       `1:9: format: value "2": want 1`,
		edit("name: site-a", "name: site a"): `2:7: name: value "site a": want letters`,
		edit("host: cp1", "hosts: cp1"):      "3:1: hosts",
		edit("  ids: /etc", "  ids: etc"):    `ids: value "etc/holdfast/ids": want an absolute path`,
		edit("new@tcp", "new:secret@tcp"):    `databases.target: value "(not shown)": want no password here`,
		edit("new@tcp(10.0.0.2:3306)/",
			"mysql://new:secret@h:3306/"): `databases.target: value "(not shown)": want no password here`,
		edit("new@tcp(10.0.0.2:3306)/", "--yes"):                                                "databases.target",
		edit("nova: liberty_nova", "nova: a=b"):                                                 "databases.sourceDB.nova",
		edit("profile: openstack-liberty-zed", "mapping: /m\n  profile: openstack-liberty-zed"): "want profile or mapping, one of them",
		edit("--keep-guests", "--bundle=/x"):                                                    `upgrade.flags[0]: value "--bundle=/x": want a flag that says how`,
		edit("[/usr/sbin/rabbitmqctl",
			"[rabbitmqctl"): `stages.ready.before[0].run[0]: value "rabbitmqctl": want the absolute path`,
		edit("timeout: 30s", "timeout: 3y"):                                        "want a time from 1s to 336h, such as",
		edit("timeout: 30s", "timeout: 30"):                                        `timeout: value "30": want a time from 1s to 336h`,
		edit("jobs: 8", "jobs: 0"):                                                 `network.jobs: value "0": want a number from 1`,
		edit("[quota,", "[--yes,"):                                                 `network.leaveOut[0]: value "--yes": want KIND or KIND.FIELD`,
		edit("[quota,", "[quota, quota,"):                                          `network.leaveOut[1]: value "quota": want each once`,
		"# nothing":                                                                `1:1: (file): value "": want fields such as format, name, host: there are none`,
		edit("name: rabbit", "name: databases"):                                    `stages.ready: value "ready/databases": want another name`,
		edit(`{endpoint: "http://127.0.0.1:9696"}`, "{}"):                          "network.source",
		edit("source: /root/old-openrc", "source: old-openrc"):                     `platform.source: value "old-openrc": want an absolute path`,
		edit("openrc: /root/new-openrc", "openrc: ~/new"):                          "network.target.openrc",
		edit(`{endpoint: "http://127.0.0.1:9696"}`, `{db: a@tcp(b)/, openrc: /x}`): "want none beside db",
		edit("dir: /srv/config", "dir: config"):                                    `config.dir: value "config": want an absolute path`,
		edit("cluster: site-a", "cluster: --yes"):                                  "config.cluster",
		edit("[/usr/bin/docker,", "[docker,"):                                      `nova.manage[0]: value "docker": want the absolute path`,
		edit("[/usr/bin/docker, exec, nova_api, nova-manage]", "[]"):               `nova.manage: value "": want the path of nova-manage`,
		edit("[canary1, canary2]", "[canary1, canary1]"):                           `features.guests[1]: value "canary1": want each guest once`,
		edit("[canary1, canary2]", "[]"):                                           `features.guests: value "": want names or UUIDs`,
		edit("[canary1, canary2]", "[canary/1]"):                                   `features.guests[0]: value "canary/1": want letters`,
		edit("[--flavor, m1.large]",
			"[--out, /x]"): `features.flags[0]: value "--out": want a flag that says how guests are tried: this one is the step's own`,
		edit("jobs: 8", "jobs: -1"):                                 "network.jobs",
		edit("confirm: restart placement,", `confirm: "a\nb`) + `"`: "",
		"format: 1\nname: a\nhost: h\n":                             "there is nothing to do",
		strings.Repeat("#", MaxFile+1):                              "want at most 262144 bytes",
	} {
		_, faults := Parse([]byte(text))
		if got := strictyaml.Lines("", faults); len(faults) == 0 || !strings.Contains(got, want) || strings.Contains(got, "secret@") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestAllFaultsAtOnce: what does not fit as it is read, values, and names that are there twice are told together, each once.
func TestAllFaultsAtOnce(t *testing.T) {
	for text, want := range map[string][]string{
		`format: 1
name: site a
hots: cp1
databases: {profil: x, ids: ids, source: a@tcp(b)/, target: "a:secret@tcp(b)/"}
network: {file: net.json, source: {endpoint: [1]}, target: {endpoint: "http://x", db: a@tcp(b)/}, jobs: many}
config: /srv/config
stages:
  ready:
    before:
    - {name: databases, run: [/x], timeout: 3y}
    - {run: []}
`: {"name: value \"site a\"", "hots: ", "databases.profil: ", "databases.ids: ", "databases.target: ", "network.file: ", "network.source.endpoint: ", "network.jobs: ", "config: ",
			"stages.ready: value \"ready/databases\"", "timeout: value \"3y\"", "stages.ready.before[1].name: ", "stages.ready.before[1].run: "},
		"format: 1\nname: a\nhost: h\nstage: {}\n": {"stage: "},
		"format: 1\nname: [\n":                     {""},
		"format: 2\nname: a\nhost: h\nstages: {collect: {before: [{name: x, run: [/x]}, {name: x, run: [/x]}]}}\n": {"format: ",
			"stages.collect: "},
	} {
		_, faults := Parse([]byte(text))
		got := strictyaml.Lines("", faults)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not told:\n%s", w, got)
			}
		}
		if len(faults) != len(want) || strings.Contains(got, "secret") ||
			!slices.IsSortedFunc(faults, func(a, b strictyaml.Fault) int { return a.Place.Compare(b.Place) }) {
			t.Errorf("%d faults, want %d in their order:\n%s", len(faults), len(want), got)
		}
	}
}

// TestWhatASectionNeeds: sections that work by the logins of another one are refused without it, all at once.
func TestWhatASectionNeeds(t *testing.T) {
	const text = "format: 1\nname: a\nhost: h\nnova: {manage: [/usr/bin/nova-manage]}\nfeatures: {guests: [canary1]}\n"
	_, faults := Parse([]byte(text))
	got := strictyaml.Lines("", faults)
	for _, want := range []string{"4:7: nova: value \"\": want platform in the file, too: what nova-manage did " +
		"is read back", "5:11: features: value \"\": want platform in the file, too: the guests are asked for"} {
		if len(faults) != 2 || !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	parsed(t, text+"platform: {file: /f, source: /s, target: /t}\n")
}

// rig is a job of a plan of three steps, the second with a question.
type rig struct {
	t     *testing.T
	p     job.Planner
	j     job.Job
	recs  map[string]job.Record
	hosts map[cluster.HostID]job.HostState
}

func newRig(t *testing.T) *rig {
	plan := Plan{Name: "a", Steps: []Step{
		{ID: "align/copy", Stage: "align", Host: "h1", Run: []string{"/a"}, Timeout: time.Hour, Again: true},
		{ID: "cutover/databases", Stage: "cutover", Host: "h2", Run: []string{"/b"}, Timeout: time.Hour, Confirm: "stop it"},
		{ID: "hosts/upgrade", Stage: "hosts", Host: "h1", Run: []string{"/c"}, Timeout: time.Hour},
	}}
	text, err := plan.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlanner(text)
	if err != nil {
		t.Fatal(err)
	}
	up := job.HostState{Up: true}
	return &rig{t, p, job.Job{ID: "t-1", State: job.Active}, map[string]job.Record{}, map[cluster.HostID]job.HostState{"h1": up, "h2": up}}
}

// next decides until nothing changes, and returns what is granted.
func (r *rig) next() string {
	r.t.Helper()
	for range 5 {
		d := r.p.Next(r.j, r.recs, r.hosts, time.Time{})
		if d.Job != nil {
			if len(d.Grant) > 0 {
				r.t.Fatalf("%v is granted while the job changes", d.Grant)
			}
			r.j = *d.Job
			continue
		}
		var waits []string
		for _, w := range d.Waits {
			waits = append(waits, reason.Text(w))
		}
		return strings.TrimSpace(strings.Join(d.Grant, ",") + " " + strings.Join(waits, "; "))
	}
	r.t.Fatal("it does not come to rest")
	return ""
}

func (r *rig) want(granted string, state job.State, why string) {
	r.t.Helper()
	got := r.next()
	if got != granted || r.j.State != state || reason.Text(r.j.Why...) != why {
		r.t.Fatalf("%q, %s, %q; want %q, %s, %q", got, r.j.State, reason.Text(r.j.Why...), granted, state, why)
	}
}

func (r *rig) is(step string, s job.StepState) {
	r.recs[step] = job.Record{Step: step, State: s, Attempt: 1, Why: "broken"}
}

func (r *rig) obey(c job.Command) {
	r.t.Helper()
	j, err := job.Obey(r.j, c, "ann")
	if err != nil {
		r.t.Fatal(err)
	}
	r.j = j
}

const asks = "cutover/databases: stop it; then: holdfast jobs resume t-1"

func TestStepsGoOneAfterTheOther(t *testing.T) {
	r := newRig(t)
	r.want("align/copy", job.Active, "")
	r.is("align/copy", job.Running)
	r.want("", job.Active, "")
	r.is("align/copy", job.Done)
	r.want("", job.Paused, asks)
	r.want("", job.Paused, asks)
	r.obey(job.Resume)
	r.want("cutover/databases", job.Active, "")
	r.is("cutover/databases", job.Failed)
	r.want("", job.Paused, "cutover/databases failed: broken")
	r.obey(job.Resume) // nothing was decided about the step
	r.want("", job.Paused, "cutover/databases failed: broken")
	r.is("cutover/databases", job.Pending) // retried: it is not asked again
	r.want("cutover/databases", job.Active, "")
	r.is("cutover/databases", job.Unknown)
	r.want("", job.Paused, "cutover/databases was begun and may have been done: broken")
	r.is("cutover/databases", job.Skipped)
	r.want("hosts/upgrade", job.Active, "")
	r.is("hosts/upgrade", job.Done)
	r.want("", job.Ended, "")
	if r.j.Result != "done" {
		t.Errorf("result %s", r.j.Result)
	}
}

func TestAFailureOfAStepThatAsksNothing(t *testing.T) {
	r := newRig(t)
	r.is("align/copy", job.Failed)
	r.want("", job.Paused, "align/copy failed: broken")
	r.is("align/copy", job.Skipped) // the next step asks all the same
	r.want("", job.Paused, asks)
}

// TestAStepThatWasEndedWithItsHost is begun again when the host has booted, if that does no harm.
func TestAStepThatWasEndedWithItsHost(t *testing.T) {
	r := newRig(t)
	boots := func(h cluster.HostID, boot string) { r.hosts[h] = job.HostState{Up: true, Boot: boot} }
	cut := func(step string) {
		r.is(step, job.Failed)
		rec := r.recs[step]
		rec.Boot = "b1"
		r.recs[step] = rec
	}
	boots("h1", "b1")
	cut("align/copy")
	r.want("", job.Paused, "align/copy failed: broken")
	boots("h1", "b2")
	r.want("align/copy", job.Active, "")
	r.is("align/copy", job.Done)
	r.want("", job.Paused, asks)
	r.obey(job.Resume)
	boots("h2", "b2")
	cut("cutover/databases") // an operator's: it may do harm
	r.want("", job.Paused, "cutover/databases failed: broken")
	r.is("align/copy", job.Pending)
	cut("align/copy")
	r.j.State = job.Active
	r.obey(job.Pause)
	r.want("", job.Paused, "paused by ann")
}

func TestAPauseOfAPersonStays(t *testing.T) {
	r := newRig(t)
	r.obey(job.Pause)
	r.want("", job.Paused, "paused by ann")
	r.is("align/copy", job.Done)
	r.want("", job.Paused, "paused by ann")
	r.obey(job.Resume)
	r.want("", job.Paused, asks)
}

func TestASilentHostIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.hosts["h1"] = job.HostState{}
	r.want("align/copy: the agent of h1 does not answer", job.Active, "")
	r.is("align/copy", job.Running)
	r.want("align/copy: the agent of h1 does not answer", job.Active, "")
}

func TestAbort(t *testing.T) {
	for running, want := range map[string]string{"align/copy": "aborted by ann",
		"hosts/upgrade": "aborted by ann; an upgrade that it has begun is not ended by that: holdfast upgrade status"} {
		r := newRig(t)
		for _, s := range r.p.Steps() {
			if s.ID == running {
				break
			}
			r.is(s.ID, job.Done)
		}
		r.is(running, job.Running)
		r.obey(job.Abort)
		if got := r.next(); !strings.Contains(got, running) || r.j.State != job.Aborting {
			t.Errorf("%q, %s while %s runs", got, r.j.State, running)
		}
		r.is(running, job.Failed)
		r.want("", job.Ended, want)
		if r.j.Result != "aborted" {
			t.Errorf("result %s", r.j.Result)
		}
		// A host that never answers is not waited for.
		r.j.State = job.Aborting
		r.is(running, job.Running)
		r.hosts = nil
		if r.next(); r.j.State != job.Ended {
			t.Errorf("%s with a silent host", r.j.State)
		}
	}
}

func TestAStateOfANewerProgramIsKept(t *testing.T) {
	r := newRig(t)
	r.j.Data = []byte(`{"asked":7}`)
	if got := r.next(); !strings.Contains(got, "cannot unmarshal") || string(r.j.Data) != `{"asked":7}` {
		t.Errorf("%q, %s", got, r.j.Data)
	}
}

func TestLine(t *testing.T) {
	argv := []string{"/bin/echo", "", "it's", "a b", "$x", "plain-1_2.3/4:5=6,7@8%"}
	if got, want := Line(argv), `/bin/echo '' 'it'\''s' 'a b' '$x' plain-1_2.3/4:5=6,7@8%`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
