package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
)

// TestAlignmentUnderFollow: an old platform works on while its rows are copied and
// followed by a process that is killed in the copy and while it follows. After the
// cut-over all rows are equal, and Nova's objects read the guests as they were last.
func TestAlignmentUnderFollow(t *testing.T) {
	need.Drill(t, "P5: rows of a platform that works on are copied, followed and cut over, in spite of kills, and are what a real Nova reads")
	needsOpenStack(t)
	cloud := makeCloud(t)
	old := aligntest.MariaDB(t, "--log-bin=bin", "--binlog-format=ROW", "--server-id=1")
	old.Load("liberty-schema.sql", "liberty_", "liberty_")
	rows, err := os.ReadFile("../internal/transition/db/profile/testdata/rows.sql")
	if err != nil {
		t.Fatal(err)
	}
	old.SQL(string(rows) + mended)
	// So many that a copy takes some seconds.
	old.SQL("USE liberty_nova; SET sql_log_bin = 0; INSERT INTO instance_faults (created_at, instance_uuid, code, " +
		"message, details, host, deleted) " +
		"SELECT '2016-03-01', '" + guestWeb + "', 500, CONCAT('fault ', seq), REPEAT('x', 300), 'cmp01', 0 " +
		"FROM seq_1_to_" + fmt.Sprint(manyFaults))
	f := &followed{cloud: cloud, writer: work(t, old), end: time.Now().Add(2 * serviceWithin)}
	f.args = append([]string{theProgram, "transition", "db", "run", "--follow", "--parallel", "1"}, cloud.args(t, old)...)
	f.killedInTheCopy(t)
	f.killedWhileFollowing(t)
	f.cutOver(t)
	verified(t, cloud.args(t, old))
	f.readsTheLast(t)
}

// manyFaults is how many rows take some seconds to copy.
const manyFaults = 400_000

// followed is the alignment of an old platform that works on.
type followed struct {
	cloud  *newCloud
	writer *writer
	args   []string
	end    time.Time // of the test's patience
	runs   int
}

func (f *followed) patient(t *testing.T) {
	t.Helper()
	if time.Now().After(f.end) {
		t.Fatal("this takes longer than four minutes")
	}
	time.Sleep(20 * time.Millisecond)
}

// run starts the command, and waits until it has come so far.
func (f *followed) run(t *testing.T, so func(*service) bool) *service {
	t.Helper()
	for {
		f.runs++
		s := f.cloud.start(t, fmt.Sprint("run-", f.runs), f.args...)
		for !s.hasEnded() {
			if so(s) {
				return s
			}
			f.patient(t)
		}
		// The server may still have the connection of one that was killed.
		if text := s.text(t); !strings.Contains(text, "another run is under way") {
			t.Fatalf("%v: %s", s.cmd.ProcessState, text)
		}
		f.patient(t)
	}
}

func kill(t *testing.T, s *service) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if s.waitEnd(); !s.hasEnded() {
		t.Fatalf("%s does not end after it was killed", s.name)
	}
}

func (f *followed) killedInTheCopy(t *testing.T) {
	s := f.run(t, func(*service) bool {
		return f.cloud.number(t, "SELECT EXISTS (SELECT 1 FROM nova.instance_faults)") == 1
	})
	kill(t, s)
	if n := f.cloud.number(t, "SELECT COUNT(*) FROM nova.instance_faults"); n >= manyFaults {
		t.Errorf("the copy was killed with %d rows in the target: too late", n)
	}
}

// follows starts the command, and waits until a guest that was made after the copy is there.
func (f *followed) follows(t *testing.T) *service {
	t.Helper()
	s := f.run(t, func(s *service) bool { return strings.Contains(s.text(t), "the rows are copied") })
	g := f.writer.made(t)
	for f.cloud.number(t, "SELECT COUNT(*) FROM nova.instances WHERE uuid = '"+g.uuid+"'") == 0 {
		if f.patient(t); s.hasEnded() {
			t.Fatalf("%v: %s", s.cmd.ProcessState, s.text(t))
		}
	}
	return s
}

func (f *followed) killedWhileFollowing(t *testing.T) { kill(t, f.follows(t)) }

// cutOver stops the writers and presses Ctrl-C once.
func (f *followed) cutOver(t *testing.T) {
	s := f.follows(t)
	f.writer.stop()
	if err := <-f.writer.ended; err != nil {
		t.Fatalf("the writer: %v", err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if s.waitEnd(); !s.hasEnded() || s.cmd.ProcessState.ExitCode() != 0 || !strings.Contains(s.text(t), "followed") {
		t.Fatalf("after Ctrl-C: %v: %s", s.cmd.ProcessState, s.text(t))
	}
	again := f.cloud.start(t, "again", f.args...)
	if again.waitEnd(); !again.hasEnded() || again.cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("once more after the cut-over: %v: %s", again.cmd.ProcessState, again.text(t))
	}
}

// readsTheLast: Nova's objects read the guests that were written last as they are.
func (f *followed) readsTheLast(t *testing.T) {
	var asked []*oldGuest
	var uuids []string
	kinds := map[string]int{}
	for _, g := range slices.Backward(f.writer.guests) {
		if kinds[g.kind()]++; kinds[g.kind()] <= 6 {
			asked, uuids = append(asked, g), append(uuids, g.uuid)
		}
	}
	if len(kinds) < 5 || f.writer.ops < 100 {
		t.Fatalf("%d changes, guests %v: the test's writer does too little", f.writer.ops, kinds)
	}
	r := f.cloud.read(t, uuids...)
	for _, g := range asked {
		if i := slices.IndexFunc(r.Faults, func(f string) bool {
			return strings.HasPrefix(f,
				g.uuid+": InstanceMappingNotFound")
		}); g.purged && i >= 0 {
			r.Faults = slices.Delete(r.Faults, i, i+1)
		}
	}
	if len(r.Faults) > 0 {
		t.Errorf("faults %q", r.Faults)
	}
	for _, g := range asked {
		want, got := fmt.Sprintf("%d %q %s, role %q", g.id, g.name, g.kind(), g.role), "none"
		if g.purged {
			want = "none"
		}
		if s := r.Servers[g.uuid]; s != nil {
			got = fmt.Sprintf("%d %q %s, role %q", s.ID, s.Name, s.State, s.Metadata["role"])
			if g.deleted {
				want = fmt.Sprintf("%d %q deleted, role %q", g.id, g.name, s.Metadata["role"])
			}
			if s.DeletedGuest != g.deleted {
				t.Errorf("%s: deleted %v", g.uuid, s.DeletedGuest)
			}
		}
		if got != want {
			t.Errorf("guest %s: got %s\nwant %s", g.uuid, got, want)
		}
	}
	t.Logf("%d changes, guests %v, %d runs", f.writer.ops, kinds, f.runs)
}
