package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// writerVar makes of the test's program a process that writes a file until it is killed.
const writerVar = "HOLDFAST_TEST_DURABLE_WRITES"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVar); path != "" {
		for i := 0; ; i++ {
			if err := WriteFile(path, content(i), 0o600); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// content is one of the texts that the killed process writes: 64 KiB of one letter.
func content(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 64<<10) }

// log notes what is brought to disk, and what of it stood in the directory then.
func (l *log) sync(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	what := "file"
	if info.IsDir() {
		what = fmt.Sprintf("%s %v", filepath.Base(f.Name()), l.names(f.Name()))
	}
	l.said = append(l.said, what)
	if slices.Contains(l.fail, len(l.said)) {
		return syscall.EIO
	}
	return fsync(f)
}

type log struct {
	t    *testing.T
	said []string
	fail []int // which calls fail, from 1 on
}

func (l *log) names(dir string) (all []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

func (l *log) want(said ...string) {
	l.t.Helper()
	if !slices.Equal(l.said, said) {
		l.t.Errorf("brought to disk: %q, want %q", l.said, said)
	}
}

func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func has(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s: %.40q, %v; want %.40q", path, got, err, want)
	}
}

func TestTheFileComesFirstAndThenTheNameThatItGot(t *testing.T) {
	dir, l := folder(t), &log{t: t}
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two"} {
		if err := syncer(l.sync).writeFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		has(t, path, text)
	}
	l.want("file", "d [f]", "file", "d [f]")
}

func TestARenameSyncsBothDirectories(t *testing.T) {
	dir, l := folder(t), &log{t: t}
	if err := syncer(l.sync).makeDir(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncer(l.sync).makeDir(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncer(l.sync).rename(filepath.Join(dir, "a", "b"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	l.want("d [a]", "a [b]", "d [a c]", "a []")
}

func TestTheModeIsTheOneAskedFor(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	path := filepath.Join(folder(t), "f")
	for _, perm := range []fs.FileMode{0o600, 0o644, 0o755, 0o400, 0o666} {
		if err := WriteFile(path, []byte("x"), perm); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != perm {
			t.Errorf("%v, %v: want %v", info.Mode(), err, perm)
		}
	}
	dir := folder(t)
	if err := MakeDirs(filepath.Join(dir, "a", "b"), 0o711); err != nil {
		t.Fatal(err)
	}
	for made, perm := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "a"): 0o711, filepath.Join(dir, "a", "b"): 0o711} {
		if info, err := os.Stat(made); err != nil || info.Mode().Perm() != perm {
			t.Errorf("%s: %v, %v: want %v", made, info.Mode(), err, perm)
		}
	}
}

func TestAFailureLeavesTheOldContentAndNothingElse(t *testing.T) {
	gone := errors.New("gone")
	fill := func(err error) func(*os.File) error {
		return func(f *os.File) error { _, werr := f.WriteString("new"); return errors.Join(err, werr) }
	}
	for name, c := range map[string]struct {
		fail []int
		fill error
		want string // content afterwards
		err  error
	}{
		"the file":      {[]int{1}, nil, "old", syscall.EIO},
		"the content":   {nil, gone, "old", gone},
		"the directory": {[]int{2}, nil, "new", syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			dir, l := folder(t), &log{t: t, fail: c.fail}
			path := filepath.Join(dir, "f")
			if err := WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := syncer(l.sync).write(path, 0o600, fill(c.fill))
			if !errors.Is(err, c.err) || c.fill == nil && !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want %v with the name", err, c.err)
			}
			has(t, path, c.want)
			if got := l.names(dir); !slices.Equal(got, []string{"f"}) {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	dir := folder(t)
	none := filepath.Join(dir, "none", "f")
	for what, err := range map[string]error{
		"no directory": WriteFile(none, nil, 0o600),
		"rename":       Rename(none, filepath.Join(dir, "f")),
		"sync":         SyncDir(filepath.Dir(none)),
	} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Dir(none)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(none, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(none, nil, 0o600); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("a directory of that name: %v", err)
	}
	l := &log{t: t}
	if got := l.names(filepath.Dir(none)); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %v", got)
	}
}

// TestAKilledWriterLeavesAWholeFile kills a process that writes without end, at 40
// moments after its first write.
func TestAKilledWriterLeavesAWholeFile(t *testing.T) {
	need.Seconds(t)
	path := filepath.Join(folder(t), "f")
	if err := WriteFile(path, content(0), 0o600); err != nil {
		t.Fatal(err)
	}
	whole := func() []byte {
		t.Helper()
		got, err := os.ReadFile(path)
		if err != nil || len(got) == 0 || !bytes.Equal(got, content(int(got[0]-'a'))) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		return got
	}
	for i := range 40 {
		before := whole()
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.Stderr = append(os.Environ(), writerVar+"="+path), &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		try.Until(t, fmt.Sprintf("process %d to write", i), func() bool { return !bytes.Equal(whole(), before) })
		time.Sleep(time.Duration(100*i) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); said.Len() > 0 {
			t.Fatalf("%v: %s", err, &said)
		}
		whole()
	}
}

func TestAFullDiskLeavesTheOldContent(t *testing.T) {
	need.Real(t, need.Root) // a small file system of its own
	dir := folder(t)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(path, make([]byte, 2<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ENOSPC with the name", err)
	}
	has(t, path, "old")
	l := &log{t: t}
	if got := l.names(dir); !slices.Equal(got, []string{"f"}) {
		t.Errorf("left behind: %v", got)
	}
	if err := WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}
