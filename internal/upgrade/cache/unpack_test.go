package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/try"
)

func TestUnpackAndFind(t *testing.T) {
	data := native(t, 100_000, bundle.Zstd, nil)
	d, sha := with(t, data)
	ctx := context.Background()
	if _, err := d.Find(sha); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found before it was unpacked: %v", err)
	}
	var last, total int64
	s, err := d.unpack(ctx, sha, 0, func(done, all int64) { last, total = done, all })
	try.Must(t, err)
	if s.Dir != filepath.Join(d.Dir, sha) || s.Manifest.Name != "app" || len(s.Bundle.Files) != 3 || s.Bundle.Dir != s.Dir {
		t.Errorf("%+v", s)
	}
	if last != total || total != 2*int64(len(data)) {
		t.Errorf("told %d of %d", last, total)
	}
	for name := range s.Bundle.Files {
		if _, err := s.Bundle.Verify(ctx, name); err != nil {
			t.Error(err)
		}
	}
	if f := s.Bundle.Files["bin/db.sh"]; f.Mode != 0o755 || f.Size != 20 {
		t.Errorf("bin/db.sh: %+v", f)
	}
	// Found again, by this process and by the next one, without the file.
	again, err := d.Unpack(ctx, sha, 1<<62)
	if err != nil || again.Dir != s.Dir {
		t.Errorf("unpacked again: %v", err)
	}
	try.Must(t, os.Remove(d.path(sha, fileSuffix)))
	d = at(d.Dir)
	found, err := d.Find(sha)
	if err != nil || found.Dir != s.Dir || found.Manifest.Version != "2.0.0.B120" || len(found.Bundle.Files) != 3 {
		t.Errorf("found %+v, %v", found, err)
	}
	if m, err := d.Manifest(ctx, sha); err != nil || m.Name != "app" {
		t.Errorf("manifest: %v", err)
	}
	try.Must(t, os.RemoveAll(s.Dir))
	if _, err := d.Find(sha); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found what is gone: %v", err)
	}
	if _, err := d.Manifest(ctx, sha); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("manifest of what is gone: %v", err)
	}
}

func TestWhatIsNotWholeIsUnpackedAnew(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	for name, spoil := range map[string]func(dir string) error{
		"file gone":         func(dir string) error { return os.Remove(filepath.Join(dir, "data/empty")) },
		"directory gone":    func(dir string) error { return os.RemoveAll(filepath.Join(dir, "data")) },
		"file short":        func(dir string) error { return os.Truncate(filepath.Join(dir, "data/blob"), 999) },
		"manifest gone":     func(dir string) error { return os.Remove(filepath.Join(dir, manifest.FileManifest)) },
		"manifest cut":      func(dir string) error { return os.Truncate(filepath.Join(dir, manifest.FileManifest), 100) },
		"manifest empty":    func(dir string) error { return os.Truncate(filepath.Join(dir, manifest.FileManifest), 0) },
		"a link instead":    func(dir string) error { return swap(filepath.Join(dir, "data/blob"), "/etc/passwd") },
		"a link that leads": func(dir string) error { return swap(filepath.Join(dir, "data"), "/") },
		"no directory":      func(dir string) error { return swap(dir, "/") },
	} {
		t.Run(name, func(t *testing.T) {
			d, sha := with(t, data)
			s, err := d.Unpack(context.Background(), sha, 0)
			try.Must(t, err)
			try.Must(t, spoil(s.Dir))
			if _, err := at(d.Dir).Find(sha); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("found: %v", err)
			}
			s, err = d.Unpack(context.Background(), sha, 0)
			try.Must(t, err)
			for name := range s.Bundle.Files {
				if _, err := s.Bundle.Verify(context.Background(), name); err != nil {
					t.Error(err)
				}
			}
			holds(t, d, sha, "SHA", "SHA.hfb", "SHA.json")
		})
	}
}

// swap puts a link in the place of what is there.
func swap(path, to string) error {
	return errors.Join(os.RemoveAll(path), os.Symlink(to, path))
}

func TestUnpackOfADamagedFile(t *testing.T) {
	data := native(t, 100_000, bundle.None, nil)
	d, sha := with(t, data)
	flipped := bytes.Clone(data)
	flipped[len(data)/2] ^= 1
	try.Must(t, os.WriteFile(d.path(sha, fileSuffix), flipped, 0o600))
	if _, err := d.Unpack(context.Background(), sha, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("a bit: %v", err)
	}
	holds(t, d, sha)
	if _, err := d.Unpack(context.Background(), sha, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("then: %v", err)
	}
	try.Must(t, d.Fetch(context.Background(), sha, from(data), nil))
	try.Must(t, os.Truncate(d.path(sha, fileSuffix), 100))
	if have, err := d.Have(); len(have) > 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("it has %q, %v", have, err)
	}
	if _, _, err := d.Open(sha, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut: %v", err)
	}
	try.Must(t, d.Fetch(context.Background(), sha, from(data), nil))
	has(t, d, sha, data)
}

func TestUnpackDemandsSpace(t *testing.T) {
	d, sha := with(t, native(t, 1000, bundle.None, nil))
	var free int64
	d.free = func(string) (int64, error) { return free, nil }
	for _, c := range []struct {
		free, min int64
		ok        bool
	}{{1<<30 - 1, 0, false}, {3<<30 - 1, 3 << 30, false}, {3 << 30, 3 << 30, true}, {1 << 30, 0, true}} {
		free = c.free
		_, err := d.Unpack(context.Background(), sha, c.min)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, bundle.ErrNoSpace) {
			t.Errorf("%+v: %v", c, err)
		}
		try.Must(t, os.RemoveAll(d.path(sha, "")))
	}
}

func TestUnpackWaitsForAnother(t *testing.T) {
	d, sha := with(t, native(t, 1000, bundle.None, nil))
	f, err := os.Open(d.Dir)
	try.Must(t, err)
	defer f.Close()
	try.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Unpack(ctx, sha, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is locked: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := d.Unpack(context.Background(), sha, 0)
		done <- err
	}()
	try.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_UN))
	try.Must(t, <-done)
}

func TestUnpackIsCancelled(t *testing.T) {
	data := native(t, 300_000, bundle.None, nil)
	d, sha := with(t, data)
	for _, after := range []int64{1, int64(len(data)) + 100_000} { // while it is compared, while it is unpacked
		why := errors.New("no longer wanted")
		ctx, cancel := context.WithCancelCause(context.Background())
		_, err := d.unpack(ctx, sha, 0, func(done, _ int64) {
			if done >= after {
				cancel(why)
			}
		})
		if !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		holds(t, d, sha, "SHA.hfb", "SHA.json")
	}
}

func TestManifestWithoutUnpacking(t *testing.T) {
	for name, data := range map[string][]byte{"native": native(t, 1000, bundle.Gzip, nil), "script": script(t)} {
		d, sha := with(t, data)
		d = at(d.Dir)
		m, err := d.Manifest(context.Background(), sha)
		try.Must(t, err)
		if again, err := d.Manifest(context.Background(), sha); err != nil || again != m {
			t.Errorf("%s: it is not kept: %v", name, err)
		}
		holds(t, d, sha, "SHA.hfb", "SHA.json")
		try.Must(t, os.Remove(d.path(sha, fileSuffix))) // by hand
		if _, err := d.Manifest(context.Background(), sha); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: after its file was removed: %v", name, err)
		}
	}
}

func TestRemove(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	d, sha := with(t, data)
	other, _, err := d.Put(context.Background(), bytes.NewReader(native(t, 2000, bundle.None, nil)), unsigned)
	try.Must(t, err)
	_, err = d.Unpack(context.Background(), sha, 0)
	try.Must(t, err)
	r, _, err := d.Open(sha, 0)
	try.Must(t, err)
	defer r.Close()
	for range 2 {
		try.Must(t, d.Remove(sha))
		holds(t, d, other.SHA256, "SHA.hfb", "SHA.json")
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("who reads reads on: %d bytes, %v", len(got), err)
	}
	if _, err := d.Find(sha); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found: %v", err)
	}
	try.Must(t, fresh(t).Remove(sha))
	// Not while it is worked on.
	release, err := d.hold(context.Background(), other.SHA256)
	try.Must(t, err)
	if err := d.Remove(other.SHA256); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Unpack(ctx, other.SHA256, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	release()
	try.Must(t, d.Remove(other.SHA256))
	holds(t, d, "")
}
