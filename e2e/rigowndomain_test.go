package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// The management VM of this rig is a domain that its operator wrote, with two disks.
func TestOwnDomainIsTakenOver(t *testing.T) {
	need.Drill(t, "P1: a domain of the operator's own is taken over")
	onLab(t, fencedOwn, func(t testing.TB, r *rig) { r.ownDomainRuns(t, r.healthy(t)) })
	runAll(t, fencedOwn, map[string]drill{"power loss of the active host, own domain": {
		fault: crash, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin,
		check: func(t testing.TB, r *rig, c course) { r.ownDomainRuns(t, c.st) },
	}}, defaultRuns)
	onLab(t, fencedOwn, func(t testing.TB, r *rig) {
		st := r.healthy(t)
		to := another(r, st.Owner.Host)
		r.command(t, string(st.Owner.Host), "migrate", to)
		st = r.healthy(t)
		if string(st.Owner.Host) != to {
			t.Errorf("it runs on %s, was migrated to %s", st.Owner.Host, to)
		}
		r.ownDomainRuns(t, st)
	})
}

// ownDomainRuns: the holder alone has the guest, by the operator's definition, and has
// both disks open.
func (r *rig) ownDomainRuns(t testing.TB, st cluster.Status) {
	t.Helper()
	var have []string
	for _, h := range r.lab.Hosts() {
		ctx, cancel := waiting(t)
		out, err := r.lab.Exec(ctx, h, "virsh", "-q", "-c", "qemu:///system", "list", "--name")
		if err != nil {
			t.Error(err)
		}
		if strings.TrimSpace(out) == cluster.GuestName {
			have = append(have, h)
		} else if out = strings.TrimSpace(out); out != "" {
			t.Errorf("%s has %q", h, out)
		}
		cancel()
	}
	holder := string(st.Owner.Host)
	if !slices.Equal(have, []string{holder}) {
		t.Fatalf("the guest is on %v, want %s alone", have, holder)
	}
	ctx, cancel := waiting(t)
	defer cancel()
	def, err := r.lab.Exec(ctx, holder, "virsh", "-q", "-c", "qemu:///system", "dumpxml", cluster.GuestName)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"machine='pc-q35-", "<sound model='ich9'>", lab.ImageName, lab.ImageName2, "seed.iso",
		"<on_crash>destroy</on_crash>",
		fmt.Sprintf("<entry>holdfast:mnvm:%s</entry>", st.Owner.Epoch)} {
		if !strings.Contains(def, want) {
			t.Errorf("its definition has no %s:\n%s", want, def)
		}
	}
}
