package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// swapped is the cluster's configuration with another host in the place of one.
func (b *bareRig) swapped(cl config.Cluster, from, to string) config.Cluster {
	hosts := map[string]config.HostFencing{}
	for h, f := range cl.Fencing.Hosts {
		hosts[h] = f
	}
	delete(hosts, from)
	hosts[to] = config.HostFencing{Watchdog: lab.WatchdogDevice(to)}
	cl.Fencing.Hosts = hosts
	cl.Node = slices.Clone(cl.Node)
	for i, n := range cl.Node {
		if strings.HasSuffix(n, " "+from) {
			cl.Node[i] = b.lab.Addr(to).String() + " " + to
		}
	}
	return cl
}

// running installs on h1 to h3 in the words of the source tool's manual, and names the holder and a
// member that can leave.
func (b *bareRig) running(t *testing.T) (holder, leaver string) {
	t.Helper()
	b.zshaInstalls(t, "h1", b.lab.BareCluster())
	st, err := b.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holder = string(st.Owner.Host)
	for _, h := range b.lab.Hosts()[:3] {
		if h != holder {
			leaver = h
		}
	}
	return holder, leaver
}

// TestMemberUnderAnotherName replaces a member that is alive by a host of another name and
// address, while the guest goes on. The command is killed in the middle, and goes on.
func TestMemberUnderAnotherName(t *testing.T) {
	need.Drill(t, "P3: a member is replaced by a host of another name while the guest goes on, by a command that is killed in the middle")
	b := newBareRig(t, 4)
	holder, leaver := b.running(t)
	boot := b.waitGuest(t)
	now := b.lab.BareCluster()

	// The holder does not leave, and two at once do not either.
	res, said, err := b.install(t, holder, append(b.files(t, holder, b.swapped(now, holder, "h4")), "--check")...)
	if got := fails(res.Report); err == nil || !slices.Equal(got, []string{holder + " member"}) {
		t.Errorf("the holder is replaced: %v, failed %q\n%s", err, got, said)
	}
	two := b.swapped(now, leaver, "h4")
	i := slices.IndexFunc(two.Node, func(n string) bool { return strings.HasSuffix(n, " "+holder) })
	two.Node[i] = b.lab.Addr(leaver).String() + " " + holder
	if res, said, err := b.install(t, holder, append(b.files(t, holder, two), "--check")...); err == nil || res.OK {
		t.Errorf("two members are replaced: %v\n%s", err, said)
	}

	next := b.swapped(now, leaver, "h4")
	args := b.files(t, holder, next)
	if _, said, code := b.zsha(t, holder, installedZsha,
		b.inItsWords(args, "/srv/host/new.json")...); code != fail.ExitRefused ||
		!strings.Contains(said, "nobody can be asked") || !strings.Contains(said, "give --yes") {
		t.Errorf("without a question: %d\n%s", code, said)
	}
	b.members(t, holder, now)
	args = append(args, "--yes")
	b.killedAt(t, holder, append([]string{"install"}, args...), "h4: joins the store")
	res, said, err = b.install(t, holder, args...)
	if err != nil || !res.OK {
		t.Fatalf("replace %s: %v\n%s\n%+v", leaver, err, said, fails(res.Report))
	}
	t.Logf("%s is replaced by h4:\n%s", leaver, said)
	b.runs(t, 3)
	b.members(t, holder, next)
	if b.sh(t, leaver, "[ ! -e /etc/holdfast ] && [ ! -e /opt/holdfast/bin/holdfast ] && echo gone") != "gone\n" {
		t.Errorf("%s still has an installation", leaver)
	}
	b.wentOn(t, boot)
}

// wentOn tells whether the guest was started anew. That is no fault: each start of a store's
// member is a moment with one member less, of which a busy machine may make too much.
func (b *bareRig) wentOn(t *testing.T, was lab.Answer) {
	t.Helper()
	t.Logf("the guest went on: %t", b.waitGuest(t).Boot == was.Boot)
	b.nowhereTwice(t)
}

// members: these vote, and no others.
func (b *bareRig) members(t *testing.T, asked string, cl config.Cluster) {
	t.Helper()
	var want []string
	for _, h := range install.Members(cl) {
		want = append(want, h.Name)
	}
	slices.Sort(want)
	b.until(t, "the members vote", func(ctx context.Context) (string, bool) {
		s, err := b.storeOf(ctx, asked)
		var got []string
		for _, m := range s.Members {
			if m.Reachable && !m.Learner {
				got = append(got, m.Name)
			}
		}
		slices.Sort(got)
		return fmt.Sprint(err, s.Members), slices.Equal(got, want) && len(s.Members) == len(want)
	})
}

// killedAt ends an installer without a word at a moment.
func (b *bareRig) killedAt(t *testing.T, h string, args []string, at string) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	_ = b.killedWhen(ctx, t, h, args, at, "[h]oldfast (install|adopt)") // it was killed
}
