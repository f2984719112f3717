package cache

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// slowly gives data, so many bytes a second from an offset on; none: it hangs.
func slowly(data []byte, rate int) Source {
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		r, w := io.Pipe()
		go func() {
			pause := time.Second / 2 // not when the pace is looked at
			for rest := data[offset:]; rate > 0 && len(rest) > 0; {
				time.Sleep(pause)
				pause = time.Second
				n := min(rate, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					return // it was given up
				}
				rest = rest[n:]
			}
			if rate > 0 {
				_ = w.Close() // always nil
			}
		}()
		return r, int64(len(data)), nil
	}
}

// paced runs a Stage in virtual time on holders, the first of which is asked first.
// A holder is asked when the one before was closed only.
func paced(t *testing.T, data []byte, holders int, serve func(nth int) Source, during func(r *stageRig)) (asked string,
	took time.Duration, log string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var names []cluster.HostID
		for i := range holders {
			names = append(names, cluster.HostID(fmt.Sprint("h", i+2)))
		}
		nth := map[cluster.HostID]int{}
		open, offset := 0, int64(-1)
		r := rig(t, sum(data), names, func(h cluster.HostID) Source {
			return func(ctx context.Context, at int64) (io.ReadCloser, int64, error) {
				if open++; open > 1 || at < offset {
					t.Errorf("%s is asked at %d after %d, with %d others", h, at, offset, open-1)
				}
				offset = at
				asked += fmt.Sprint(nth[h])
				f, size, err := serve(nth[h])(ctx, at)
				return &counted{f, &open}, size, err
			}
		})
		r.every, r.patience, r.Cache.stall = time.Minute, 10*time.Minute, time.Minute
		for i, h := range r.order(r.Holders(sum(data)), nil) {
			nth[h.Host] = i
		}
		if during != nil {
			during(r)
		}
		began := time.Now()
		try.Must(t, r.Do(t.Context(), r.task))
		took = time.Since(began)
		time.Sleep(2 * time.Second) // sources that were given up notice
		has(t, r.Cache, sum(data), data)
		log = r.log.String()
	})
	return asked, took, log
}

type counted struct {
	io.ReadCloser
	open *int
}

func (c *counted) Close() error {
	*c.open--
	return c.ReadCloser.Close()
}

// TestSlowHolderIsLeft: for another one that goes on where it was.
func TestSlowHolderIsLeft(t *testing.T) {
	need.Seconds(t)
	data := native(t, 4<<20, bundle.None, nil)
	for name, c := range map[string]struct {
		rates []int // KiB/s of the holders
		asked string
		least time.Duration
		most  time.Duration
		log   string
	}{
		"fast enough": {[]int{1100, 8192}, "0", 3 * time.Second, 5 * time.Second, ""},
		"slow": {[]int{100, 8192}, "01", 10 * time.Second, 12 * time.Second,
			"it sends 100 KiB/s for 10s, and another host has the bundle, too"},
		"hangs":               {[]int{0, 8192}, "01", 10 * time.Second, 12 * time.Second, "it sends 0 KiB/s"},
		"alone":               {[]int{100}, "0", 40 * time.Second, 43 * time.Second, ""},
		"all are slow":        {[]int{100, 200, 50}, "0121", 31 * time.Second, 36 * time.Second, ""},
		"the first is better": {[]int{300, 100}, "010", 20 * time.Second, 23 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked, took, log := paced(t, data, len(c.rates), func(nth int) Source { return slowly(data, c.rates[nth]<<10) }, nil)
			if asked != c.asked || took < c.least || took > c.most || !strings.Contains(log, c.log) {
				t.Errorf("asked %s, want %s; it took %s; log:\n%s", asked, c.asked, took, log)
			}
		})
	}
}

// TestSlowHolderIsLeftForANewOne: which has the bundle when the fetch is under way.
func TestSlowHolderIsLeftForANewOne(t *testing.T) {
	data := native(t, 4<<20, bundle.None, nil)
	asked, took, _ := paced(t, data, 2, func(nth int) Source { return slowly(data, []int{100, 8192}[nth]<<10) }, func(r *stageRig) {
		all, began := r.Holders, time.Now()
		r.Holders = func(sha string) []Holder {
			h := r.order(all(sha), nil)
			if time.Since(began) < 15*time.Second {
				return h[:1]
			}
			return h
		}
	})
	if asked != "01" || took < 20*time.Second || took > 23*time.Second {
		t.Errorf("asked %s, it took %s", asked, took)
	}
}

// TestSlowDiskIsNoSlowSource: the time in which this host writes does not count.
func TestSlowDiskIsNoSlowSource(t *testing.T) {
	data := native(t, 3<<20, bundle.None, nil)
	synctest.Test(t, func(t *testing.T) {
		d, began := fresh(t), time.Now()
		d.stall = time.Minute
		better := func(int64) bool { t.Error("another source is looked for"); return false }
		try.Must(t, d.fetch(t.Context(), sum(data), slowly(data, 2<<20), better, func(int64, int64) { time.Sleep(15 * time.Second) }))
		if took := time.Since(began); took < time.Minute {
			t.Errorf("it took %s only", took)
		}
		has(t, d, sum(data), data)
	})
}
