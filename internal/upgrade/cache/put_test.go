package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func TestPutSigned(t *testing.T) {
	secret, public, id := keys(t)
	data := native(t, 100_000, bundle.Zstd, &secret)
	d := fresh(t)
	if have, err := d.Have(); err != nil || len(have) > 0 || there(d.Dir) {
		t.Fatalf("a new bundle cache has %q, %v", have, err)
	}
	b, m, err := d.Put(context.Background(), bytes.NewReader(data), bundle.Options{Keys: []bundle.PublicKey{public}})
	try.Must(t, err)
	want := Bundle{
		SHA256: sum(data), Size: int64(len(data)), Name: "app", Version: "2.0.0.B120", Layout: bundle.Native,
		Signed: true, KeyID: id, Comment: "holdfast bundle app 2.0.0.B120", Files: 3, Bytes: 100_000 + 20,
	}
	if b != want || m.Name != "app" {
		t.Errorf("got %+v\nwant %+v", b, want)
	}
	has(t, d, b.SHA256, data)
	holds(t, d, b.SHA256, "SHA.hfb", "SHA.json")
	for path, mode := range map[string]os.FileMode{d.Dir: 0o700 | fs.ModeDir, filepath.Dir(d.Dir): 0o700 | fs.ModeDir,
		d.path(b.SHA256, fileSuffix): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if got, err := d.Get(b.SHA256); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := d.Get(sum(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown one: %v", err)
	}
	// Who puts it in again without keys does not make it unsigned, nor does another
	// process forget it.
	if again, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned); err != nil || again != want {
		t.Errorf("again: %+v, %v", again, err)
	}
	list, err := at(d.Dir).List()
	if err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("listed: %+v, %v", list, err)
	}
}

func TestPutOtherLayoutKeepsItsSignature(t *testing.T) {
	secret, public, id := keys(t)
	data := script(t)
	sig, err := bundle.SignWhole(context.Background(), bytes.NewReader(data), secret)
	try.Must(t, err)
	d := fresh(t)
	b, m, err := d.Put(context.Background(), bytes.NewReader(data), bundle.Options{Keys: []bundle.PublicKey{public}, Signature: sig})
	try.Must(t, err)
	if b.Layout != bundle.CAS || !b.Signed || b.KeyID != id || m.Version != "E0303" {
		t.Errorf("got %+v", b)
	}
	if rec, err := d.complete(b.SHA256); err != nil || !bytes.Equal(rec.Signature, sig) {
		t.Errorf("kept signature: %q, %v", rec.Signature, err)
	}
	s, err := d.Unpack(context.Background(), b.SHA256, 0)
	try.Must(t, err)
	again, err := at(d.Dir).Find(b.SHA256)
	if err != nil || again.Manifest.Version != "E0303" || len(again.Bundle.Files) != 1 || again.Dir != s.Dir {
		t.Errorf("found again: %+v, %v", again, err)
	}
}

func TestPutRefuses(t *testing.T) {
	secret, public, _ := keys(t)
	_, other, _ := keys(t)
	signed, plain := native(t, 5000, bundle.Zstd, &secret), native(t, 5000, bundle.None, nil)
	flipped := bytes.Clone(plain)
	flipped[bytes.Index(flipped, []byte("#!/bin/sh"))] ^= 1
	only := bundle.Options{Keys: []bundle.PublicKey{public}}
	small := unsigned
	small.MaxBytes = 4000
	// A zstd frame of empty blocks, none of which is the last.
	endless := io.MultiReader(bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58}), zeros{})
	for name, c := range map[string]struct {
		r    io.Reader
		o    bundle.Options
		want string
	}{
		"unsigned":      {bytes.NewReader(plain), only, "it is not signed"},
		"wrong key":     {bytes.NewReader(signed), bundle.Options{Keys: []bundle.PublicKey{other}}, "which is none of those given"},
		"nothing given": {bytes.NewReader(signed), bundle.Options{}, "no public key is given"},
		"changed":       {bytes.NewReader(flipped), unsigned, "the hashes differ"},
		"cut":           {bytes.NewReader(signed[:len(signed)-1]), only, "it is truncated"},
		"more":          {io.MultiReader(bytes.NewReader(signed), zeros{}), only, "more data after the end"},
		"empty":         {bytes.NewReader(nil), unsigned, "the file is empty"},
		"other file":    {strings.NewReader(strings.Repeat("no bundle ", 1000)), unsigned, ""},
		"other layout":  {bytes.NewReader(script(t)), only, "it is not signed"},
		"too large":     {bytes.NewReader(plain), small, "its files have more than 4000 bytes"},
		"endless":       {endless, unsigned, "its file has more than 1048576 bytes"},
		"large and huge": {bytes.NewReader(plain), bundle.Options{AllowUnsigned: true, MaxBytes: 1 << 62, MaxFiles: 1},
			"it has more than 1 files"},
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			d.limit = 1 << 20
			_, _, err := d.Put(context.Background(), c.r, c.o)
			var r *bundle.Refusal
			if !errors.As(err, &r) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal: %s", err, c.want)
			}
			holds(t, d, "")
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// broken gives some bytes and then an error.
func broken(data []byte, n int, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(data[:n]), &failing{err})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestPutLeavesNothingWhenItFails(t *testing.T) {
	data := native(t, 100_000, bundle.None, nil)
	gone := errors.New("the client is gone")
	d := fresh(t)
	if _, _, err := d.Put(context.Background(), broken(data, 60_000, gone), unsigned); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := d.Put(ctx, bytes.NewReader(data), unsigned); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	holds(t, d, "")
}

func TestPutWhenTheDiskFails(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	d := fresh(t)
	try.Must(t, os.MkdirAll(filepath.Join(d.path(sum(data), fileSuffix), "in the way"), 0o700))
	if _, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned); err == nil {
		t.Error("put over a directory")
	}
	if list, err := d.List(); len(list) > 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("listed %v, %v", list, err)
	}
	holds(t, d, sum(data), "SHA.hfb", "SHA.json")
}

func TestPutLeavesSpace(t *testing.T) {
	need.Seconds(t)
	data := native(t, 10<<20, bundle.None, nil)
	d := fresh(t)
	var looks int
	d.free = func(string) (int64, error) {
		looks++
		return backup.Reserve + 9<<20 - int64(looks-1)*lookEvery, nil
	}
	_, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned)
	if !errors.Is(err, bundle.ErrNoSpace) || looks < 3 {
		t.Errorf("after %d looks: %v", looks, err)
	}
	holds(t, d, "")
}

// TestFullDisk fills a real file system.
func TestFullDisk(t *testing.T) {
	need.Real(t, need.Root)
	dir := t.TempDir()
	try.Must(t, unix.Mount("none", dir, "tmpfs", 0, "size=72m"))
	t.Cleanup(func() { try.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	d := at(filepath.Join(dir, "bundles"))
	large, small := native(t, 12<<20, bundle.None, nil), native(t, 1<<20, bundle.None, nil)
	_, _, err := d.Put(context.Background(), bytes.NewReader(large), unsigned)
	if !errors.Is(err, bundle.ErrNoSpace) || !strings.Contains(err.Error(), "65 MiB are needed") {
		t.Errorf("put: %v", err)
	}
	err = d.Fetch(context.Background(), sum(large), from(large), nil)
	if !errors.Is(err, bundle.ErrNoSpace) || !strings.Contains(err.Error(), "77 MiB are needed") {
		t.Errorf("fetch: %v", err)
	}
	try.Must(t, d.Remove(sum(large)))
	holds(t, d, "")
	b, _, err := d.Put(context.Background(), bytes.NewReader(small), unsigned)
	try.Must(t, err)
	_, err = d.Unpack(context.Background(), b.SHA256, 0)
	if !errors.Is(err, bundle.ErrNoSpace) || !strings.Contains(err.Error(), "1024 MiB are needed") {
		t.Errorf("unpack: %v", err)
	}
	// No reserve: the file system itself says no.
	try.Must(t, os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 62<<20), 0o600))
	d.free = func(string) (int64, error) { return 1 << 40, nil }
	if _, _, err := d.Put(context.Background(), bytes.NewReader(large), unsigned); !errors.Is(err, bundle.ErrNoSpace) {
		t.Errorf("put without a reserve: %v", err)
	}
	if err := d.Fetch(context.Background(), sum(large), from(large), nil); !errors.Is(err, bundle.ErrNoSpace) {
		t.Errorf("fetch without a reserve: %v", err)
	}
	try.Must(t, d.Remove(sum(large)))
	holds(t, d, b.SHA256, "SHA.hfb", "SHA.json")
	try.Must(t, d.Remove(b.SHA256))
	holds(t, d, "")
}

func TestPutsAtTheSameTime(t *testing.T) {
	d := fresh(t)
	same := native(t, 50_000, bundle.Gzip, nil)
	var all sync.WaitGroup
	for i := range 8 {
		data := same
		if i%2 == 1 {
			data = native(t, 60_000+i, bundle.Zstd, nil)
		}
		all.Go(func() {
			if _, _, err := d.Put(context.Background(), bytes.NewReader(data), unsigned); err != nil {
				t.Error(err)
			}
			if _, err := d.List(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if have, err := d.Have(); err != nil || len(have) != 5 {
		t.Errorf("%d bundles: %v", len(have), err)
	}
}

func TestHashesAreChecked(t *testing.T) {
	d, sha := with(t, native(t, 1000, bundle.None, nil))
	ctx := context.Background()
	for _, bad := range []string{
		"", ".", "..", sha[:63], sha + "0", strings.ToUpper(sha), "../" + sha[3:], sha[:61] + "/..", "/" + sha[1:],
		sha[:63] + "\x00", sha[:60] + ".hfb",
		strings.Repeat("../", 21) + "x",
	} {
		calls := map[string]func() error{
			"open":     func() error { _, _, err := d.Open(bad, 0); return err },
			"fetch":    func() error { return d.Fetch(ctx, bad, from(nil), nil) },
			"unpack":   func() error { _, err := d.Unpack(ctx, bad, 0); return err },
			"find":     func() error { _, err := d.Find(bad); return err },
			"get":      func() error { _, err := d.Get(bad); return err },
			"manifest": func() error { _, err := d.Manifest(ctx, bad); return err },
			"remove":   func() error { return d.Remove(bad) },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrHash) {
				t.Errorf("%s %q: %v", name, bad, err)
			}
		}
	}
	holds(t, d, sha, "SHA.hfb", "SHA.json")
}

func TestOpenAtOffsets(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	d, sha := with(t, data)
	for _, offset := range []int64{0, 1, 512, int64(len(data)) - 1, int64(len(data))} {
		r, size, err := d.Open(sha, offset)
		try.Must(t, err)
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || size != int64(len(data)) || !bytes.Equal(got, data[offset:]) {
			t.Errorf("from %d: %d bytes of %d, %v", offset, len(got), size, err)
		}
	}
	for _, offset := range []int64{-1, int64(len(data)) + 1, 1 << 62} {
		if _, _, err := d.Open(sha, offset); !errors.Is(err, ErrOffset) {
			t.Errorf("from %d: %v", offset, err)
		}
	}
	if _, _, err := d.Open(sum(nil), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown one: %v", err)
	}
	if _, _, err := fresh(t).Open(sha, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in an empty bundle cache: %v", err)
	}
	if _, _, err := (&Cache{Dir: "relative"}).Open(sha, 0); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("in a relative directory: %v", err)
	}
}
