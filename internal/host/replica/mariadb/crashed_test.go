package mariadb

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/proc"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// refusal is what a server says that has transactions that are only prepared, and no log of them.
const refusal = "prepared transactions! It means that server was not shut down properly"

// said is how often the server has said something in its log.
func (n *node) said(what string) int {
	n.t.Helper()
	log, err := os.ReadFile(n.cmd.Log)
	try.Must(n.t, err)
	return bytes.Count(log, []byte(what))
}

// cutShort ends the server in an orderly way, and kills it when it has closed its binary log.
func (n *node) cutShort() {
	n.t.Helper()
	path, _, err := lastLog(n.logIndex(), n.datadir)
	try.Must(n.t, err)
	log, err := os.Open(path)
	try.Must(n.t, err)
	id := n.id()
	try.Must(n.t, proc.Here.Signal(id, unix.SIGTERM))
	for flags := []byte{flagInUse}; flags[0]&flagInUse != 0; {
		_, err := log.ReadAt(flags, int64(flagsAt))
		try.Must(n.t, err)
	}
	try.Must(n.t, n.cmd.Kill9(context.Background()))
	try.Must(n.t, log.Close())
}

// TestAnEndThatIsCutShort: a primary whose orderly end is cut short behind its binary log starts
// again with all that was acknowledged, as a primary, and, when the other one was promoted, as a
// replica.
func TestAnEndThatIsCutShort(t *testing.T) {
	need.Drill(t, "P3: a primary whose orderly end is cut short behind its binary log starts again with all that was "+
		"acknowledged", need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	ctx := try.Context(t)
	a, b := pair(t)
	join(t, a, b)
	var l ledger
	for role, goesOn := range map[string]func(replica.Claim){
		"primary": func(replica.Claim) {
			try.Must(t, a.Promote(ctx, replica.Claim{License: replica.Guarantee{Safe: true, Primary: a.node()}}))
			join(t, a, b)
		},
		"replica": func(c replica.Claim) {
			try.Must(t, b.Promote(ctx, c))
			try.Must(t, a.Resync(ctx, b.source(filepath.Join(t.TempDir(), "save.sql"))))
			a, b = b, a
			if g, err := a.Together(ctx, b.state()); err != nil || !g.Safe {
				t.Fatalf("together: %+v, %v", g, err)
			}
		},
	} {
		before, tries := a.said(refusal)+b.said(refusal), 0
		for ; tries < 20 && a.said(refusal)+b.said(refusal) == before; tries++ {
			was, c := l.size(), license(t, a)
			stop := l.write(a, 4)
			try.Until(t, "rows", func() bool { return l.size() > was+20 })
			a.cutShort()
			stop()
			goesOn(c)
			for _, n := range []*node{a, b} {
				try.Until(t, "all acknowledged rows on server "+n.node(), func() bool { return len(l.missing(n)) == 0 })
			}
		}
		if tries == 20 {
			t.Errorf("in 20 ends that were cut short the server never refused to start as a %s: the test shows nothing", role)
		}
		t.Logf("%s: refused at the end %d", role, tries)
	}
}

// TestMarkCrashed: the flag of the last log, and nothing else, is changed, once.
func TestMarkCrashed(t *testing.T) {
	dir := t.TempDir()
	index := filepath.Join(dir, "bin.index")
	if marked, err := markCrashed(index, dir); marked || err != nil {
		t.Fatalf("without an index: %v, %v", marked, err)
	}
	write := func(name string, text []byte) {
		try.Must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	log := append([]byte(logMagic), make([]byte, 300)...)
	log[typeAt], log[flagsAt] = formatType, 4
	write("bin.index", []byte("./bin.000001\n./bin.000002\n"))
	write("bin.000001", log)
	if _, err := markCrashed(index, dir); err == nil {
		t.Fatal("a log that is not there was marked")
	}
	write("bin.000002", log)
	for i, want := range []bool{true, false} {
		if marked, err := markCrashed(index, dir); marked != want || err != nil {
			t.Fatalf("call %d: %v, %v: want %v", i+1, marked, err, want)
		}
	}
	first, err := os.ReadFile(filepath.Join(dir, "bin.000001"))
	try.Must(t, err)
	last, err := os.ReadFile(filepath.Join(dir, "bin.000002"))
	try.Must(t, err)
	if !bytes.Equal(first, log) || last[flagsAt] != 5 {
		t.Errorf("flags %x: want 05, and the first log as it was", last[flagsAt])
	}
	if last[flagsAt] = 4; !bytes.Equal(last, log) {
		t.Error("more than the flag was changed")
	}
	write("bin.000002", []byte("something that is no log of a database"))
	if marked, err := markCrashed(index, dir); marked || err == nil {
		t.Errorf("what is no log: %v, %v: want an error", marked, err)
	}
	write("bin.000002", nil) // it was just made when the host ended
	if marked, err := markCrashed(index, dir); marked || err != nil {
		t.Errorf("an empty log: %v, %v", marked, err)
	}
}

// TestLogIndex reads what a real server says of its settings.
func TestLogIndex(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	own := aligntest.NewOwn(t, try.ShortDir(t), nil)
	for want, args := range map[string][]string{
		"/x/a.index": {"--log-bin=/x/a.b"}, "bin.index": {"--log-bin=bin"}, "": {"--skip-log-bin"},
		"/x/i": {"--log-bin=bin", "--log-bin-index=/x/i"},
	} {
		out, err := exec.Command(own.Program, append(append([]string{"--defaults-file=" + own.Options}, args...),
			"--verbose", "--help")...).Output()
		try.Must(t, err)
		if got := logIndex(out); got != want {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
}
