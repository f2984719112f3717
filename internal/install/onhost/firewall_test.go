package onhost

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/firewall"
	"holdfast/testbed/need"
)

// TestOpenedAndDied: what somebody opened who died before it was confirmed goes back to what
// the host's file says, and without a file to nothing.
func TestOpenedAndDied(t *testing.T) {
	need.Real(t, need.Root, need.Programs("nftables", "nft"))
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	nft := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "nft", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	nft("table inet site { chain in { type filter hook input priority 0; policy drop; }; }")
	before := nft("list", "ruleset")
	from := func(addr string) []firewall.Rule {
		return []firewall.Rule{{From: netip.MustParseAddr(addr), Proto: "tcp", First: 7443, Last: 7443}}
	}
	kept, err := json.Marshal(firewall.File{Rules: from("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g := gate{conf: dir, marker: filepath.Join(dir, "marker")}
	dies := func() {
		t.Helper()
		if err := os.WriteFile(g.marker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := firewall.New("").Apply(t.Context(), from("192.0.2.2")); err != nil {
			t.Fatal(err)
		}
		if err := g.recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(g.marker); err == nil {
			t.Error("the marker stays")
		}
	}
	dies()
	if now := nft("list", "ruleset"); now != before {
		t.Errorf("a host without a file:\n%s\nwant\n%s", now, before)
	}
	if err := os.WriteFile(filepath.Join(dir, firewall.FileName), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	dies()
	if now := nft("list", "ruleset"); !strings.Contains(now, "192.0.2.1") || strings.Contains(now, "192.0.2.2") {
		t.Errorf("a host with a file:\n%s", now)
	}
	now := nft("list", "ruleset")
	if err := g.recover(t.Context()); err != nil || nft("list", "ruleset") != now {
		t.Errorf("nothing was open, and it was changed: %v", err)
	}
}
