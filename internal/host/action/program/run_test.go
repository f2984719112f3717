package program

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
)

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		script    string
		state     State
		exit      int
		out, why  string
		leftovers int
	}{
		"ok":             {"echo out; echo err >&2; echo arg $#", Done, 0, "out\nerr\narg 0\n", "", 0},
		"exit 3":         {"echo bad; exit 3", Failed, 3, "bad\n", "exit code 3", 0},
		"signal":         {"kill -SEGV $$", Failed, 139, "", "signal 11", 0},
		"stdin is empty": {"read x || echo end", Done, 0, "end\n", "", 0},
		"closes outputs": {"echo a; exec >&- 2>&-; sleep 0.1; exit 4", Failed, 4, "a\n", "exit code 4", 0},
		"binary":         {`printf 'a\0\377\033[1mb'`, Done, 0, "a\x00\xff\x1b[1mb", "", 0},
		"session":        {`read -r -a s < /proc/$$/stat; [ ${s[0]} = ${s[5]} ] && echo leader`, Done, 0, "leader\n", "", 0},
		"environment":    {`env | grep -v -e ^_= -e ^SHLVL -e ^PWD | cut -d= -f1 | sort | tr '\n' ' '`, Done, 0, "HOLDFAST_STEP PATH T ", "", 0},
		"open files":     {"exec ls /proc/self/fd", Done, 0, "0\n1\n2\n3\n", "", 0}, // 3 is of ls itself
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.script)
			res, out := r.run()
			if res.State != c.state || res.Exit != c.exit || out != c.out || !strings.Contains(res.Why, c.why) ||
				(res.Why == "") != (c.why == "") || len(res.Leftovers) != c.leftovers {
				t.Errorf("got %+v, output %q", res, out)
			}
			if kept := r.file("state/" + fileExit); strings.Contains(kept, `"state":"exited"`) == (name == "signal") {
				t.Errorf("an earlier version reads %s", kept)
			}
			if again := r.probe(); again.State != c.state || again.Exit != c.exit || res.Ended.Before(res.Began) {
				t.Errorf("probed %+v", again)
			}
			if err := r.h.Start(r.ctx(), r.dir, r.spec); !errors.Is(err, ErrBegun) {
				t.Errorf("a second start: %v", err)
			}
		})
	}
}

func TestNotStarted(t *testing.T) {
	r := newRig(t, "")
	r.spec.Argv = []string{filepath.Join(r.tmp, "none")}
	if res, _ := r.run(); res.State != Failed || res.Exit != -1 || !strings.Contains(res.Why, "no such file") {
		t.Errorf("got %+v", res)
	}
}

func TestTheProgramIsVerifiedJustBeforeItBegins(t *testing.T) {
	for name, change := range map[string]func(f *File, path string) error{
		"":           func(*File, string) error { return nil },
		"its hash":   func(f *File, _ string) error { f.SHA256 = strings.Repeat("0", 64); return nil },
		"want a fil": func(f *File, _ string) error { f.Size++; return nil },
		"open prog": func(_ *File, path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path))
		},
	} {
		r := newRig(t, "echo ran")
		sum := sha256.Sum256([]byte(r.file("script.sh")))
		f := &File{Path: r.spec.Argv[0], Size: int64(len(r.file("script.sh"))), SHA256: hex.EncodeToString(sum[:])}
		if err := change(f, f.Path); err != nil {
			t.Fatal(err)
		}
		r.spec.Verify = f
		res, out := r.run()
		if res.OK() != (name == "") || !strings.Contains(res.Why, name) || (out == "ran\n") != (name == "") {
			t.Errorf("%q: got %+v, output %q", name, res, out)
		}
	}
}

func TestMuchOutputIsCut(t *testing.T) {
	r := newRig(t, "head -c 3000000 /dev/zero; echo end; exit 5")
	r.spec.MaxOutput = 1 << 20
	res, out := r.run()
	if res.Exit != 5 || res.Discarded != 3000004-1<<20 || int64(len(out)) != res.Output || len(out) > 1<<20+100 ||
		!strings.HasSuffix(out, "the rest is discarded]\n") {
		t.Errorf("got %+v, %d bytes", res, len(out))
	}
}

func TestDeadline(t *testing.T) {
	for name, script := range map[string]string{
		"obedient":        "sleep 5000",
		"deaf":            "trap '' TERM; while true; do sleep 1; done",
		"deaf grandchild": `(trap '' TERM; echo $BASHPID > $T/pid; setsid sleep 5001 & while true; do sleep 1; done) & sleep 5000`,
		"stopped":         "kill -STOP $$",
		"forks":           "f() { sleep 0.05; [ $1 -lt 8 ] || exec sleep 5000; f $(($1+1)) & f $(($1+1)) & wait; }; f 0", // up to 256 at a time
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "echo begun; "+script)
			r.spec.Timeout = 400 * time.Millisecond
			res, out := r.run()
			if res.State != Failed || res.Exit == 0 || !strings.HasPrefix(res.Why, "it did not end within 400ms") ||
				!strings.HasPrefix(out, "begun") {
				t.Errorf("got %+v, output %q", res, out)
			}
			m, err := mark(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			if left, err := marked(m); err != nil || len(left) > 1 { // the helper itself may be about to end
				t.Errorf("still run: %s, %v", names(left), err)
			}
		})
	}
}

// A daemon that is forked into the background does not hang the step.
func TestLeftovers(t *testing.T) {
	// It waits for whoever holds the output, for a moment, and for nobody else: these sleep for longer than a test may take.
	for name, c := range map[string]struct {
		script  string
		killAll bool
		holds   bool
		dies    bool
	}{
		"closed":               {"setsid sleep 5000 >&- 2>&- <&- & echo $! > $T/pid", false, false, false},
		"holds":                {"setsid sleep 5001 & echo $! > $T/pid", false, true, false},
		"holds, failed":        {"setsid sleep 5002 & echo $! > $T/pid; exit 1", false, true, true},
		"closed, failed":       {"setsid sleep 5003 >&- 2>&- & echo $! > $T/pid; exit 1", false, false, false},
		"closed, to be killed": {"setsid sleep 5004 >&- 2>&- & echo $! > $T/pid", true, false, true},
		"twice forked":         {"(setsid sleep 5005 & echo $! > $T/pid) & wait", false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.script)
			r.spec.KillLeftovers = c.killAll
			began := time.Now()
			res, _ := r.run()
			if took := time.Since(began); c.holds && took < closeWait {
				t.Errorf("took %s", took)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(r.file("pid")))
			if err != nil {
				t.Fatal(err)
			}
			if res.OK() == strings.Contains(name, "failed") || len(res.Leftovers) != 1 || res.Leftovers[0].PID != pid ||
				res.Leftovers[0].Holds != c.holds || res.Leftovers[0].Killed != c.dies {
				t.Errorf("got %+v, want process %d", res, pid)
			}
			if alive(pid) == c.dies {
				t.Errorf("alive: %v", alive(pid))
			}
			var b attemptState
			if _, err := readJSON(r.dir, fileBegun, &b); err != nil {
				t.Fatal(err)
			}
			r.await("the control group's end", func() bool {
				members, err := cgroupMembers(b.Cgroup)
				return err == nil && len(members) == 0
			})
		})
	}
}

// What is left alone and writes on later is not killed by that.
func TestALeftoverMayGoOnWriting(t *testing.T) {
	need.Seconds(t)
	r := newRig(t, "(for i in 1 2 3 4 5 6; do sleep 0.5; head -c 100000 /dev/zero; echo line || exit; done; touch $T/all) & exit 0")
	res, _ := r.run()
	if !res.OK() || len(res.Leftovers) == 0 {
		t.Fatalf("got %+v", res)
	}
	r.await("the leftover to write all", func() bool { _, err := os.Stat(filepath.Join(r.tmp, "all")); return err == nil })
}

func TestStop(t *testing.T) {
	r := newRig(t, "echo begun; setsid sleep 60 & sleep 61")
	r.start()
	r.await("output", func() bool { return r.file("state/output") == "begun\n" })
	res, err := Stop(r.ctx(), r.dir)
	if err != nil || res.State != Failed || !strings.HasPrefix(res.Why, "it was stopped") {
		t.Errorf("got %+v, %v", res, err)
	}
	if again, err := Stop(r.ctx(), r.dir); err != nil || again.Why != res.Why {
		t.Errorf("again: %+v, %v", again, err)
	}
	if res, out := r.attach(); res.State != Failed || out != "begun\n" {
		t.Errorf("attached %+v, output %q", res, out)
	}
}

func TestTheCallerMayLeave(t *testing.T) {
	r := newRig(t, "until [ -e $T/go ]; do sleep 0.02; done; echo done")
	r.start()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Attach(ctx, r.dir, io.Discard, 0); !errors.Is(err, ErrLeft) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if res := r.probe(); res.State != Running {
		t.Errorf("got %+v", res)
	}
	r.touch("go")
	if res, out := r.attach(); !res.OK() || out != "done\n" {
		t.Errorf("got %+v, output %q", res, out)
	}
}

func TestAttachGoesOnFromAnOffset(t *testing.T) {
	r := newRig(t, "echo 123456789")
	r.run()
	var out strings.Builder
	if _, err := Attach(r.ctx(), r.dir, &out, 5); err != nil || out.String() != "6789\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestBadSpecs(t *testing.T) {
	good := newRig(t, "").spec
	for name, change := range map[string]func(*Spec){
		"relative program": func(s *Spec) { s.Argv = []string{"sh"} },
		"nothing to run":   func(s *Spec) { s.Argv = nil },
		"null byte":        func(s *Spec) { s.Argv = []string{"/bin/sh", "a\x00b"} },
		"no timeout":       func(s *Spec) { s.Timeout = 0 },
		"relative dir":     func(s *Spec) { s.Dir = "x" },
		"credentials":      func(s *Spec) { s.Credentials = "x" },
	} {
		h, err := helper()
		if err != nil {
			t.Fatal(err)
		}
		s, dir := good, filepath.Join(t.TempDir(), "state")
		change(&s)
		if err := h.Start(t.Context(), dir, s); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the state directory was made: %v", name, err)
		}
	}
}

func TestWithoutAControlGroupTheTreeIsFoundByParentage(t *testing.T) {
	r := newRig(t, "setsid bash -c 'setsid sleep 60 & sleep 61' & echo $$ > $T/pid; sleep 62")
	r.start()
	r.await("four processes", func() bool {
		ps, err := descendants(unix.Getpid(), "")
		if err != nil {
			t.Fatal(err)
		}
		m, err := mark(r.dir)
		if err != nil {
			t.Fatal(err)
		}
		all, err := marked(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if below, err := descendants(p.PID, ""); err == nil && len(below) == 5 && len(ps) == 0 {
				return true // this one is the helper
			}
		}
		return false
	})
	if _, err := Stop(r.ctx(), r.dir); err != nil {
		t.Error(err)
	}
}

func TestExitRecordFitsInItsRoom(t *testing.T) {
	dir := t.TempDir()
	if err := reserveExit(dir); err != nil {
		t.Fatal(err)
	}
	r := Result{State: exited, Exit: 7}
	for i := range 5000 {
		r.Leftovers = append(r.Leftovers, Process{PID: i, Name: fmt.Sprint(i)})
	}
	if err := writeExit(dir, r); err != nil {
		t.Fatal(err)
	}
	got, err := Probe(dir)
	if err != nil || got.Exit != 7 || !strings.Contains(got.Why, "left out") {
		t.Errorf("got %+v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, fileExit)); err != nil || info.Size() != exitRoom {
		t.Errorf("%v, %v", info, err)
	}
}
