package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/transition/pin"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// switched is a laboratory of six hosts with a system of their own, and a business guest on each.
const switched kind = "switched"

// giveSwitch starts a real Open vSwitch with the userspace datapath on a host, and puts its bridge br-int between the
// host's network and its business guest: port 1 leads out, port 2 to the guest. Its flows are those of a network
// agent that knows the guest. The offloads of cards are not carried on by that datapath, so the guest is one that
// answers pings only.
const giveSwitch = `
mkdir -p /run/openvswitch /etc/openvswitch
rm -f /etc/openvswitch/conf.db
ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --detach --no-chdir --pidfile --log-file=/srv/host/log/ovsdb.log
ovs-vsctl --no-wait init
nice -n -20 ovs-vswitchd unix:/run/openvswitch/db.sock --disable-system --detach --no-chdir --pidfile --log-file=/srv/host/log/vswitchd.log
ovs-vsctl --timeout=15 add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure protocols=OpenFlow10,OpenFlow13,OpenFlow14
ip link add out0 type veth peer name out1
ip link set out0 master br0 up
ip link set out1 up
tap=$(virsh -q -c qemu:///system domiflist "$1" | awk '{ print $1 }')
ip link set "$tap" nomaster
ovs-vsctl --timeout=15 add-port br-int out1 -- set interface out1 ofport_request=1 -- add-port br-int "$tap" -- set interface "$tap" ofport_request=2
cat >/srv/host/flows <<END
table=0,priority=9,in_port=1 actions=resubmit(,60)
table=0,priority=9,in_port=2,dl_src=$2 actions=resubmit(,60)
table=60,priority=4,in_port=1,dl_dst=$2 actions=output:2
table=60,priority=3,in_port=1,dl_dst=ff:ff:ff:ff:ff:ff actions=output:2
table=60,priority=2,in_port=2 actions=output:1
table=60,priority=0 actions=drop
END
sed 's/^/cookie=1,/' /srv/host/flows >/run/flows
ovs-ofctl -O OpenFlow14 add-flows br-int /run/flows
echo 'Version: 1.0' >/srv/host/network-version
`

// TestUpgradeRollout rolls a network agent out over six hosts, one after the other, whose guests are reached through a
// real Open vSwitch each: the agent deletes all flows and writes them anew, slowly. Pinned, no guest loses a packet. A run
// that is aborted leaves no pin. On one host of the next run the guest's link goes away meanwhile: the run pauses there
// by itself, with the hosts behind it untouched, and goes on by an operator's word. One host is rolled back, pinned, too.
// No pin is left anywhere.
func TestUpgradeRollout(t *testing.T) {
	need.Drill(t, "P4: a network agent is rolled out over six hosts with a real Open vSwitch: pinned, no guest "+
		"loses a packet", need.Programs("openvswitch-switch", "ovs-vsctl", "ovs-ofctl"))
	onLab(t, switched, upgradeRollout)
}

func upgradeRollout(t testing.TB, r *rig) {
	r.spent(t, true)
	hosts := r.lab.Hosts()
	r.guests(t)
	guests := r.switches(t)
	r.losesWithoutPin(t, hosts[5], guests)
	r.checksBridges(t, hosts[0])

	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], build(t, copied(t, "rollout", "manifest.yaml"), key), key)
	run := slices.Concat([]string{"upgrade", "run", "--version", "1.0", "--yes", "--mode", "rolling", "-o", "json",
		"--keep-guests", "--pin", "br-int",
		"--probe", "--loss-limit", "5", "--platform", r.saidGuests(t, hosts[0])}, bundle)
	watched := r.watchGuests(t)
	r.abortsPinned(t, run)
	p := r.dryRun(t, hosts[0], run)
	cut, back := string(p.Hosts[2].Name), string(p.Hosts[4].Name)
	if err := os.WriteFile(r.lab.HostPath(cut, "cut"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.command(t, hosts[0], run...)
	r.awaitUpgrade(t, "the run pauses for lost packets", func(u request.Standing) bool { return u.Job.State == "paused" })
	judged := r.pausedAt(t, p, cut, guests[cut].Name)
	r.command(t, hosts[1], "upgrade", "retry", judged)
	r.command(t, hosts[1], "upgrade", "resume")
	u := r.awaitUpgrade(t, "the rollout", ended)
	if u.ClusterState != upgrade.Prepared || u.Job.Result != "done" {
		t.Errorf("rolled out: %+v, job %+v", u, u.Job)
	}
	r.lostNothing(t, hosts[3], guests, cut)
	r.command(t, hosts[1], "upgrade", "rollback", back, "--yes", "-o", "json")
	if u = r.awaitUpgrade(t, "one host goes back", ended); u.Job.Result != "done" || u.Purpose != upgrade.ForRollback {
		t.Errorf("rolled back: %+v, job %+v", u, u.Job)
	}
	for _, g := range watched() {
		t.Logf("from the switch: %s lost %d of %d, longest gap %s", g.Name, g.Lost, g.Sent, g.Gap)
		if (g.Lost > 0) != (g.Name == guests[cut].Name) {
			t.Errorf("%s lost %d of %d packets in all (the link of %s was cut)", g.Name, g.Lost, g.Sent, guests[cut].Name)
		}
	}
	for _, h := range hosts {
		r.unpinned(t, h)
		want := map[bool]string{false: "Version: 1.1", true: "Version: 1.0"}[h == back]
		if text, err := os.ReadFile(r.lab.HostPath(h, "network-version")); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s has %q, want %q: %v", h, text, want, err)
		}
	}
}

// watchGuests pings the guests from the switch until the returned function is called, which tells what they lost.
func (r *rig) watchGuests(t testing.TB) func() []lab.GuestPings {
	ctx, stop := context.WithCancel(t.Context())
	pinged := make(chan []lab.GuestPings, 1)
	go func() {
		w, err := r.lab.WatchGuests(ctx, pingEvery)
		if err != nil {
			t.Errorf("watch the guests: %v", err)
		}
		pinged <- w
	}()
	return func() []lab.GuestPings {
		stop()
		return <-pinged
	}
}

// dryRun is the plan of a run.
func (r *rig) dryRun(t testing.TB, h string, run []string) *upgrade.Plan {
	t.Helper()
	var p upgrade.Plan
	dry := r.command(t, h, slices.Concat(run, []string{"--dry-run"})...)
	if err := lab.ReadTold([]byte(dry), &p); err != nil || len(p.Hosts) != len(r.lab.Hosts()) {
		t.Fatalf("%v: %s", err, dry)
	}
	return &p
}

// unpinned wants a host's bridge to have the flows of the agent's last start, and nothing else.
func (r *rig) unpinned(t testing.TB, h string) {
	t.Helper()
	if d := r.bridge(t, h); len(d.Ours()) > 0 || len(d.Groups) > 0 || len(d.Theirs()) != 6 || d.Theirs()[0].Cookie != 2 {
		t.Errorf("%s: %d flows of a pin, %d groups, of the agent %+v", h, len(d.Ours()), len(d.Groups), d.Theirs())
	}
}

// abortsPinned begins a run and aborts it while the first host is pinned, and its agent, which has written its flows,
// does not end. The host is unpinned by that.
func (r *rig) abortsPinned(t testing.TB, run []string) {
	t.Helper()
	from := r.lab.Hosts()[0]
	first := string(r.dryRun(t, from, run).Hosts[0].Name)
	hang := r.lab.HostPath(first, "hang")
	if err := os.WriteFile(hang, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.command(t, from, run...)
	r.until(t, "the agent of "+first+" to have written its flows", func(context.Context) (string, bool) {
		d := r.bridge(t, first)
		return fmt.Sprintf("%d flows of a pin, of the agent %+v", len(d.Ours()), d.Theirs()),
			len(d.Ours()) == 6+3 && len(d.Theirs()) == 6 && d.Theirs()[0].Cookie == 2
	})
	r.command(t, from, "upgrade", "abort")
	u := r.awaitUpgrade(t, "the abort", ended)
	if u.Job.Result != "aborted" || strings.Contains(u.Job.Why, "not restored") {
		t.Errorf("aborted: %+v", u.Job)
	}
	r.unpinned(t, first)
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
}

// switches gives each host its Open vSwitch. The guests are those of the hosts.
func (r *rig) switches(t testing.TB) map[string]lab.GuestInfo {
	t.Helper()
	all, err := r.lab.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	guests := map[string]lab.GuestInfo{}
	for _, g := range all {
		guests[g.Host] = g
	}
	r.everywhere(t, "start Open vSwitch", func(ctx context.Context, h string) error {
		_, err := r.script(ctx, h, giveSwitch, guests[h].Name, guests[h].MAC)
		return err
	})
	return guests
}

// bridge is what a host's br-int has.
func (r *rig) bridge(t testing.TB, h string) pin.Dump {
	t.Helper()
	dump := func(what string) string {
		out, err := r.lab.Exec(t.Context(), h, "ovs-ofctl", "-O", "OpenFlow14", "--no-names", what, "br-int")
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	d, err := pin.Read(dump("dump-flows"), dump("dump-groups"), dump("dump-ports-desc"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// losesWithoutPin wants the guest of a host to lose packets by what the agent does, else the drill shows nothing.
func (r *rig) losesWithoutPin(t testing.TB, h string, guests map[string]lab.GuestInfo) {
	t.Helper()
	dir, err := r.give(h, "agent", "testdata/rollout/agent/ctl.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		defer stop()
		_, err := r.script(ctx, h, `sleep 2; "$1" restart 1.0; sleep 2`, path.Join(dir, "ctl.sh"))
		done <- err
	}()
	pings, err := r.lab.WatchGuests(ctx, pingEvery)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for _, g := range pings {
		t.Logf("one host without a pin: %s lost %d of %d", g.Name, g.Lost, g.Sent)
		if g.Name == guests[h].Name && (g.Lost == 0 || g.Lost == g.Sent) {
			t.Errorf("%s lost %d of %d packets without a pin: want some", g.Name, g.Lost, g.Sent)
		}
	}
}

// checksBridges looks whether bridges can be pinned, one that all hosts have and one that none has.
func (r *rig) checksBridges(t testing.TB, from string) {
	t.Helper()
	out, err := r.lab.Exec(t.Context(), from, r.exe, "upgrade", "check", "--pin", "br-int,br-none", "-o", "json")
	if err == nil {
		t.Errorf("a bridge that no host has fails no check")
	}
	var rep check.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	can, none := map[string]bool{}, false
	for _, f := range rep.Findings {
		if f.Check == "pin" && f.Level == check.Info && f.Text == "bridge br-int can be pinned, by a copy of 6 flows and 0 groups for 3 ports" {
			can[string(f.Host)] = true
		}
		none = none || f.Check == "pin" && f.Level == check.Fail && f.Text == "no host has bridge br-none"
	}
	if len(can) != len(r.lab.Hosts()) || !none {
		t.Errorf("want br-int to be one that all hosts can pin, and br-none told of: %+v", rep.Findings)
	}
}

// pausedAt wants the run to have stopped at a host for what its guest has lost, with the hosts behind it untouched. It
// returns the step that an operator has to say a word to.
func (r *rig) pausedAt(t testing.TB, p *upgrade.Plan, cut, guest string) string {
	t.Helper()
	u, err := r.upgradeNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	judged := cut + "/losses/turn"
	i := slices.IndexFunc(u.Job.Steps, func(s job.StepView) bool { return s.ID == judged })
	if i < 0 || !strings.Contains(u.Job.Steps[i].Why, "the limit is 5 lost packets: "+guest+" has lost ") {
		t.Fatalf("it should have paused at %s: %+v", judged, u.Job)
	}
	t.Logf("paused: %s", u.Job.Steps[i].Why)
	behind := false
	for _, h := range p.Hosts {
		want := fmt.Sprint("Version: ", map[bool]string{false: "1.1", true: "1.0"}[behind])
		text, err := os.ReadFile(r.lab.HostPath(string(h.Name), "network-version"))
		if d := r.bridge(t, string(h.Name)); err != nil || strings.TrimSpace(string(text)) != want || len(d.Ours()) > 0 {
			t.Errorf("paused at %s: %s has %q, want %q, and %d flows of a pin: %v", cut, h.Name, text, want, len(d.Ours()), err)
		}
		behind = behind || string(h.Name) == cut
	}
	return judged
}

// lostNothing wants the report to tell that all guests were pinged, and that only the one of a host has lost packets.
func (r *rig) lostNothing(t testing.TB, from string, guests map[string]lab.GuestInfo, cut string) {
	t.Helper()
	var rep check.Report
	if err := json.Unmarshal([]byte(r.command(t, from, "upgrade", "report", "-o", "json")), &rep); err != nil {
		t.Fatal(err)
	}
	for h, g := range guests {
		i := slices.IndexFunc(rep.Losses, func(l check.Loss) bool { return l.Guest == g.Name })
		if i < 0 || rep.Losses[i].Sent == 0 || (rep.Losses[i].Lost > 0) != (h == cut) {
			t.Errorf("%s of %s (the link of %s was cut): %+v", g.Name, h, cut, rep.Losses)
		} else {
			t.Logf("the report: %s of %s lost %d of %d packets", g.Name, h, rep.Losses[i].Lost, rep.Losses[i].Sent)
		}
	}
}
