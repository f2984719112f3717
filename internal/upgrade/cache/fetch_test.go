package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// from is a source that gives data.
func from(data []byte) Source {
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		if offset > int64(len(data)) {
			return nil, 0, ErrOffset
		}
		return io.NopCloser(bytes.NewReader(data[offset:])), int64(len(data)), nil
	}
}

// breaking is a source that breaks off at each of the offsets, once. It notes at
// which offsets it is asked.
type breaking struct {
	data  []byte
	at    []int64
	asked []int64
	size  int64 // it tells
	err   error // with which it breaks off; nil: the end
}

func (b *breaking) open(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
	b.asked = append(b.asked, offset)
	end := int64(len(b.data))
	var r io.Reader = strings.NewReader("")
	if len(b.at) > 0 {
		end, b.at = b.at[0], b.at[1:]
		if b.err != nil {
			r = &failing{b.err}
		}
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.data[min(offset, end):end]), r)), b.size, nil
}

var errBroken = errors.New("connection reset")

func TestFetchGoesOnAfterBreaks(t *testing.T) {
	need.Seconds(t)
	data := native(t, 3<<20, bundle.Zstd, nil)
	n := int64(len(data))
	for name, c := range map[string]struct {
		at   []int64
		size int64
		err  error
		want []int64 // offsets that are asked
	}{
		"none":               {nil, n, nil, []int64{0}},
		"size unknown":       {nil, 0, nil, []int64{0}},
		"at once":            {[]int64{0, 0}, n, errBroken, []int64{0, 0, 0}},
		"first byte":         {[]int64{1}, n, errBroken, []int64{0, 1}},
		"many":               {[]int64{1, 4096, 1 << 20, 2<<20 + 7, n - 1}, n, errBroken, []int64{0, 1, 4096, 1 << 20, 2<<20 + 7, n - 1}},
		"many, size unknown": {[]int64{1, 4096, 1 << 20, 2<<20 + 7, n - 1}, 0, errBroken, []int64{0, 1, 4096, 1 << 20, 2<<20 + 7, n - 1}},
		"early ends":         {[]int64{1, 4096, n - 1}, n, nil, []int64{0, 1, 4096, n - 1}},
		"break at the end":   {[]int64{n}, 0, errBroken, []int64{0}},
		"size told too high": {nil, n + 5, nil, []int64{0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			b := &breaking{data: data, at: c.at, size: c.size, err: c.err}
			var last, total int64
			try.Must(t, d.Fetch(context.Background(), sum(data), b.open, func(done, all int64) { last, total = done, all }))
			has(t, d, sum(data), data)
			holds(t, d, sum(data), "SHA.hfb", "SHA.json")
			if fmt.Sprint(b.asked) != fmt.Sprint(c.want) || last != n || total != c.size {
				t.Errorf("asked at %v, want %v; told %d of %d", b.asked, c.want, last, total)
			}
			list, err := d.List()
			if err != nil || list[0].Name != "app" || list[0].Files != 3 || list[0].Bytes != 3<<20+20 || list[0].Signed {
				t.Errorf("listed: %+v, %v", list, err)
			}
			// What is here is not fetched again.
			try.Must(t, d.Fetch(context.Background(), sum(data), nil, nil))
		})
	}
}

func TestFetchGivesUpAndGoesOnLater(t *testing.T) {
	data := native(t, 100_000, bundle.None, nil)
	d := fresh(t)
	b := &breaking{data: data, at: []int64{100, 5000, 5000, 70_000}, size: int64(len(data)), err: errBroken}
	err := d.Fetch(context.Background(), sum(data), b.open, nil)
	var theirs *SourceError
	if !errors.As(err, &theirs) || !errors.Is(err, errBroken) || len(b.asked) != fetchTries {
		t.Errorf("asked at %v: %v", b.asked, err)
	}
	holds(t, d, sum(data), "SHA.part")
	if have, err := d.Have(); err != nil || len(have) > 0 {
		t.Errorf("it has %q, %v", have, err)
	}
	if _, err := d.Unpack(context.Background(), sum(data), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unpack of a part: %v", err)
	}
	// Another process goes on.
	d, b = at(d.Dir), &breaking{data: data}
	try.Must(t, d.Fetch(context.Background(), sum(data), b.open, nil))
	has(t, d, sum(data), data)
	if fmt.Sprint(b.asked) != "[70000]" {
		t.Errorf("asked at %v", b.asked)
	}
}

func TestFetchFromLiars(t *testing.T) {
	data := native(t, 200_000, bundle.None, nil)
	n := len(data)
	other, changed := native(t, 1000, bundle.None, nil), bytes.Clone(data)
	changed[n/2] ^= 1
	long := append(bytes.Clone(data), 'x')
	tell := func(data []byte, size int64) Source {
		return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			r, _, err := from(data)(ctx, offset)
			return r, size, err
		}
	}
	for name, c := range map[string]struct {
		from Source
		want error
	}{
		"another bundle":       {from(other), ErrWrong},
		"a bit":                {from(changed), ErrWrong},
		"more":                 {from(long), ErrWrong},
		"more, size unknown":   {tell(long, -1), ErrWrong},
		"less":                 {from(data[:n-1]), ErrWrong},
		"nothing":              {from(nil), ErrWrong},
		"size told too low":    {tell(data, 100), ErrWrong},
		"size told too high":   {tell(data[:n-1], int64(n)), io.ErrUnexpectedEOF},
		"size without measure": {tell(data, 1<<60), nil},
		"endless":              {func(context.Context, int64) (io.ReadCloser, int64, error) { return io.NopCloser(zeros{}), 0, nil }, ErrWrong},
		"no reader":            {func(context.Context, int64) (io.ReadCloser, int64, error) { return nil, 0, errBroken }, errBroken},
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			d.limit = 1 << 20
			err := d.Fetch(context.Background(), sum(data), c.from, nil)
			var theirs *SourceError
			if !errors.As(err, &theirs) || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if errors.Is(err, ErrWrong) {
				holds(t, d, sum(data))
			}
			if have, err := d.Have(); err != nil || len(have) > 0 {
				t.Errorf("it has %q, %v", have, err)
			}
			// An honest one is not hurt by what the liar has left.
			try.Must(t, d.Fetch(context.Background(), sum(data), from(data), nil))
			has(t, d, sum(data), data)
			holds(t, d, sum(data), "SHA.hfb", "SHA.json")
		})
	}
}

// TestFetchAfterAPoisonedPart: what an earlier fetch has left is not blamed on
// the source that goes on.
func TestFetchAfterAPoisonedPart(t *testing.T) {
	data := native(t, 50_000, bundle.None, nil)
	for name, left := range map[string][]byte{
		"other bytes": bytes.Repeat([]byte("x"), 7000),
		"too long":    append(bytes.Clone(data), "more"...),
		"whole":       data,
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			try.Must(t, os.MkdirAll(d.Dir, 0o700))
			try.Must(t, os.WriteFile(d.path(sum(data), partSuffix), left, 0o600))
			try.Must(t, d.Fetch(context.Background(), sum(data), from(data), nil))
			has(t, d, sum(data), data)
		})
	}
}

func TestFetchOfWhatIsNoBundle(t *testing.T) {
	for _, data := range [][]byte{[]byte("no bundle at all"), nil} {
		d := fresh(t)
		err := d.Fetch(context.Background(), sum(data), from(data), nil)
		var r *bundle.Refusal
		if !errors.As(err, &r) {
			t.Errorf("got %v, want a refusal", err)
		}
		holds(t, d, sum(data))
	}
}

// TestFetchFromAStalledSource: a source that hangs is given up; time is virtual.
func TestFetchFromAStalledSource(t *testing.T) {
	data := native(t, 100_000, bundle.None, nil)
	synctest.Test(t, func(t *testing.T) {
		d := fresh(t)
		d.stall = time.Minute
		asked := 0
		err := d.Fetch(t.Context(), sum(data), func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			if asked++; asked == 1 {
				<-ctx.Done()
				return nil, 0, ctx.Err()
			}
			r, w := io.Pipe() // ends when it is closed only
			go func() {
				for _, b := range data[offset : offset+3] { // slow, but not too slow
					time.Sleep(50 * time.Second)
					if _, err := w.Write([]byte{b}); err != nil {
						return
					}
				}
			}()
			return r, int64(len(data)), nil
		}, nil)
		var theirs *SourceError
		if !errors.As(err, &theirs) || !errors.Is(err, errStalled) || asked != fetchTries {
			t.Errorf("asked %d times: %v", asked, err)
		}
		info, err := os.Stat(d.path(sum(data), partSuffix))
		if err != nil || info.Size() != 3*(fetchTries-1) {
			t.Errorf("part: %v, %v", info, err)
		}
	})
}

func TestFetchIsCancelled(t *testing.T) {
	data := native(t, 100_000, bundle.None, nil)
	d := fresh(t)
	why := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(context.Background())
	err := d.Fetch(ctx, sum(data), func(ctx context.Context, _ int64) (io.ReadCloser, int64, error) {
		r, w := io.Pipe()
		go func() {
			_, _ = w.Write(data[:1000]) // the reader may have gone
			cancel(why)
		}()
		return r, 0, nil
	}, nil)
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	holds(t, d, sum(data), "SHA.part")
}

func TestFetchAndUnpackAtTheSameTime(t *testing.T) {
	d := fresh(t)
	var all sync.WaitGroup
	for i := range 3 {
		data := native(t, 300_000+i, bundle.Zstd, nil)
		for range 4 {
			all.Go(func() {
				b := &breaking{data: data, at: []int64{1000, 200_000}, err: errBroken}
				if err := d.Fetch(context.Background(), sum(data), b.open, nil); err != nil {
					t.Error(err)
				}
				s, err := d.Unpack(context.Background(), sum(data), 0)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Bundle.Verify(context.Background(), "data/blob"); err != nil {
					t.Error(err)
				}
				if found, err := d.Find(sum(data)); err != nil || found.Dir != s.Dir {
					t.Errorf("%+v, %v", found, err)
				}
				if _, err := d.Manifest(context.Background(), sum(data)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	if have, err := d.Have(); err != nil || len(have) != 3 {
		t.Errorf("%d bundles, %v", len(have), err)
	}
}
