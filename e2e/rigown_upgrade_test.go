package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// owned is a laboratory whose hosts have a system of their own, to install the
// made-up platform in, and business guests.
const owned kind = "owned"

// few is the same with as few hosts and guests as a rolling upgrade can have.
const few kind = "few"

// bundleOn puts a bundle, its key and more files onto a host, and returns the flags
// that name the first two there.
func (r *rig) bundleOn(t testing.TB, h, file string, key releaseKey, more ...string) []string {
	t.Helper()
	dir, err := r.give(h, "incoming", append([]string{file, key.public}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--bundle", filepath.Join(dir, filepath.Base(file)), "--key", filepath.Join(dir, filepath.Base(key.public))}
}

// upgradeNow asks any host that answers how the upgrade stands.
func (r *rig) upgradeNow(ctx context.Context) (u request.Standing, err error) {
	for _, h := range r.lab.Hosts() {
		if u, err = ask(r, h, func(c *api.Client) (request.Standing, error) { return c.Upgrade(ctx) }); err == nil {
			return u, nil
		}
	}
	return u, err
}

// awaitUpgrade waits until the upgrade's job is in a state.
func (r *rig) awaitUpgrade(t testing.TB, what string, ok func(request.Standing) bool) request.Standing {
	t.Helper()
	var u request.Standing
	began := time.Now()
	r.until(t, what, func(ctx context.Context) (string, bool) {
		var err error
		if u, err = r.upgradeNow(ctx); err != nil {
			return err.Error(), false
		}
		text, _ := json.Marshal(u)
		return string(text), u.Job != nil && ok(u)
	})
	t.Logf("%s after %s: %s, %d of %d steps", what, time.Since(began).Round(time.Second), u.ClusterState, u.Steps.Over, u.Steps.Total)
	return u
}

func ended(u request.Standing) bool { return u.Job.State == "ended" }

// haveAll wants all hosts to have one version of everything.
func (r *rig) haveAll(t testing.TB, version string) {
	t.Helper()
	r.everywhere(t, "look at the platform", func(ctx context.Context, h string) error {
		got, err := r.platformOn(ctx, h)
		if got != whole(version) {
			t.Errorf("%s has %s", h, got)
		}
		return err
	})
}

// unbroken wants the guests to be those that they were.
func (r *rig) unbroken(t testing.TB, before map[string]lab.Answer) {
	t.Helper()
	after := r.guests(t)
	r.sameBoots(t, before, after)
}

// TestUpgradeStopsAndGoesBack cuts the guests of the first host off while it is worked on: the run
// stops there for the packets that they lose, and goes on by an operator's word. The check after
// the change fails on the third host: the run stops there with two hosts upgraded, says why,
// refuses a second one, and goes back.
func TestUpgradeStopsAndGoesBack(t *testing.T) {
	need.Drill(t, "P4: a rolling upgrade of five hosts stops for lost packets, then for a check that fails, and goes back")
	onLab(t, owned, upgradeStopsAndGoesBack)
}

func upgradeStopsAndGoesBack(t testing.TB, r *rig) {
	r.installPlatform(t)
	before := r.guests(t)
	hosts := r.lab.Hosts()
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], platformBundle(t, key, false), key)
	run := slices.Concat([]string{"upgrade", "run", "--version", platformOld, "--yes", "--mode", "rolling", "--keep-guests", "-o", "json",
		"--probe", "--loss-limit", "8", "--platform", r.saidGuests(t, hosts[0])}, bundle)

	p := r.dryRun(t, hosts[0], run)
	third := string(p.Hosts[2].Name)
	if err := os.WriteFile(r.lab.HostPath(third, failPostCheck), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[0], run...)
	r.stopsForLosses(t, hosts[0], string(p.Hosts[0].Name))
	r.stoppedAt(t, third)
	r.refused(t, hosts[0], 3, []string{"only one upgrade at a time"}, run...)
	if report := r.command(t, hosts[1], "upgrade", "report"); !strings.Contains(report, third+"/postCheck/base") {
		t.Errorf("the report does not say why: %s", report)
	}
	r.command(t, hosts[1], "upgrade", "abort")
	r.awaitUpgrade(t, "the abort", ended)
	r.goesBack(t, hosts[1])
	r.unbroken(t, before)
}

// TestUpgradeRollback: the check after the change fails on the last of three hosts. The rolling upgrade stops there with two
// hosts upgraded, and goes back.
func TestUpgradeRollback(t *testing.T) { onLab(t, few, upgradeRollback) }

func upgradeRollback(t testing.TB, r *rig) {
	r.spent(t, true)
	r.installPlatform(t)
	before := r.guests(t)
	hosts := r.lab.Hosts()
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], platformBundle(t, key, false), key)
	run := slices.Concat([]string{"upgrade", "run", "--version", platformOld, "--yes", "--mode", "rolling",
		"--keep-guests", "-o", "json"}, bundle)
	last := string(r.dryRun(t, hosts[0], run).Hosts[2].Name)
	if err := os.WriteFile(r.lab.HostPath(last, failPostCheck), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[0], run...)
	r.stoppedAt(t, last)
	r.command(t, hosts[1], "upgrade", "abort")
	r.awaitUpgrade(t, "the abort", ended)
	r.goesBack(t, hosts[1])
	r.unbroken(t, before)
}

// stoppedAt waits until the run pauses at a host with two others upgraded.
func (r *rig) stoppedAt(t testing.TB, third string) {
	t.Helper()
	u := r.awaitUpgrade(t, "the run pauses", func(u request.Standing) bool { return u.Job.State == "paused" })
	upgraded := 0
	for _, h := range u.Hosts {
		if h.State == upgrade.HostRollupDone {
			upgraded++
		}
	}
	if u.ClusterState != upgrade.Rollup || upgraded != 2 || !strings.Contains(u.Job.Why, third) {
		t.Errorf("it should have stopped at %s with two hosts upgraded: %+v", third, u)
	}
}

// goesBack rolls all hosts back by a command on one of them.
func (r *rig) goesBack(t testing.TB, from string) {
	t.Helper()
	r.command(t, from, "upgrade", "rollback", "--yes", "-o", "json")
	u := r.awaitUpgrade(t, "the way back", ended)
	if u.ClusterState != upgrade.Normal || u.Job.Result != "done" || u.Purpose != upgrade.ForRollback {
		t.Errorf("rolled back: %+v, job %+v", u, u.Job)
	}
	r.wentBack(t, u.Job.ID)
}

// stopsForLosses takes the links of a host's guests away while it is worked on, and wants the run to
// pause for that. It goes on by an operator's word when they are back.
func (r *rig) stopsForLosses(t testing.TB, from, host string) {
	t.Helper()
	link := func(state string) (cut []string) {
		guests, err := r.lab.Guests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range guests {
			if g.Host != host {
				continue
			}
			if out, err := r.lab.Exec(t.Context(), host, "virsh", "-q", "-c", "qemu:///system", "domif-setlink", g.Name, g.MAC, state); err != nil {
				t.Fatalf("the link of %s: %v: %s", g.Name, err, out)
			}
			cut = append(cut, g.Name)
		}
		return cut
	}
	judged := host + "/losses/turn"
	r.awaitUpgrade(t, host+" is worked on", func(u request.Standing) bool {
		return u.Stage == "hosts" && slices.ContainsFunc(u.Job.Steps, func(s job.StepView) bool {
			return string(s.Host) == host && s.ID != host+"/losses-before/turn"
		})
	})
	cut := link("down")
	if len(cut) == 0 {
		t.Fatalf("%s has no guests", host)
	}
	u := r.awaitUpgrade(t, "the run pauses for lost packets", func(u request.Standing) bool { return u.Job.State == "paused" })
	link("up")
	i := slices.IndexFunc(u.Job.Steps, func(s job.StepView) bool { return s.ID == judged })
	if i < 0 || !strings.Contains(u.Job.Steps[i].Why, "the limit is 8 lost packets: "+cut[0]+" has lost ") {
		t.Errorf("it should have stopped at %s for what %v have lost: %+v", judged, cut, u.Job)
	}
	r.guests(t)
	r.command(t, from, "upgrade", "skip", judged, "--reason", "their links are back")
	r.command(t, from, "upgrade", "resume")
	r.awaitUpgrade(t, "the run goes on", func(u request.Standing) bool { return u.Job.State == "active" })
}

// saidGuests gives a host a platform file with the addresses of all guests, which no host has heard of yet, and
// returns its path there.
func (r *rig) saidGuests(t testing.TB, h string) string {
	t.Helper()
	guests, err := r.lab.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	vms := ""
	for _, g := range guests {
		vms += fmt.Sprintf("- {name: %s, addresses: [%s]}\n", g.Name, g.Addr)
	}
	said := filepath.Join(t.TempDir(), "platform.yaml")
	writeFile(t, said, "format: 1\nhosts: [{name: "+h+"}]\nvms:\n"+vms+"status: {versionFile: /usr/share/platform/VERSION}\n")
	if _, err := r.give(h, "said", said); err != nil {
		t.Fatal(err)
	}
	return lab.HostDir + "/said/platform.yaml"
}

// TestUpgradeWithRebootsUnderPing upgrades and reboots all hosts, while guests are
// pinged and the coordinator's agent is killed at every progress that is seen. It is part of a
// whole transition, whose steps a host does that is rebooted in the middle of one.
func TestUpgradeWithRebootsUnderPing(t *testing.T) {
	need.Drill(t, "P4: five hosts are upgraded and rebooted under pings, while coordinators are killed, as part of a whole transition")
	onLab(t, owned, upgradeWithRebootsUnderPing)
}

func upgradeWithRebootsUnderPing(t testing.TB, r *rig) {
	r.installPlatform(t)
	before := r.guests(t)
	r.leadsElsewhere(t)
	boots := r.bootIDs(t)
	hosts := r.lab.Hosts()
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], platformBundle(t, key, true), key)
	whole := r.carry(t, hosts[0], bundle[1], slices.Concat([]string{"--version", platformOld, "--probe", "--platform",
		r.saidGuests(t, hosts[0])}, bundle[2:])...)
	whole.cutOver(t)
	r.awaitUpgrade(t, "the upgrade is begun", func(u request.Standing) bool { return u.Job.State == "active" })

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pinged := make(chan []lab.GuestPings, 1)
	go func() {
		p, err := r.lab.WatchGuests(ctx, pingEvery)
		if err != nil {
			t.Errorf("watch the guests: %v", err)
		}
		pinged <- p
	}()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		r.hear(ctx, t)
	}()
	killed := make(chan string, 1)
	go func() { killed <- r.killCoordinators(ctx, t) }()
	u := r.awaitUpgrade(t, "the upgrade", ended)
	stop()
	<-heard
	t.Log(<-killed)
	r.healthy(t) // the agent that was killed last is back
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Errorf("upgraded: %+v, job %+v", u, u.Job)
	}
	r.answered(t, <-pinged)
	for h, boot := range r.bootIDs(t) {
		if boot == boots[h] {
			t.Errorf("%s was not rebooted", h)
		}
	}
	r.haveAll(t, platformNew)
	r.unbroken(t, before)
	whole.ends(t)
	whole.takesBack(t)
	r.reported(t, hosts[1], before)
	r.commitTwice(t, hosts[2])
	r.haveAll(t, platformNew)
}

// hear lets every host hear of every guest until ctx ends, as of one that somebody
// speaks to: agents find the addresses of guests without an agent of their own so. A
// host forgets them when it is rebooted, and does not answer meanwhile.
func (r *rig) hear(ctx context.Context, t testing.TB) {
	guests, err := r.lab.Guests(ctx)
	if err != nil {
		t.Errorf("list the guests: %v", err)
	}
	text := ""
	for _, g := range guests {
		text += fmt.Sprintf("ip neigh replace %s lladdr %s dev br0 nud stale\n", g.Addr, g.MAC)
	}
	for ctx.Err() == nil {
		for _, h := range r.lab.Hosts() {
			if _, err := r.script(ctx, h, text); err != nil && ctx.Err() == nil {
				t.Logf("%s hears nothing now: %.100v", h, err)
			}
		}
		clock.Sleep(ctx, 2*time.Second)
	}
}

// reported wants a report without failures that tells what each guest has lost.
func (r *rig) reported(t testing.TB, h string, guests map[string]lab.Answer) {
	t.Helper()
	var rep check.Report
	if err := json.Unmarshal([]byte(r.command(t, h, "upgrade", "report", "-o", "json")), &rep); err != nil {
		t.Fatal(err)
	}
	t.Log(r.command(t, h, "upgrade", "report"))
	if w := check.Worst(rep.Findings); w == check.Fail || len(rep.Failures) > 0 {
		t.Errorf("the report tells of failures: %+v, %+v", rep.Findings, rep.Failures)
	}
	for name := range guests {
		i := slices.IndexFunc(rep.Losses, func(l check.Loss) bool { return l.Guest == name })
		if i < 0 || rep.Losses[i].Sent == 0 || rep.Losses[i].Lost == rep.Losses[i].Sent {
			t.Errorf("what %s has lost is not told: %+v", name, rep.Losses)
		}
	}
}

// commitTwice makes the upgrade final, once more, and wants the way back refused.
func (r *rig) commitTwice(t testing.TB, h string) {
	t.Helper()
	for range 2 {
		r.command(t, h, "upgrade", "commit", "--yes", "-o", "json")
		u := r.awaitUpgrade(t, "the commit", ended)
		if u.ClusterState != upgrade.Normal || u.Version != platformNew || !u.Committed {
			t.Errorf("committed: %+v, job %+v", u, u.Job)
		}
	}
	r.refused(t, h, 3, nil, "upgrade", "rollback", "--yes")
}

// killEvery is the shortest time between two kills: an agent that is killed again
// before it has come back is taken for dead with its host, which is fenced.
const killEvery = 4 * time.Second

// leadsElsewhere moves the management VM to another host than the coordinator's, see killCoordinators.
func (r *rig) leadsElsewhere(t testing.TB) {
	t.Helper()
	st := r.healthy(t)
	if st.Coordinator != st.Owner.Host {
		return
	}
	members := r.lab.Hosts()[:3]
	to := members[(slices.Index(members, string(st.Coordinator))+1)%3]
	r.command(t, members[0], "migrate", to)
	r.healthy(t)
}

// killCoordinators kills the coordinator's agent whenever a step has ended since the
// last kill, until ctx ends. One on the host of the management VM is left alone: where its start takes
// longer than a second, as on a busy machine, its host is switched off, as it should. (That every single write and step
// may be the last one of an agent is for the enumeration in internal/job/engine.)
func (r *rig) killCoordinators(ctx context.Context, t testing.TB) string {
	kills, changes, killed, last := 0, 0, 0, -1
	next := time.Now()
	for ctx.Err() == nil {
		u, err := r.upgradeNow(ctx)
		if err == nil && u.Steps.Over != last {
			changes, last = changes+1, u.Steps.Over
		}
		if err == nil && changes > killed && time.Now().After(next) {
			killed, next = changes, time.Now().Add(killEvery)
			if st, err := r.status(ctx); err == nil && st.Coordinator != "" && st.Coordinator != st.Owner.Host {
				if err := r.lab.Kill(ctx, string(st.Coordinator), lab.AgentDaemon); err == nil {
					kills++
				} else if ctx.Err() == nil {
					t.Logf("kill the agent of %s: %v", st.Coordinator, err)
				}
			}
		}
		clock.Sleep(ctx, 100*time.Millisecond)
	}
	return fmt.Sprintf("the coordinator's agent was killed %d times while progress was seen %d times", kills, changes)
}

// bootIDs are the boot ids of all hosts.
func (r *rig) bootIDs(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, h := range r.lab.Hosts() {
		id, err := r.lab.Exec(t.Context(), h, "cat", "/proc/sys/kernel/random/boot_id")
		if err != nil {
			t.Fatal(err)
		}
		out[h] = strings.TrimSpace(id)
	}
	return out
}
