package filetree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "part" {
		if err := part(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// part does one thing with a swap and dies at a stage.
func part(what, stage, exchange, swap string) error {
	var s Swap
	if err := json.Unmarshal([]byte(swap), &s); err != nil {
		return err
	}
	s.noExchange = exchange == "false"
	s.hook = func(at string) {
		if at == stage {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	return do(&s, what)
}

func do(s *Swap, what string) error {
	switch what {
	case "install":
		return s.Install(context.Background())
	case "rollback":
		return s.Rollback()
	case "commit":
		return s.Commit()
	}
	return fmt.Errorf("no %s", what)
}

// newSwap makes an old tree and a new one.
func newSwap(t *testing.T) *Swap {
	t.Helper()
	root := t.TempDir()
	s := &Swap{Source: filepath.Join(root, "bundle"), Target: filepath.Join(root, "opt", "app"),
		Backup: filepath.Join(root, "backup", "run"), Files: map[string]File{}}
	write(t, filepath.Join(s.Target, "data/old"), "old", 0o640)
	write(t, filepath.Join(s.Target, "version"), "1", 0o600)
	write(t, filepath.Join(s.Source, "version"), "2", 0o644)
	write(t, filepath.Join(s.Source, "bin/tool"), "#!/bin/sh\n", 0o755)
	for _, f := range []string{"version", "bin/tool"} {
		data, err := os.ReadFile(filepath.Join(s.Source, f))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		s.Files[f] = File{int64(len(data)), hex.EncodeToString(sum[:])}
	}
	if err := os.Symlink("version", filepath.Join(s.Source, "current")); err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// content lists a tree: every entry with its mode and text.
func content(t *testing.T, root string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			text, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var b []byte
			b, err = os.ReadFile(path)
			text = string(b)
		}
		out = append(out, fmt.Sprintf("%s %v %q", strings.TrimPrefix(path, root), info.Mode(), text))
		return err
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, "\n")
}

func mustBeClean(t *testing.T, s *Swap) {
	t.Helper()
	if got, err := filepath.Glob(filepath.Join(filepath.Dir(s.Target), ".holdfast-*")); err != nil || len(got) > 0 {
		t.Errorf("left beside the target: %v, %v", got, err)
	}
}

func TestSwapRollBackAndCommit(t *testing.T) {
	for _, noExchange := range []bool{false, true} {
		t.Run(fmt.Sprint(noExchange), func(t *testing.T) {
			s := newSwap(t)
			s.noExchange = noExchange
			old := content(t, s.Target)
			if _, err := s.Probe(); !errors.Is(err, ErrNothing) {
				t.Errorf("probe before: %v", err)
			}
			if err := s.Rollback(); !errors.Is(err, ErrNothing) {
				t.Errorf("rollback before: %v", err)
			}
			for range 2 {
				if err := s.Install(t.Context()); err != nil {
					t.Fatal(err)
				}
				want := "" +
					` drwxr-x--- ""` + "\n/bin drwxr-x--- \"\"\n/bin/tool -rwxr-xr-x \"#!/bin/sh\\n\"\n/current " +
					"Lrwxrwxrwx \"version\"\n/version -rw-r--r-- \"2\""
				if got := content(t, s.Target); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				if place, err := s.Probe(); place != New || err != nil {
					t.Errorf("probe: %s, %v", place, err)
				}
			}
			for range 2 {
				if err := s.Rollback(); err != nil {
					t.Fatal(err)
				}
				if got := content(t, s.Target); got != old {
					t.Errorf("got\n%s", got)
				}
				if place, err := s.Probe(); place != Old || err != nil {
					t.Errorf("probe: %s, %v", place, err)
				}
				mustBeClean(t, s)
			}
			if err := s.Commit(); err == nil {
				t.Error("committed what was rolled back")
			}
			if err := s.Install(t.Context()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.Commit(); err != nil {
					t.Fatal(err)
				}
				mustBeClean(t, s)
			}
			if err := s.Rollback(); !errors.Is(err, ErrCommitted) {
				t.Errorf("rollback after the commit: %v", err)
			}
		})
	}
}

func TestNoOldTree(t *testing.T) {
	s := newSwap(t)
	if err := os.RemoveAll(s.Target); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if place, err := s.Probe(); place != New || err != nil {
		t.Errorf("probe: %s, %v", place, err)
	}
	if err := s.Rollback(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.Target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}
	mustBeClean(t, s)
}

// kill runs one thing in a process of its own that dies at a stage; it reports
// whether it came there.
func kill(t *testing.T, s *Swap, what, stage string) bool {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "part", what, stage, fmt.Sprint(!s.noExchange), string(data))
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%s until %s: %v: %s", what, stage, err, out)
	}
	return true
}

// After a kill at any stage, the old tree or the new one is at the target; the
// gap of the two renames is closed by the next look. From there everything can
// be finished and everything can be rolled back.
func TestKilledAtEveryStage(t *testing.T) {
	came := map[string]bool{}
	for at, c := range []struct{ what, stage string }{
		{"install", "staging"}, {"install", "copied"}, {"install", "staged"}, {"install", "gap"}, {"install", "swapped"}, {"install", "settled"},
		{"rollback", "rolling back"}, {"rollback", "gap"}, {"rollback", "put back"}, {"rollback", "discarded"},
		{"commit", "committed"},
	} {
		for _, noExchange := range []bool{false, true} {
			for i, then := range []string{"install", "rollback", "commit"} {
				if testing.Short() && i != at%3 {
					continue
				}
				name := fmt.Sprintf("%s %s, exchange %v, then %s", c.what, c.stage, !noExchange, then)
				s := newSwap(t)
				s.noExchange = noExchange
				old := content(t, s.Target)
				if c.what != "install" {
					if err := s.Install(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if !kill(t, s, c.what, c.stage) {
					if c.stage != "gap" || noExchange {
						t.Errorf("%s: did not come there", name)
					}
					continue
				}
				came[c.what+c.stage] = true
				place, err := s.Probe()
				if err != nil {
					t.Errorf("%s: probe: %v", name, err)
					continue
				}
				got := content(t, s.Target)
				if isOld := got == old; isOld != (place == Old) || !isOld && !strings.Contains(got, `"2"`) {
					t.Errorf("%s: probe says %s, got\n%s", name, place, got)
				}
				err = do(s, then)
				wantErr := c.what == "commit" && then != "commit" ||
					then == "commit" && (c.what == "rollback" || place == Old) ||
					then == "install" && c.what == "rollback" // finish it first
				if (err != nil) != wantErr {
					t.Errorf("%s: %v", name, err)
				}
				if err != nil {
					continue
				}
				got = content(t, s.Target)
				if (got == old) != (then == "rollback") {
					t.Errorf("%s: got\n%s", name, got)
				}
				if then != "install" {
					mustBeClean(t, s)
				}
			}
		}
	}
	if len(came) != 11 {
		t.Errorf("only these stages were seen: %v", came)
	}
}

func TestOwnersModesAttributesAndTimes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := newSwap(t)
	s.Files = nil
	attr := func(path, name, value string) error { return unix.Lsetxattr(path, name, []byte(value), 0) }
	if err := errors.Join(
		os.Chown(s.Target, 1001, 1002), os.Chown(filepath.Join(s.Target, "version"), 1003, 1004),
		os.Chown(filepath.Join(s.Source, "bin/tool"), 0, 0),
		attr(filepath.Join(s.Source, "bin/tool"), "user.note", "kept"),
		attr(filepath.Join(s.Source, "bin"), "user.dir", "kept too"),
		os.Chtimes(filepath.Join(s.Source, "version"), time.Unix(1e9, 0), time.Unix(1e9, 0)),
	); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]uint32{"": {1001, 1002}, "version": {1003, 1004}, "bin": {1001, 1002},
		"bin/tool": {1001, 1002}, "current": {1001, 1002}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(s.Target, path), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%q belongs to %d:%d, %v, want %v", path, st.Uid, st.Gid, err, want)
		}
	}
	for path, want := range map[string]string{"bin/tool": "user.note=kept", "bin": "user.dir=kept too"} {
		name, value, _ := strings.Cut(want, "=")
		got := make([]byte, 100)
		if n, err := unix.Lgetxattr(filepath.Join(s.Target, path), name, got); err != nil || string(got[:n]) != value {
			t.Errorf("%s: %q, %v", path, got[:max(n, 0)], err)
		}
	}
	if info, err := os.Stat(filepath.Join(s.Target, "version")); err != nil || info.ModTime().Unix() != 1e9 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestRefused(t *testing.T) {
	for want, change := range map[string]func(s *Swap) error{
		"version is not what the manifest says": func(s *Swap) error {
			return os.WriteFile(filepath.Join(s.Source,
				"version"), []byte("3"), 0o600)
		},
		"extra is not what the manifest says": func(s *Swap) error { return os.WriteFile(filepath.Join(s.Source, "extra"), nil, 0o600) },
		"1 files, the manifest lists 2":       func(s *Swap) error { return os.Remove(filepath.Join(s.Source, "version")) },
		"neither a file, nor a directory":     func(s *Swap) error { return unix.Mkfifo(filepath.Join(s.Source, "fifo"), 0o600) },
		"want an absolute path":               func(s *Swap) error { s.Target += "/../x"; return nil },
		"no such file or directory":           func(s *Swap) error { s.Target = s.Backup + "/none/target"; return nil },
		"something is mounted at /proc":       func(s *Swap) error { s.Target = "/proc"; return nil },
	} {
		s := newSwap(t)
		target := s.Target
		old := content(t, target)
		if err := change(s); err != nil {
			t.Fatal(err)
		}
		if err := s.Install(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if got := content(t, target); got != old {
			t.Errorf("%s: the target has changed: %s", want, got)
		}
		mustBeClean(t, s)
	}
}

func TestCancelledCopyLeavesNothing(t *testing.T) {
	s := newSwap(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Install(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mustBeClean(t, s)
	if err := s.Rollback(); err != nil {
		t.Error(err)
	}
}

func TestAThirdTreeIsNotTouched(t *testing.T) {
	s := newSwap(t)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(s.Target, s.Target+"x"), os.Mkdir(s.Target, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"install", "rollback", "commit"} {
		if err := do(s, what); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.old(), "data/old")); err != nil {
		t.Errorf("the old tree: %v", err)
	}
}

func TestATreeWithAMountIsRefused(t *testing.T) {
	if at, err := mountinfo.Mounted("/proc"); err != nil || !at {
		t.Skip("no mount to look at")
	}
	if err := noMounts("/proc"); err == nil {
		t.Error("accepted")
	}
}
