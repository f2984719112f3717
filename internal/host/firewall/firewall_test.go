package firewall

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
)

// rulesFrom are those that tests open.
func rulesFrom(addrs ...string) (out []Rule) {
	for _, a := range addrs {
		at := netip.MustParseAddr(a)
		out = append(out, Rule{at, "tcp", 7443, 7443}, Rule{at, "udp", 7443, 7443}, Rule{at, "tcp", 49152, 49215})
	}
	return out
}

// inSpace puts the test's thread into a network namespace of its own, which ends with the
// test. Programs that it starts are in it.
func inSpace(t *testing.T, tools ...string) Firewall {
	t.Helper()
	need.Real(t, need.Root, need.Programs("iproute2, nftables, iptables", tools...))
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	sh(t, "ip link set lo up; ip addr add 10.0.0.9/24 dev lo; ip addr add 10.0.0.1/32 dev lo; ip addr add "+
		"10.0.0.2/32 dev lo; ip addr add 10.0.0.66/32 dev lo")
	f := New("10.0.0.9")
	f.Proc = threadProc(t)
	return f
}

// threadProc is a /proc whose self is this thread, which has a namespace of its own.
func threadProc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink("/proc/thread-self", filepath.Join(dir, "self")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sh(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// reaches reports whether a port answers an address.
func reaches(t *testing.T, from string, port string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandWithin)
	defer cancel()
	script := "exec 2>/dev/null; ip route replace 10.0.0.9/32 dev lo src " +
		from + " table local; timeout 1 bash -c 'exec 3<>/dev/tcp/10.0.0.9/" + port + "'"
	return exec.CommandContext(ctx, "bash", "-c", script).Run() == nil
}

func listen(t *testing.T) {
	t.Helper()
	for _, at := range []string{"10.0.0.9:7443", "10.0.0.9:49200", "10.0.0.9:22"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
	}
}

// Firewalls as operators write them. All let replies in: the packets of both sides pass the
// same chains here.
var nftables = map[string]string{
	"policy": `table inet f { chain in { type filter hook input priority 0; policy drop; ct state established accept; }; }`,
	"reject in a chain behind": `table inet f { chain behind { reject; }
 chain in { type filter hook input priority 0; policy accept; ct state established accept; jump behind; }; }`,
	"verdict map": `table inet f { chain in { type filter hook input priority 0; policy accept; ct state established accept; ip protocol vmap { tcp : drop, udp : drop }; }; }`,
	"two tables": `table ip a { chain in { type filter hook input priority -5; policy drop; ct state established accept; }; }
table inet b { chain in { type filter hook input priority 5; policy drop; ct state established accept; }; }`,
}

// TestNFTables takes one of them.
func TestNFTables(t *testing.T) { exerciseNFTables(t, nftables["policy"]) }

func TestAllNFTables(t *testing.T) {
	need.Drill(t, "firewalls of nftables as operators write them are opened for members, and closed as they were")
	for name, rules := range nftables {
		t.Run(name, func(t *testing.T) { exerciseNFTables(t, rules) })
	}
}

func exerciseNFTables(t *testing.T, rules string) {
	f := inSpace(t, "nft", "ip")
	sh(t, "nft -f - <<'E'\n"+rules+"\nE")
	exercise(t, f, NFTables, "nft list ruleset", func() { sh(t, "nft flush ruleset; nft -f - <<'E'\n"+rules+"\nE") })
}

// TestIPTables takes one of the ways to drop packets with one of the programs.
func TestIPTables(t *testing.T) { exerciseIPTables(t, "iptables-nft", "-P INPUT DROP") }

func TestAllIPTables(t *testing.T) {
	need.Drill(t, "firewalls of both programs of iptables are opened for members, and closed as they were")
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		for name, last := range map[string]string{"policy": "-P INPUT DROP", "reject": "-A INPUT -j REJECT",
			"chain": "-N behind; @ -A behind -j DROP; @ -A INPUT -g behind"} {
			t.Run(program+" "+name, func(t *testing.T) { exerciseIPTables(t, program, last) })
		}
	}
}

func exerciseIPTables(t *testing.T, program, last string) {
	f := inSpace(t, program, "ip", "nft")
	load := strings.ReplaceAll("@ -F; @ -X; @ -P INPUT ACCEPT; @ -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; @ "+last, "@", program)
	sh(t, load)
	exercise(t, f, IPTables, program+" -S", func() { sh(t, load) })
}

// exercise opens a firewall, has its ruleset loaded anew, changes the members, and closes it.
func exercise(t *testing.T, f Firewall, kind, list string, reload func()) {
	t.Helper()
	ctx := t.Context()
	listen(t)
	before := sh(t, list)
	found, err := f.Look(ctx)
	if err != nil || len(found.Kinds) != 1 || found.Kinds[0] != kind || len(found.Where) == 0 {
		t.Fatalf("look: %+v, %v: want %s", found, err, kind)
	}
	if sh(t, list) != before {
		t.Error("to look has changed something")
	}
	if reaches(t, "10.0.0.1", "7443") {
		t.Fatal("the firewall drops nothing: the test shows nothing")
	}
	apply := func(want bool, rules []Rule) {
		t.Helper()
		n, err := f.Apply(ctx, rules)
		if err != nil || n > 0 != want {
			t.Fatalf("apply: %d changes, %v: want some: %v", n, err, want)
		}
	}
	apply(true, rulesFrom("10.0.0.1", "10.0.0.2"))
	apply(false, rulesFrom("10.0.0.1", "10.0.0.2"))
	for _, c := range []struct {
		from, port string
		want       bool
	}{{"10.0.0.1", "7443", true}, {"10.0.0.2", "49200", true}, {"10.0.0.1", "22", false}, {"10.0.0.66", "7443", false}} {
		if got := reaches(t, c.from, c.port); got != c.want {
			t.Errorf("%s reaches port %s: %v, want %v\n%s", c.from, c.port, got, c.want, sh(t, list))
		}
	}
	opened := sh(t, list)
	reload()
	apply(true, rulesFrom("10.0.0.1", "10.0.0.2"))
	if got := sh(t, list); len(got) != len(opened) {
		t.Errorf("after the rules were loaded anew:\n%s\nwant\n%s", got, opened)
	}
	apply(true, rulesFrom("10.0.0.2"))
	if reaches(t, "10.0.0.1", "7443") || !reaches(t, "10.0.0.2", "7443") {
		t.Errorf("a member that left is let in, or the one that stays is not:\n%s", sh(t, list))
	}
	reload()
	apply(true, rulesFrom("10.0.0.2", "10.0.0.3", "fd00::1"))
	apply(true, nil)
	if after := sh(t, list); strip(after) != strip(before) {
		t.Errorf("closed again:\n%s\nwant\n%s", after, before)
	}
	apply(false, nil)
}

// strip takes the counts of packets away.
func strip(s string) string {
	f := strings.Fields(s)
	for i := range f {
		if i > 0 && (f[i-1] == "packets" || f[i-1] == "bytes") {
			f[i] = "N"
		}
	}
	return strings.Join(f, " ")
}

// TestNothingFilters: no rule is made where nothing drops packets, and no table.
func TestNothingFilters(t *testing.T) {
	f := inSpace(t, "nft", "ip")
	for _, rules := range []string{"", "table inet f { chain in { type filter hook input priority 0; policy accept; " +
		"tcp dport 22 accept; }; chain through { type filter hook forward priority 0; policy drop; }; }"} {
		sh(t, "nft -f - <<'E'\n"+rules+"\nE")
		before := sh(t, "nft list ruleset")
		found, err := f.Look(t.Context())
		if err != nil || len(found.Kinds) > 0 {
			t.Errorf("look: %+v, %v", found, err)
		}
		if n, err := f.Apply(t.Context(), rulesFrom("10.0.0.1")); n > 0 || err != nil {
			t.Errorf("apply: %d, %v", n, err)
		}
		if after := sh(t, "nft list ruleset"); after != before {
			t.Errorf("it was changed:\n%s", after)
		}
	}
}
