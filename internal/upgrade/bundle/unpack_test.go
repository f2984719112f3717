package bundle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/try"
)

// blocked is a reader that cancels a context after some bytes.
type blocked struct {
	r      io.Reader
	left   int
	cancel context.CancelFunc
}

func (b *blocked) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), 100)])
	if b.left -= n; b.left < 0 {
		b.cancel()
	}
	return n, err
}

func TestUnpackLeavesNothingWhenItFails(t *testing.T) {
	data := build(t, sampleFiles(), None, nil)
	unsigned := Options{AllowUnsigned: true}
	noSpace := unsigned
	noSpace.free = func(string) (int64, error) { return 1<<30 - 1, nil }
	failing := errors.New("the disk is broken")
	for name, c := range map[string]struct {
		o    Options
		r    func(cancel context.CancelFunc) io.Reader
		want error
	}{
		"no space":  {noSpace, func(context.CancelFunc) io.Reader { return bytes.NewReader(data) }, ErrNoSpace},
		"cancelled": {unsigned, func(c context.CancelFunc) io.Reader { return &blocked{bytes.NewReader(data), 20000, c} }, context.Canceled},
		"disk": {unsigned, func(context.CancelFunc) io.Reader {
			return io.MultiReader(bytes.NewReader(data[:20000]), &failingReader{failing})
		}, failing},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			parent := t.TempDir()
			_, err := Unpack(ctx, c.r(cancel), filepath.Join(parent, "new"), c.o)
			var r *Refusal
			if !errors.Is(err, c.want) || errors.As(err, &r) {
				t.Errorf("got %v, want %v, and no refusal", err, c.want)
			}
			if left := ls(t, parent); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

type failingReader struct{ err error }

func (f *failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestSpaceIsTwiceTheSize(t *testing.T) {
	files := sampleFiles()
	files["web/large"] = strings.Repeat("large ", 1000)
	data := build(t, files, None, nil)
	rep, err := verify(data, Options{AllowUnsigned: true})
	try.Must(t, err)
	// The manifest asks for 1 GiB, more than twice the size.
	for free, ok := range map[int64]bool{1 << 30: true, 1<<30 - 1: false, 2 * rep.Bytes: false} {
		o := Options{AllowUnsigned: true, free: func(string) (int64, error) { return free, nil }}
		_, err := Unpack(context.Background(), bytes.NewReader(data), filepath.Join(t.TempDir(), "new"), o)
		if (err == nil) != ok {
			t.Errorf("%d bytes free: %v", free, err)
		}
	}
}

func TestUnpackIntoWhatIsThere(t *testing.T) {
	data := build(t, sampleFiles(), Zstd, nil)
	dir := filepath.Join(t.TempDir(), "new")
	try.Must(t, os.Mkdir(dir, 0o755))
	_, err := Unpack(context.Background(), bytes.NewReader(data), dir, Options{AllowUnsigned: true})
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
	if left := ls(t, dir); len(left) > 0 {
		t.Errorf("the directory has %q", left)
	}
}

func TestUnpackRemovesWhatACrashLeft(t *testing.T) {
	data := build(t, sampleFiles(), Zstd, nil)
	parent := t.TempDir()
	for _, d := range []string{partial + "new-123/sub", partial + "other-123", partial + "new-x", "mine"} {
		try.Must(t, os.MkdirAll(filepath.Join(parent, d), 0o755))
	}
	if _, err := Unpack(context.Background(), bytes.NewReader(data), filepath.Join(parent, "new"), Options{AllowUnsigned: true}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(ls(t, parent), " "); got != partial+"new-x "+partial+"other-123 mine new" {
		t.Errorf("left: %s", got)
	}
}

func TestOneUnpackAtATime(t *testing.T) {
	data := build(t, sampleFiles(), Zstd, nil)
	parent := t.TempDir()
	f, err := os.Open(parent)
	try.Must(t, err)
	defer f.Close()
	try.Must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	_, err = Unpack(context.Background(), bytes.NewReader(data), filepath.Join(parent, "new"), Options{AllowUnsigned: true})
	if !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
}
