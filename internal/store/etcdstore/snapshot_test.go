package etcdstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

func TestSnapshot(t *testing.T) {
	c := startCluster(t)
	a := c.admin(t)
	cl := c.open(t, c.prefix())
	dir := filepath.Join(t.TempDir(), "made")
	if file, err := a.Snapshot(try.Context(t), dir, 2); !errors.Is(err, store.ErrRetry) || len(list(t, dir)) > 0 {
		t.Errorf("of a store without records, which nobody could restore: %s, %v; left: %v", file, err, list(t, dir))
	}
	var files []string
	for i := range 4 {
		rev := insist(t, cl, fmt.Sprint("k", i), needle)
		file, err := a.Snapshot(try.Context(t), dir, 2)
		if err != nil {
			c.fail(t, "%v", err)
		}
		info, err := Verify(file)
		if err != nil || info.Revision < rev || info.Keys < i+1 ||
			!slices.Equal(info.Clusters, []string{c.members[0].conf.Cluster}) || len(info.Hash) != 64 {
			t.Errorf("%+v, %v", info, err)
		}
		if name := filepath.Base(file); !strings.HasPrefix(name, "holdfast-"+c.members[0].conf.Cluster+"-2") ||
			!strings.HasSuffix(name, fmt.Sprintf("-r%d.snapshot", info.Revision)) {
			t.Errorf("name %s", name)
		}
		files = append(files, file)
	}
	// What is not ours is not touched.
	for _, name := range []string{"holdfast-other-20060102T150405.000000000Z-r1.snapshot", ".part-holdfast-other-1", "notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := list(t, dir)
	if len(left) != 5 || !slices.Contains(left, filepath.Base(files[2])) || !slices.Contains(left, filepath.Base(files[3])) {
		t.Errorf("left: %v of %v", left, files)
	}
	t.Run("crashed", func(t *testing.T) { sweeps(t, a, dir) })
	t.Run("full disk", func(t *testing.T) { c.fullDisk(t, files[3]) })
	t.Run("damaged", func(t *testing.T) { damagedSnapshots(t, files[3]) })
	if _, err := a.Snapshot(try.Context(t), dir, 0); err == nil {
		t.Error("kept none")
	}
	if _, err := a.Snapshot(try.Context(t), "/proc/none", 1); err == nil {
		t.Error("saved into /proc")
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// sweeps: what a crash left goes, when it is old.
func sweeps(t *testing.T, a *Admin, dir string) {
	old, young := filepath.Join(dir, a.partPrefix()+"1"), filepath.Join(dir, a.partPrefix()+"2")
	for _, f := range []string{old, young} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Snapshot(try.Context(t), dir, 2); err != nil {
		t.Fatal(err)
	}
	if left := list(t, dir); slices.Contains(left, filepath.Base(old)) || !slices.Contains(left, filepath.Base(young)) {
		t.Errorf("left: %v", left)
	}
}

// fullDisk takes two snapshots into a file system with room for one. A process
// with mounts of its own does it, see diskMain.
func (c *cluster) fullDisk(t *testing.T, like string) {
	info, err := os.Stat(like)
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.members[0].command(t)
	cmd.Args = []string{cmd.Args[0], "full-disk", c.members[0].file, t.TempDir(), fmt.Sprint(info.Size() * 3 / 2)}
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("no mounts here: %v", err)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// diskMain is the process of fullDisk. Its mount ends with it.
func diskMain(file, dir, size string) int {
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := fillDisk(file, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func fillDisk(file, dir string) (err error) {
	c, err := LoadMember(file)
	if err != nil {
		return err
	}
	_, client, err := pki.Load(c.TLS.CA, c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return err
	}
	a, err := OpenAdmin(Options{Endpoints: []string{c.ClientURL}, TLS: client, Prefix: root + c.Cluster + "/", Log: discard()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	ctx := context.Background()
	first, err := a.Snapshot(ctx, dir, 1)
	if err != nil {
		return err
	}
	if _, err = a.Snapshot(ctx, dir, 1); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("on a full disk: %w", cmp.Or(err, errors.New("no error")))
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(left) != 1 || left[0].Name() != filepath.Base(first) {
		return fmt.Errorf("left on a full disk: %v", left)
	}
	_, err = Verify(first)
	return err
}

// damagedSnapshots: no bit may be wrong, none missing.
func damagedSnapshots(t *testing.T, whole string) {
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		out := slices.Clone(b)
		out[at] ^= 4
		return out
	}
	for name, data := range map[string][]byte{
		"one bit of the data":  flip(len(b) / 2),
		"one bit of the hash":  flip(len(b) - 1),
		"cut off":              b[:len(b)/2],
		"cut off at a page":    b[:len(b)-32-4096],
		"without its hash":     b[:len(b)-32],
		"without its last bit": b[:len(b)-1],
		"empty":                nil,
		"only a hash":          b[:32],
	} {
		file := filepath.Join(t.TempDir(), "damaged")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, err := Verify(file); !errors.Is(err, ErrBadSnapshot) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if _, err := Verify(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

func TestParseSnapshotName(t *testing.T) {
	good := "holdfast-a-cluster-20261120T101112.000000013Z-r77.snapshot"
	at, rev, err := ParseSnapshotName(good)
	if want := time.Date(2026, 11, 20, 10, 11, 12, 13, time.UTC); err != nil || rev != 77 || !at.Equal(want) {
		t.Errorf("%s, %d, %v", at, rev, err)
	}
	for _, bad := range []string{
		"", "notes", good[1:], strings.TrimSuffix(good, snapshotExt), strings.Replace(good, "T", "x", 1),
		strings.Replace(good, "-r77", "-77", 1), strings.Replace(good, "r77", "rx", 1), "holdfast-20261120T101112.000000013Z-r77.snapshot",
	} {
		if _, _, err := ParseSnapshotName(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
