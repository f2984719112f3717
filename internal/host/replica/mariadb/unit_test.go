package mariadb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

// TestGuarantee: one thing that is not as it has to be, and the sample is not safe.
func TestGuarantee(t *testing.T) {
	good := counts{
		server: "1", run: "r", replica: "2", replicas: 1, enabled: true, status: true, noSlave: true, point: "AFTER_SYNC", timeout: forever,
		clients: 1, noTx: "3", noTimes: "1", dump: "12", relay: "e",
	}
	if g := good.guarantee(&good); !g.Safe || g.Why != "" || g.Primary != "1" || g.Replica != "2" || g.Run != "r" || g.Relay != "e" {
		t.Fatalf("%+v: want it safe", g)
	}
	if g := good.guarantee(nil); g.Safe {
		t.Error("safe without a proof")
	}
	whys := map[string]bool{}
	for what, change := range map[string]func(*counts){
		"off":           func(c *counts) { c.enabled = false },
		"status":        func(c *counts) { c.status = false },
		"wait_no_slave": func(c *counts) { c.noSlave = false },
		"point":         func(c *counts) { c.point = "AFTER_COMMIT" },
		"timeout":       func(c *counts) { c.timeout = 10 * time.Second },
		"no client":     func(c *counts) { c.clients = 0 },
		"two clients":   func(c *counts) { c.clients = 2 },
		"run":           func(c *counts) { c.run = "s" },
		"replica":       func(c *counts) { c.replica = "4" },
		"no_tx":         func(c *counts) { c.noTx = "4" },
	} {
		c := good
		change(&c)
		g := c.guarantee(&good)
		if g.Safe || g.Why == "" || whys[g.Why] {
			t.Errorf("%s: %+v: want it unsafe, with a reason of its own", what, g)
		}
		whys[g.Why] = true
	}
	for what, change := range map[string]func(*counts){
		"no_times":       func(c *counts) { c.noTimes = "0" },
		"no replica":     func(c *counts) { c.replicas = 0 },
		"connected anew": func(c *counts) { c.dump = "13" },
		"no dump":        func(c *counts) { c.dump = "" },
		"two replicas":   func(c *counts) { c.replicas = 2 },
		"server":         func(c *counts) { c.server = "9" },
	} {
		c := good
		change(&c)
		if g := c.guarantee(&good); g.Safe {
			t.Errorf("%s: %+v: want it unsafe", what, g)
		}
	}
	// A proof that was broken once does not come back.
	d := &Driver{}
	d.prove(&good)
	bad := good
	bad.noTx = "4"
	if !d.judge(good).Safe || d.judge(bad).Safe || d.judge(good).Safe {
		t.Error("a proof outlives a commit without an acknowledgement")
	}
	// A replica that is away breaks none: the primary waits.
	d.prove(&good)
	away := good
	away.clients, away.replicas, away.dump = 0, 0, ""
	if d.judge(away).Safe || !d.judge(good).Safe {
		t.Error("a replica that was not seen for a moment broke the proof")
	}
	anew := good
	anew.dump = "13"
	if d.judge(anew).Safe || d.judge(good).Safe {
		t.Error("the proof outlives the replica's connection")
	}
}

func TestGTIDs(t *testing.T) {
	for list, n := range map[string]int{"": 0, "0-1-5": 1, "0-1-5,0-2-6, 4294967295-4294967295-18446744073709551615": 3, "0-1-5,\n1-1-1": 2} {
		got, err := parse(list)
		if err != nil || len(got) != n {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"0-1", "0-1-2-3", "a-1-2", "0-1--2", "4294967296-1-1", "0-1-18446744073709551616", "5"} {
		if got, err := parse(list); err == nil || !strings.Contains(err.Error(), "want DOMAIN-SERVER-NUMBER") {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for _, c := range []struct{ mine, peer, errant, common string }{
		{"0-1-5", "0-1-5", "", "0-1-5"},
		{"0-1-5", "0-1-9,0-2-10", "", "0-1-5"},
		{"0-1-6", "0-1-5,0-2-6", "0-1-6", "0-1-5"},
		// The other server was the primary before: what is common ends with its last one.
		{"0-1-8,0-2-6", "0-1-4,0-2-9", "0-1-8", "0-2-6"},
		{"0-1-6,1-1-3", "0-1-6", "1-1-3", "0-1-6,1-0-0"},
		{"0-1-6,1-1-3", "0-1-5,1-1-3", "0-1-6", "0-1-5,1-1-3"},
		{"0-3-1", "", "0-3-1", "0-0-0"},
	} {
		mine, err := parse(c.mine)
		try.Must(t, err)
		peer, err := parse(c.peer)
		try.Must(t, err)
		if got := gtids(replica.Errant(mine, peer)); got != c.errant {
			t.Errorf("%s beside %s: errant %q, want %q", c.mine, c.peer, got, c.errant)
		}
		if got := gtids(common(mine, peer)); got != c.common {
			t.Errorf("%s beside %s: common %q, want %q", c.mine, c.peer, got, c.common)
		}
	}
	for _, c := range []struct{ position, peer, want string }{
		{"0-2-400", "0-1-300,0-2-450", "0-1-300,0-2-400"},
		{"0-2-400", "0-1-500,0-2-400", "0-2-400"}, // server 1 came later
		{"0-1-7,3-1-2", "0-1-9,3-2-1,5-1-1", "0-1-7,3-2-1,3-1-2"},
		{"", "0-1-1", ""},
	} {
		position, err := parse(c.position)
		try.Must(t, err)
		peer, err := parse(c.peer)
		try.Must(t, err)
		if got := gtids(stateAt(position, peer)); got != c.want {
			t.Errorf("at %s of %s: %q, want %q", c.position, c.peer, got, c.want)
		}
	}
	at := func(list string) []replica.Transaction {
		all, err := parse(list)
		try.Must(t, err)
		return all
	}
	for _, c := range []struct {
		position, other string
		want            bool
	}{{"", "", true}, {"0-1-5", "", true}, {"", "0-1-5", false}, {"0-2-6", "0-1-5", true}, {"0-1-5", "0-2-6", false},
		{"0-1-5,1-1-1", "1-1-1", true}, {"0-1-5", "1-1-1", false}} {
		if got := replica.Covers(at(c.position), at(c.other)); got != c.want {
			t.Errorf("%q covers %q: %v", c.position, c.other, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0-1-5,0-2-6")
	f.Add("4294967296-1-1")
	f.Fuzz(func(t *testing.T, list string) {
		all, err := parse(list)
		if err != nil {
			return
		}
		again, err := parse(gtids(all))
		if err != nil || gtids(again) != gtids(all) {
			t.Errorf("%q: %v, and again %v, %v", list, all, again, err)
		}
	})
}

func TestNewRefusesWhatIsWrong(t *testing.T) {
	good := Config{ServerID: 1, Socket: "/s", Datadir: "/d", Admin: Account{User: "a"}, Replication: Account{User: "r", PasswordFile: "/p"}}
	d, err := New(good, &Command{})
	try.Must(t, err)
	d.Close()
	for want, change := range map[string]func(*Config){
		"server ID 0":               func(c *Config) { c.ServerID = 0 },
		`socket "s"`:                func(c *Config) { c.Socket = "s" },
		`data directory "d"`:        func(c *Config) { c.Datadir = "d" },
		`data directory "/"`:        func(c *Config) { c.Datadir = "/" },
		`accounts "" and "r"`:       func(c *Config) { c.Admin.User = "" },
		`accounts "a\nb"`:           func(c *Config) { c.Admin.User = "a\nb" },
		`account "r": want a file`:  func(c *Config) { c.Replication.PasswordFile = "" },
		`account "r": want another`: func(c *Config) { c.Admin.User = "r" },
		"limit -1ns":                func(c *Config) { c.Limit = -1 },
	} {
		c := good
		change(&c)
		var e *fail.Error
		if _, err := New(c, &Command{}); !errors.As(err, &e) || e.Kind != fail.Invalid || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestCommand(t *testing.T) {
	ctx := try.Context(t)
	log := filepath.Join(t.TempDir(), "log")
	c := &Command{Path: "/bin/sh", Args: []string{"-c", `echo "$0 $1"; kill -STOP $$`, "x"}, Datadir: t.TempDir(), Log: log, Tied: true}
	if _, err := c.Process(ctx); !errors.Is(err, proc.ErrGone) {
		t.Fatalf("before its start: %v", err)
	}
	try.Must(t, c.Kill9(ctx)) // none
	try.Must(t, c.Start(ctx, []string{"more"}))
	id, err := c.Process(ctx)
	try.Must(t, err)
	p, err := proc.Here.Read(id.PID)
	if err != nil || p.Session != id.PID {
		t.Errorf("%+v, %v: want a session of its own", p, err)
	}
	try.Until(t, "its output", func() bool { b, err := os.ReadFile(log); return err == nil && string(b) == "x more\n" })
	if err := c.Start(ctx, nil); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second start: %v", err)
	}
	later := &Command{Path: c.Path, Datadir: c.Datadir} // of a program that was started anew
	if found, err := later.Process(ctx); err != nil || found != id {
		t.Errorf("found anew: %+v, %v: want %+v", found, err, id)
	}
	beside := &Command{Path: c.Path, Datadir: t.TempDir()}
	if found, err := beside.Process(ctx); !errors.Is(err, proc.ErrGone) {
		t.Errorf("that of another data directory: %+v, %v", found, err)
	}
	try.Must(t, c.Kill9(ctx))
	if alive, err := proc.Here.Alive(id); err != nil || alive {
		t.Errorf("after it was killed: %v, %v", alive, err)
	}
	if _, err := c.Process(ctx); !errors.Is(err, proc.ErrGone) {
		t.Errorf("after it was killed: %v", err)
	}
	try.Must(t, c.Start(ctx, nil)) // again
	if other, err := c.Process(ctx); err != nil || other == id {
		t.Errorf("the second one: %+v, %v", other, err)
	}
	// Before, it may still be a shell that has a child, which is one, too.
	try.Until(t, "its output", func() bool { b, err := os.ReadFile(log); return err == nil && string(b) == "x more\nx \n" })
	try.Must(t, c.Kill9(ctx))
	if err := (&Command{Path: "/nonexistent"}).Start(ctx, nil); err == nil {
		t.Error("a program that is not there was started")
	}
	if err := (&Command{Path: "/bin/true", User: "no-such-account"}).Start(ctx, nil); err == nil ||
		!strings.Contains(err.Error(), "no-such-account") {
		t.Errorf("as an account that is not there: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Start(done, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}

// TestPasswordsAreKeptFromOthers: those of the option file are read by the real programs in
// the other tests; here it is that nobody else reads them.
func TestPasswordsAreKeptFromOthers(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	try.Must(t, os.WriteFile(secret, []byte(adminPassword), 0o600))
	d := &Driver{cfg: Config{Admin: Account{User: `a "b`, PasswordFile: secret}}}
	path := filepath.Join(dir, "cnf")
	try.Must(t, d.options(path))
	info, err := os.Stat(path)
	body, rerr := os.ReadFile(path)
	if err != nil || rerr != nil || info.Mode().Perm() != 0o600 || !strings.Contains(string(body), `user="a \"b"`) {
		t.Errorf("%v, %v, %v: %s", info.Mode(), err, rerr, body)
	}
	try.Must(t, os.Chmod(secret, 0o640))
	if err := d.options(path); err == nil || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), adminPassword) {
		t.Errorf("a password that others may read: %v", err)
	}
}
