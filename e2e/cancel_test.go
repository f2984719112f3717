package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// TestMigrationIsCancelled ends a migration in the middle from another host than its own,
// and one that has just ended: the guest is where the command says, and never on two.
func TestMigrationIsCancelled(t *testing.T) {
	need.Drill(t, "P1: a migration that is cancelled leaves the guest where the command says, and never on two hosts")
	onLab(t, plain, migrationIsCancelled)
}

func migrationIsCancelled(t testing.TB, r *rig) {
	st := r.healthy(t)
	home, to := string(st.Owner.Host), another(r, st.Owner.Host)
	third := third(r, []string{home, to})
	before := r.answer(t)
	// Nothing to cancel is refused, and says where the guest is.
	out, err := r.lab.Exec(t.Context(), third, r.exe, "migrate", "--cancel")
	if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, "no move is under way: it runs on "+home) ||
		!strings.Contains(said, "exit status 3") {
		t.Errorf("without a migration: %s", said)
	}
	end := r.watching(t)

	// At 1 MiB/s it takes a minute and more.
	speed := func(mib string) {
		t.Helper()
		if out, err := r.lab.Exec(t.Context(), home, "virsh", "-q", "-c", "qemu:///system", "migrate-setspeed",
			cluster.GuestName, mib); err != nil {
			t.Fatal(out, err)
		}
	}
	speed("1")
	followed := make(chan string, 1)
	go func() {
		out, err := r.lab.Exec(t.Context(), home, r.exe, "migrate", to)
		followed <- fmt.Sprint(out, err)
	}()
	r.until(t, "the migration to carry memory", func(ctx context.Context) (string, bool) {
		s, err := r.statusOf(ctx, third)
		return fmt.Sprint(s.Owner.State, " ", s.Percent, " %, ", err), err == nil && s.Owner.State == cluster.Migrating && s.Percent > 0
	})
	if out := r.command(t, third, "migrate", "--cancel"); !strings.Contains(out,
		"is cancelled: the management VM is running on "+home) || !strings.Contains(out, to+" has nothing of it") {
		t.Errorf("migrate --cancel said %q", out)
	}
	if said := <-followed; !strings.Contains(said, "cancelled") || !strings.Contains(said, "it runs on "+home) ||
		!strings.Contains(said, "exit status 1") {
		t.Errorf("who followed it was told %q", said)
	}
	if now := r.healthy(t).Owner; string(now.Host) != home || now.Epoch != st.Owner.Epoch {
		t.Errorf("owner %+v, was %+v", now, st.Owner)
	}

	// The next one is not cancelled by it, and a cancel that comes too late moves nothing.
	speed("8000")
	r.command(t, home, "migrate", to)
	out, err = r.lab.Exec(t.Context(), third, r.exe, "migrate", "--cancel")
	if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, "no move is under way: it runs on "+to) {
		t.Errorf("too late: %s", said)
	}
	if now := r.healthy(t).Owner; string(now.Host) != to || now.Epoch != st.Owner.Epoch {
		t.Errorf("owner %+v, was %+v and moved to %s", now, st.Owner, to)
	}
	after := r.answer(t)
	end().oneHolder(t)
	if after.Boot != before.Boot || after.N < before.N {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
