package mariadb

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"holdfast/internal/host/replica"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// ownNetwork runs the test once more, in a network namespace of its own, and reports that it is
// there.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	const mark = "HOLDFAST_TEST_OWN_NETWORK"
	if os.Getenv(mark) != "" {
		return true
	}
	cmd := exec.CommandContext(try.Context(t), "unshare", "--net", "sh", "-c", `ip link set lo up && exec "$0" "$@"`,
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	t.Logf("%s", out)
	return false
}

// TestALostReplicaComesBack: a primary notices that its replica is cut off before that connects
// anew, also when nobody writes. Commits wait all the same, and it answers when the replica
// comes back.
func TestALostReplicaComesBack(t *testing.T) {
	need.Drill(t, "P3: a primary notices that its replica is cut off, and answers when it comes back", need.Root,
		need.Programs("util-linux", "unshare"), need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"),
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	if !ownNetwork(t) {
		return
	}
	nft := func(rules string) {
		t.Helper()
		if out, err := exec.CommandContext(try.Context(t), "nft", rules).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", rules, err, out)
		}
	}
	a, b := pair(t)
	ctx := try.Context(t)
	join(t, a, b)
	run := a.state().Run
	for _, writes := range []bool{false, true} {
		nft(fmt.Sprintf("table inet cut { chain c { type filter hook input priority 0; tcp dport %d drop; tcp sport "+
			"%d drop; }; }", a.port, a.port))
		answer := make(chan error, 1)
		write := func() {
			_, err := a.root.ExecContext(ctx, "REPLACE INTO app.log VALUES (1, NOW(6))")
			answer <- err
		}
		if writes {
			go write()
		}
		try.Until(t, "the loss of the replica, on the primary", func() bool { return !a.state().Connected })
		try.Until(t, "the loss of the primary, on the replica", func() bool { return !b.state().Connected })
		if !writes {
			go write()
		}
		try.Until(t, "a commit that waits", func() bool { return a.state().Blocked == 1 })
		pending(t, answer)
		try.Must(t, a.Alone(ctx))
		try.Must(t, <-answer)
		nft("delete table inet cut")
		try.Until(t, "the replica", func() bool {
			st := a.state()
			if st.Role != replica.Primary {
				t.Fatalf("it does not answer: %+v", st)
			}
			return st.Connected && b.state().Connected
		})
		if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	if now := a.state().Run; now != run {
		t.Errorf("it was started anew: %s, before %s", now, run)
	}
}

func TestWhereAReplicaIs(t *testing.T) {
	for host, want := range map[string]string{"10.0.0.2:4711": "10.0.0.2:4711", "::1:4711": "[::1]:4711",
		"::ffff:10.0.0.2:4711": "10.0.0.2:4711"} {
		if got, err := (session{host: host}).addr(); err != nil || got != netip.MustParseAddrPort(want) {
			t.Errorf("%q: %s, %v, want %s", host, got, err, want)
		}
	}
	for _, host := range []string{"", "localhost", "localhost:4711", "10.0.0.2", "10.0.0.2:x", "10.0.0.2:70000"} {
		if got, err := (session{host: host}).addr(); err == nil {
			t.Errorf("%q: %s", host, got)
		}
	}
}
