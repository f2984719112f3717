package files_test

import (
	"context"
	"encoding/json"
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

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/files"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func request(t *testing.T, id string, o files.Options) backup.Request {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return backup.Request{ID: id, Host: "h1", Dir: filepath.Join(t.TempDir(), "backups"), Options: b}
}

// sparse is the size of a file that is nearly all hole.
const sparse = 24 << 20

// plant makes a directory with one of everything.
func plant(t *testing.T, root string) {
	t.Helper()
	long := strings.Repeat("long-", 40)
	try.Must(t, os.MkdirAll(filepath.Join(root, "sub", long), 0o750))
	put := func(name, content string, mode uint32) string {
		path := filepath.Join(root, name)
		try.Must(t, os.WriteFile(path, []byte(content), 0o600))
		try.Must(t, unix.Chmod(path, mode))
		return path
	}
	put("empty", "", 0o640)
	put("sub/"+long+"/"+long, "deep", 0o444)
	put("sub/ünï 数据 \t'\"\\", "odd name", 0o600)
	put("tool", "#!/bin/sh\n", 0o4755)
	a := put("a", strings.Repeat("content ", 100000), 0o644)
	try.Must(t, os.Link(a, filepath.Join(root, "sub", "b")))
	try.Must(t, os.Symlink("../a", filepath.Join(root, "sub", "rel")))
	try.Must(t, os.Symlink("/nowhere/at all", filepath.Join(root, "dangling")))
	try.Must(t, unix.Mkfifo(filepath.Join(root, "pipe"), 0o620))
	for name, at := range map[string][]int64{"holes": {0, 8 << 20, 16<<20 + 100}, "tail": {1 << 20}, "hollow": nil} {
		f, err := os.Create(filepath.Join(root, name))
		try.Must(t, err)
		try.Must(t, f.Truncate(sparse))
		for _, o := range at {
			_, err = f.WriteAt([]byte("data at "+name), o)
			try.Must(t, err)
		}
		try.Must(t, f.Close())
	}
	for path, value := range map[string]string{"a": "binary \x00\n=", "holes": "on a file with holes", "sub": "on a directory"} {
		try.Must(t, unix.Lsetxattr(filepath.Join(root, path), "user.holdfast", []byte(value), 0))
	}
	if os.Getuid() == 0 {
		try.Must(t, unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		try.Must(t, os.Lchown(filepath.Join(root, "sub", "rel"), 1234, 5678))
		try.Must(t, os.Chown(filepath.Join(root, "tool"), 12, 34))
		try.Must(t, unix.Chmod(filepath.Join(root, "tool"), 0o4755))
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for _, p := range []string{"a", "holes", "sub"} {
		try.Must(t, os.Chtimes(filepath.Join(root, p), old, old))
	}
	try.Must(t, unix.Chmod(root, 0o2751))
}

// picture is everything about a tree that must come back, one line for each file.
func picture(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	inodes := map[uint64]string{}
	try.Must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(root, path) // both are absolute
		fmt.Fprintf(&out, "%q %o %d:%d %d dev %d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Nano(), st.Rdev)
		if info.Mode().IsRegular() {
			sum, size, err := backup.HashFile(t.Context(), path)
			if err != nil {
				return err
			}
			if _, ok := inodes[st.Ino]; !ok {
				inodes[st.Ino] = rel
			}
			fmt.Fprintf(&out, " %d %s same as %q", size, sum, inodes[st.Ino])
		}
		if info.Mode().Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %q", target)
		}
		b := make([]byte, 100)
		if n, err := unix.Lgetxattr(path, "user.holdfast", b); err == nil {
			fmt.Fprintf(&out, " %q", b[:n])
		}
		out.WriteString("\n")
		return nil
	}))
	return out.String()
}

func taken(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	try.Must(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestRoundTrip(t *testing.T) {
	need.Seconds(t)
	dir := t.TempDir()
	root, single, gone := filepath.Join(dir, "app"), filepath.Join(dir, "app.conf"), filepath.Join(dir, "later.conf")
	try.Must(t, os.Mkdir(root, 0o755))
	plant(t, root)
	try.Must(t, os.WriteFile(single, []byte("old"), 0o640))
	before := picture(t, dir)
	p, ctx := files.Provider{}, try.Context(t)
	q := request(t, "app-1", files.Options{Paths: []string{root, single, gone}, Missing: true})
	expect(t, p, q, backup.NotDone)
	rec, err := p.Backup(ctx, q)
	try.Must(t, err)
	expect(t, p, q, backup.Done)
	try.Must(t, p.Verify(ctx, rec))
	if rec.Size > 1<<20 {
		t.Errorf("%d bytes: holes take room", rec.Size)
	}
	again, err := p.Backup(ctx, q)
	if err != nil || again.SHA256 != rec.SHA256 {
		t.Errorf("the second call gives another backup: %v", err)
	}
	for range 2 {
		try.Must(t, os.RemoveAll(filepath.Join(root, "sub")))
		try.Must(t, os.WriteFile(filepath.Join(root, "a"), []byte("changed"), 0o600))
		try.Must(t, os.WriteFile(filepath.Join(root, "more"), nil, 0o600))
		try.Must(t, os.RemoveAll(single))
		try.Must(t, os.MkdirAll(gone, 0o700))
		try.Must(t, p.Restore(ctx, rec))
		after := picture(t, dir)
		if got := without(after, ".before"); got != withoutTop(before) {
			t.Errorf("after:\n%s\nbefore:\n%s", got, withoutTop(before))
		}
		for _, f := range []string{"holes", "tail", "hollow"} {
			if n := taken(t, filepath.Join(root, f)); n > 1<<20 {
				t.Errorf("%s takes %d bytes on disk", f, n)
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, ".app.app-1.before", "a")); err != nil || string(b) != "changed" {
		t.Errorf("what was there is not kept: %q, %v", b, err)
	}
	for range 2 {
		try.Must(t, p.Delete(ctx, rec))
	}
	expect(t, p, q, backup.NotDone)
	if got := withoutTop(picture(t, dir)); got != withoutTop(before) {
		t.Errorf("after the deletion:\n%s", got)
	}
	nothing(t, q.Dir)
}

// without leaves lines out that have a word, and the line of the tree itself.
func without(lines, word string) string {
	var out []string
	for l := range strings.Lines(lines) {
		if !strings.Contains(l, word) && !strings.HasPrefix(l, `"." `) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

func withoutTop(lines string) string { return without(lines, "\x00") }

func nothing(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	try.Must(t, err)
	for _, e := range left {
		t.Errorf("left in %s: %s", dir, e.Name())
	}
}

func expect(t *testing.T, p backup.Provider, q backup.Request, want backup.State) {
	t.Helper()
	if got, err := p.Probe(t.Context(), q); err != nil || got != want {
		t.Errorf("probe: got %q, %v, want %q", got, err, want)
	}
}

// TestTar unpacks the archive with the tar of the system, as somebody would who has
// nothing else.
func TestTar(t *testing.T) {
	need.Real(t, need.Programs("tar", "tar"), need.Programs("zstd", "zstd"))
	root := filepath.Join(t.TempDir(), "app")
	try.Must(t, os.Mkdir(root, 0o755))
	plant(t, root)
	q := request(t, "tar", files.Options{Paths: []string{root}})
	rec, err := files.Provider{}.Backup(try.Context(t), q)
	try.Must(t, err)
	to := t.TempDir()
	out, err := exec.Command("tar", "--zstd", "--xattrs", "--xattrs-include=*", "-xpf", rec.Where, "-C", to).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if got, want := picture(t, to+root), picture(t, root); got != want {
		t.Errorf("tar made:\n%s\nwant:\n%s", got, want)
	}
	if n := taken(t, to+root+"/holes"); n > 1<<20 {
		t.Errorf("holes takes %d bytes on disk", n)
	}
}

func TestDamaged(t *testing.T) {
	root := filepath.Join(t.TempDir(), "app")
	try.Must(t, os.MkdirAll(root+"/sub", 0o755))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(i * i >> (i % 13))
	}
	for _, f := range []string{"a", "sub/b", "z"} {
		try.Must(t, os.WriteFile(filepath.Join(root, f), noise, 0o644))
	}
	p, ctx := files.Provider{}, try.Context(t)
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, q backup.Request)
	}{
		{"a bit of the archive", func(t *testing.T, q backup.Request) { flip(t, q.Path(".tar.zst"), 0.5) }},
		{"the end of the archive", func(t *testing.T, q backup.Request) { flip(t, q.Path(".tar.zst"), 0.9999) }},
		{"more at the end", func(t *testing.T, q backup.Request) {
			f, err := os.OpenFile(q.Path(".tar.zst"), os.O_APPEND|os.O_WRONLY, 0)
			try.Must(t, err)
			_, err = f.WriteString("x")
			try.Must(t, errors.Join(err, f.Close()))
		}},
		{"cut off", func(t *testing.T, q backup.Request) { try.Must(t, os.Truncate(q.Path(".tar.zst"), 1000)) }},
		{"gone", func(t *testing.T, q backup.Request) { try.Must(t, os.Remove(q.Path(".tar.zst"))) }},
		{"the list", func(t *testing.T, q backup.Request) { flip(t, q.Path(".list"), 0.5) }},
		{"no list", func(t *testing.T, q backup.Request) { try.Must(t, os.Remove(q.Path(".list"))) }},
		{"another receipt", func(t *testing.T, q backup.Request) {
			r, err := backup.Load(q)
			try.Must(t, err)
			r.Size++
			try.Must(t, backup.Save(r))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := request(t, "broken", files.Options{Paths: []string{root}})
			rec, err := p.Backup(ctx, q)
			try.Must(t, err)
			tc.spoil(t, q)
			before := picture(t, filepath.Dir(root))
			if err := p.Verify(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("verify: %v", err)
			}
			if err := p.Restore(ctx, rec); !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("restore: %v", err)
			}
			if got := picture(t, filepath.Dir(root)); got != before {
				t.Errorf("the restore has changed something:\n%s", got)
			}
		})
	}
}

func flip(t *testing.T, path string, where float64) {
	t.Helper()
	b, err := os.ReadFile(path)
	try.Must(t, err)
	b[int(float64(len(b))*where)] ^= 1
	try.Must(t, os.WriteFile(path, b, 0o600))
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	try.Must(t, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1000), 0o600))
	for _, tc := range []struct {
		o    files.Options
		want string
	}{
		{files.Options{}, "at least one"},
		{files.Options{Paths: []string{"etc"}}, "absolute"},
		{files.Options{Paths: []string{"/"}}, "not /"},
		{files.Options{Paths: []string{dir + "/../x"}}, "without . and .."},
		{files.Options{Paths: []string{dir, dir + "/f"}}, "one is in the other"},
		{files.Options{Paths: []string{dir + "/none"}}, "does not exist"},
		{files.Options{Paths: []string{dir}, MaxEntries: 1}, "more than 1 files"},
		{files.Options{Paths: []string{dir}, MaxBytes: 999}, "more than 999 bytes"},
		{files.Options{Paths: []string{"/proc"}}, "mount point"},
	} {
		q := request(t, "no", tc.o)
		if _, err := (files.Provider{}).Backup(try.Context(t), q); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.o, err, tc.want)
		}
		if left, err := os.ReadDir(q.Dir); err == nil && len(left) > 0 {
			t.Errorf("%+v: left %v", tc.o, left)
		}
	}
	in := request(t, "in", files.Options{Paths: []string{dir}})
	in.Dir = dir + "/b"
	if _, err := (files.Provider{}).Backup(try.Context(t), in); err == nil || !strings.Contains(err.Error(), "would be in it") {
		t.Errorf("a backup in what is backed up: %v", err)
	}
	in.Options = json.RawMessage(`{"paths":["/etc/hostname"],"path":1}`)
	if _, err := (files.Provider{}).Backup(try.Context(t), in); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("an unknown option: %v", err)
	}
}

// TestChanging backs up a file that another goroutine writes to all the time.
func TestChanging(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	try.Must(t, os.WriteFile(path, make([]byte, 32<<20), 0o600))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				stopped <- f.Close()
				return
			default:
			}
			if err = f.Truncate(int64(16<<20 + i%2*16<<20)); err == nil {
				_, err = f.WriteAt([]byte{byte(i)}, 0)
			}
		}
		stopped <- err
	}()
	defer func() {
		close(stop)
		try.Must(t, <-stopped)
	}()
	p, ctx := files.Provider{}, try.Context(t)
	// On a busy machine the other goroutine may not have its turn while a backup reads the file.
	attempts := 0
	try.Until(t, "a change while the file was read", func() bool {
		attempts++
		strict := request(t, fmt.Sprint("strict", attempts), files.Options{Paths: []string{dir}})
		_, err := p.Backup(ctx, strict)
		if err != nil {
			if !strings.Contains(err.Error(), "changed while it was read") {
				t.Fatal(err)
			}
			expect(t, p, strict, backup.NotDone)
		}
		return err != nil
	})
	try.Until(t, "a change that is noted", func() bool {
		attempts++
		rec, err := p.Backup(ctx, request(t, fmt.Sprint("lax", attempts), files.Options{Paths: []string{dir}, Changing: true}))
		try.Must(t, err)
		try.Must(t, p.Verify(ctx, rec))
		return slices.ContainsFunc(rec.Notes, func(n string) bool { return strings.Contains(n, path) })
	})
}

func TestEnds(t *testing.T) {
	root := filepath.Join(t.TempDir(), "app")
	try.Must(t, os.Mkdir(root, 0o755))
	plant(t, root)
	q := request(t, "ends", files.Options{Paths: []string{root}})
	p := files.Provider{}
	over, cancel := context.WithCancelCause(try.Context(t))
	why := errors.New("the run was aborted")
	cancel(why)
	if _, err := p.Backup(over, q); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	expect(t, p, q, backup.NotDone)
	// What a process leaves that was killed in the middle.
	try.Must(t, os.MkdirAll(q.Dir, 0o700))
	try.Must(t, os.WriteFile(q.Path(".tar.zst.part"), []byte("half"), 0o600))
	expect(t, p, q, backup.Partial)
	rec, err := p.Backup(try.Context(t), q)
	try.Must(t, err)
	expect(t, p, q, backup.Done)
	if err := p.Restore(over, rec); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	try.Must(t, os.Remove(q.File()))
	expect(t, p, q, backup.Partial)
	try.Must(t, p.Verify(try.Context(t), rec)) // the journal has the receipt
}

// TestMountInside runs itself in a mount namespace of its own.
func TestMountInside(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_TEST_MOUNT"); dir != "" {
		_, err := files.Provider{}.Backup(try.Context(t), request(t, "m", files.Options{Paths: []string{dir}}))
		if err == nil || !strings.Contains(err.Error(), "something else is mounted") {
			t.Errorf("got %v", err)
		}
		return
	}
	need.Real(t, need.Root, need.Programs("util-linux", "unshare", "mount"))
	dir := t.TempDir()
	try.Must(t, os.Mkdir(dir+"/m", 0o700))
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs none "$1/m" && exec "$0" -test.run '^TestMountInside$'`, os.Args[0], dir)
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_MOUNT="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
