package etcdstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestRestore loses all members and makes the cluster anew from a snapshot, on one
// host, to which the others come back.
func TestRestore(t *testing.T) {
	need.Drill(t, "P3: a store is restored from a snapshot, and no revision of before means anything afterwards")
	c := startCluster(t)
	a := c.admin(t)
	cl := c.open(t, c.prefix())
	insist(t, cl, "generation", "1")
	insist(t, cl, "kept", needle)
	file, err := a.Snapshot(try.Context(t), t.TempDir(), 1)
	if err != nil {
		c.fail(t, "%v", err)
	}
	last := insist(t, cl, "kept", "written after the snapshot")

	m := c.members[0]
	o := RestoreOptions{File: file, Config: m.conf, MoveAside: true, OldEndpoints: []string{c.members[1].conf.ClientURL}, Edit: raise}
	if err := Restore(t.Context(), o); !errors.Is(err, ErrStillAlive) {
		t.Errorf("while the old cluster lives: %v", err)
	}
	for _, m := range c.members {
		m.end(t, unix.SIGKILL)
	}
	refused(t, o)
	if err := Restore(try.Context(t), o); err != nil {
		t.Fatal(err)
	}
	aside(t, m.conf.DataDir)
	checkFree(t, m)

	// Without data, the others must not become a cluster beside the new one, though
	// they are a majority of what their configuration says.
	m.start(t)
	c.readBy(t, m, c.prefix(), "generation", "2")
	c.readBy(t, m, c.prefix(), "kept", needle)
	remove(t, c.members[1].conf.DataDir)
	if out, code := c.members[1].runAndFail(t); code != 1 || !strings.Contains(out, ErrLost.Error()) {
		t.Errorf("start of h2 without data: exit %d: %s", code, out)
	}
	for _, other := range c.members[1:] {
		remove(t, other.conf.DataDir)
		j := c.replace(t, a, other)
		if err := SaveJoin(other.conf.DataDir, j); err != nil {
			t.Fatal(err)
		}
		other.start(t)
		c.promote(t, a)
	}
	if rev := insist(t, cl, "after", "x"); rev < last+minBump {
		t.Errorf("revision %d after the restore, %d before", rev, last)
	}
	w := cl.Watch(try.Context(t), "", last)
	for b := range w.C() {
		t.Errorf("a watch from before delivers %+v", b)
	}
	if !errors.Is(w.Err(), store.ErrCompacted) {
		t.Errorf("watch from before: %v", w.Err())
	}
	c.readBy(t, c.members[2], c.prefix(), "generation", "2")
	c.allIn(t)
}

// raise is the edit of the tests.
func raise(ctx context.Context, s store.Store) error {
	kv, ok, err := s.Get(ctx, "generation")
	if err != nil || !ok || string(kv.Value) != "1" {
		return errors.Join(errors.New("generation is not 1"), err)
	}
	_, ok, err = s.Txn(ctx, []store.Cmp{{Key: "generation", Rev: kv.ModRev}}, []store.Op{{Key: "generation", Value: []byte("2")}})
	if !ok {
		return errors.Join(errors.New("not written"), err)
	}
	return err
}

// refused are restores that must not touch the data.
func refused(t *testing.T, good RestoreOptions) {
	dir := good.Config.DataDir
	before := tree(t, filepath.Dir(dir))
	broken := errors.New("edit went wrong")
	for name, tc := range map[string]struct {
		alter func(*RestoreOptions)
		want  error
	}{
		"not empty": {func(o *RestoreOptions) { o.MoveAside = false }, ErrNotEmpty},
		"foreign":   {func(o *RestoreOptions) { o.Config.Cluster = "another" }, ErrForeignSnapshot},
		"truncated": {func(o *RestoreOptions) { o.File = truncated(t, o.File) }, ErrBadSnapshot},
		"edit": {func(o *RestoreOptions) {
			o.Edit = func(context.Context, store.Store) error { return broken }
		}, broken},
		"bad endpoint": {func(o *RestoreOptions) { o.OldEndpoints = []string{"h2"} }, store.ErrDefinite},
	} {
		o := good
		tc.alter(&o)
		err := Restore(t.Context(), o)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if tc.want == ErrForeignSnapshot && !strings.Contains(err.Error(), good.Config.Cluster) {
			t.Errorf("%s does not tell whose it is: %v", name, err)
		}
		if after := tree(t, filepath.Dir(dir)); !slices.Equal(before, after) {
			t.Errorf("%s: files before %v, after %v", name, before, after)
		}
	}
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), good); !errors.Is(err, ErrDataInUse) {
		t.Errorf("in use: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func truncated(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "truncated")
	if err := os.WriteFile(out, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// tree lists all below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// aside looks for the old data.
func aside(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(dir + ".old-*")
	if err != nil || len(found) != 1 || !hasData(found[0]) {
		t.Errorf("old data: %v, %v", found, err)
	}
	if _, err := os.Stat(dir + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s.new: %v", dir, err)
	}
}

// TestRestoreAfterACrash: what restores have left that did not come to their end.
func TestRestoreAfterACrash(t *testing.T) {
	c := single(t)
	m := c.members[0]
	c.run(t)
	insist(t, c.open(t, c.prefix()), "generation", "1")
	file, err := c.admin(t).Snapshot(try.Context(t), t.TempDir(), 1)
	if err != nil {
		c.fail(t, "%v", err)
	}
	conf := newMembers(t, 1, plain)[0].conf // ports that are free
	conf.Cluster, conf.LogLevel = m.conf.Cluster, "error"
	o := RestoreOptions{File: file, Config: conf, Edit: raise}
	fresh := conf.DataDir + ".new"
	// It was still building.
	if err := os.MkdirAll(filepath.Join(fresh, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(filepath.Join(fresh, buildingFile), true); err != nil {
		t.Fatal(err)
	}
	if err := Restore(try.Context(t), o); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(conf.DataDir + ".*"); err != nil || len(left) != 1 { // .json
		t.Errorf("left: %v, %v", left, err)
	}
	if !hasData(conf.DataDir) {
		t.Error("no data")
	}
	// It had just changed places: what is in .new are the old data.
	if err := os.Rename(conf.DataDir, fresh); err != nil {
		t.Fatal(err)
	}
	if err := Restore(try.Context(t), o); err != nil {
		t.Fatal(err)
	}
	aside(t, conf.DataDir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- RunMember(ctx, conf) }()
	restored := &cluster{members: []*member{{conf: conf}}}
	restored.readBy(t, restored.members[0], c.prefix(), "generation", "2")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
