package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/testbed/need"
)

// TestACopiedMemberIsNoticed starts a copy of the holder with its whole data directory, the member of the store in it, on another
// host: no member is started beside the one that lives, the copy ends, and the guest does not notice.
func TestACopiedMemberIsNoticed(t *testing.T) {
	need.Drill(t, "P1, P3: a copy of the active host ends before its member of the store is started, and neither store nor guest notices")
	onLab(t, plain, aCopiedMemberIsNoticed)
}

func aCopiedMemberIsNoticed(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, h := string(st.Owner.Host), another(r, st.Owner.Host)
	end := r.undisturbed(t, st)
	dir, file := r.copied(t, holder, h, func(n *config.Node) {
		at := func(port int) string { return fmt.Sprintf("https://%s:%d", r.lab.Addr(h), port) }
		m := n.Store.Member
		m.ListenPeer, m.PeerURL, m.ListenClient, m.ClientURL = at(12380), at(12380), at(12379), at(12379)
		m.Initial[holder] = m.PeerURL
	})
	// With its sockets, as who copies a directory does.
	cp := exec.CommandContext(t.Context(), "cp", "-a", r.disk(holder, "data/store"), dir+"/data/")
	if out, err := cp.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const run = "/run/copy/store"
	says := []string{"another agent uses this host's name", holder, r.lab.Addr(holder).String(), "the data directory was copied"}
	r.refused(t, h, 2, says, "agent", "--config", file)
	look := "ls " + run + " 2>&1; cat " + run + "/store.log 2>/dev/null | tail -5; true"
	if out, err := r.lab.Exec(t.Context(), h, "sh", "-c", look); err != nil || !strings.Contains(out, "No such file") {
		t.Errorf("a member of the store was started: %s, %v", out, err)
	}
	end()
}
