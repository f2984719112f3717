package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/install"
	"holdfast/testbed/need"
)

// TestPairSetupOfTwo takes two hosts with fence devices to a pair without a third voter by one
// command, makes the node again that was lost, and takes the pair apart: first in the middle of
// its set-up, then as a whole. Each node has its database as one of its own then.
func TestPairSetupOfTwo(t *testing.T) {
	need.Drill(t, "P3: a pair without a third voter is made by one command, mended, and taken apart in the middle and as a whole")
	b := newPairNodes(t, 2)
	args := append(b.setupArgs(t), "--yes", "CONFIRM")
	files := b.files(t, "h1", b.pairCluster())
	before := b.tree(t, "h1")
	login := args[:slices.Index(args, "pair")]
	killed := func(args []string, until, pattern string) {
		t.Helper()
		ctx, cancel := waiting(t)
		defer cancel()
		if err := b.killedWhen(ctx, t, "h1", args, until, pattern); err == nil {
			t.Error("it was killed and ended well")
		}
	}
	for _, until := range []string{"h2: files", "the copy of all data"} {
		killed(args, until, "[p]air setup")
		for _, until := range []string{"the agents end", "files"} {
			killed(slices.Concat([]string{"uninstall", "--yes-i-really-really-mean-it"}, login), until, "[h]oldfast uninstall")
		}
		b.uninstall(t, "h1", login...)
		if left := b.tree(t, "h1"); left != before {
			t.Errorf("left of the set-up that was killed at %q:\n%s\nbefore:\n%s", until, left, before)
		}
	}
	b.single(t, "h1", "SELECT 7", "7")
	out, err := b.setup(t, args...)
	if err != nil || !strings.Contains(out, "webip  : ["+b.lab.FloatingAddr().String()+"] Started h1") {
		t.Fatalf("the set-up: %v: %s", err, out)
	}
	t.Log(out)
	b.exe = install.Command
	b.pairHealthy(t) // over both paths
	for _, h := range b.lab.Hosts() {
		if got := strings.Join(strings.Fields(b.sh(t, h, "cat "+install.ClusterFile)), ""); !strings.Contains(got,
			`"SecondPath":["`+strings.ReplaceAll(b.secondPath(), ",", `","`)+`"]`) {
			t.Errorf("the second path is not in the configuration of %s: %s", h, got)
		}
	}
	b.sql(t, "h1", "CREATE DATABASE app; CREATE TABLE app.log (id INT PRIMARY KEY); INSERT INTO app.log VALUES (7)")
	out = b.command(t, "h1", "pair", "switch")
	if !strings.Contains(out, "h2 serves in place of h1 after ") {
		t.Errorf("the switch said %s", out)
	}
	b.pairHealthy(t)
	b.recovered(t)
	b.uninstall(t, "h2", files...)
	for _, h := range b.lab.Hosts() {
		if left := b.pairLeft(t, h); left != "" {
			t.Errorf("%s: left are %s", h, left)
		}
		b.single(t, h, "SELECT id FROM app.log", "7")
	}
}

// single starts the database of a host as a distribution's unit does, asks it, and ends it: it
// replicates from nobody, lets write, and has no accounts of a pair.
func (b *bareRig) single(t *testing.T, h, ask, want string) {
	t.Helper()
	b.sh(t, h, "setsid mariadbd --no-defaults --user=mysql --skip-networking --datadir="+pairBase+"/mysql --socket="+
		pairSocket+" </dev/null >/srv/host/single.log 2>&1 &")
	b.until(t, "the database of "+h+" alone", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, h, "mariadb", "--socket="+pairSocket, "-e", "SELECT 1")
		return fmt.Sprint(out, err), err == nil
	})
	if got := b.sql(t, h, ask); got != want {
		t.Errorf("%s: %s gives %q, want %q", h, ask, got, want)
	}
	if got := b.sql(t, h, "SHOW SLAVE STATUS; SELECT user FROM mysql.user WHERE user LIKE 'holdfast%'; SELECT "+
		"'read-only' WHERE @@read_only"); got != "" {
		t.Errorf("%s: left of the pair is %s", h, got)
	}
	b.sh(t, h, "mariadb-admin --socket="+pairSocket+" shutdown; while [ -e "+pairSocket+" ]; do sleep 0.1; done")
}

// sql asks the database of a host as root.
func (b *bareRig) sql(t *testing.T, h, statement string) string {
	t.Helper()
	return strings.TrimSpace(b.sh(t, h, "mariadb --socket="+pairSocket+` -N -e "`+statement+`"`))
}
