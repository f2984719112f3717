package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// TestMemberThatDied replaces a member that is dead. It comes back, and stays out.
func TestMemberThatDied(t *testing.T) {
	need.Drill(t, "P3: a member that is dead is replaced; it comes back, and stays out")
	b := newBareRig(t, 4)
	holder, leaver := b.running(t)
	boot := b.waitGuest(t)
	next := b.swapped(b.lab.BareCluster(), leaver, "h4")
	args := append(b.files(t, holder, next), "--yes")
	if err := b.lab.Crash(t.Context(), leaver); err != nil {
		t.Fatal(err)
	}
	b.until(t, leaver+" is silent", func(ctx context.Context) (string, bool) {
		s, err := b.status(ctx)
		i := slices.IndexFunc(s.Hosts, func(h cluster.HostStatus) bool { return string(h.Name) == leaver })
		return fmt.Sprint(err), err == nil && i >= 0 && !s.Hosts[i].Alive
	})
	res, said, err := b.install(t, holder, args...)
	if err != nil || !res.OK {
		t.Fatalf("replace %s, which is dead: %v\n%s\n%+v", leaver, err, said, fails(res.Report))
	}
	t.Logf("%s is replaced by h4:\n%s", leaver, said)
	b.runs(t, 3)
	b.members(t, holder, next)

	if err := b.lab.On(t.Context(), leaver); err != nil {
		t.Fatal(err)
	}
	b.until(t, leaver+" finds that it is no member", func(ctx context.Context) (string, bool) {
		s, err := b.statusOf(ctx, leaver)
		return fmt.Sprint(err, s.Waiting), strings.Contains(s.Waiting, "no member of this cluster any more")
	})
	s, err := b.status(t.Context())
	if err != nil || len(s.Hosts) != 3 {
		t.Errorf("hosts %+v, %v", s.Hosts, err)
	}
	if out := b.sh(t, leaver, "virsh -q -c qemu:///system list --name --all"); strings.TrimSpace(out) != "" {
		t.Errorf("%s has guests: %q", leaver, out)
	}
	if log := b.sh(t, leaver, "cat /srv/host/log/holdfast.service.log"); !strings.Contains(log, "not a member") {
		t.Errorf("the log of %s does not say it", leaver)
	}
	b.wentOn(t, boot)
}
