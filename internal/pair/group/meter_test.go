package group

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica"
	"holdfast/internal/pair"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/try"
)

// TestMeter: the percentage never goes backwards within a copy, and is below 100 until all has
// come, also where more comes than was estimated.
func TestMeter(t *testing.T) {
	begun := time.Now()
	at := func(s int) time.Time { return begun.Add(time.Duration(s) * time.Second) }
	c := func(stage replica.Stage, bytes, about int64) replica.Copy {
		return replica.Copy{Stage: stage, Begun: begun, Bytes: bytes, About: about}
	}
	whole := c(replica.Copied, 1200, 1000)
	whole.Ended = at(60)
	again := replica.Copy{Stage: replica.Receiving, Begun: at(70), Bytes: 10, About: 1000}
	again2 := again
	again2.Bytes = 110
	var m meter
	for _, x := range []struct {
		c    replica.Copy
		at   time.Time
		want cluster.PairCopy
	}{
		{c(replica.Receiving, 0, 0), at(0), cluster.PairCopy{}},
		{c(replica.Receiving, 100, 0), at(2), cluster.PairCopy{Elapsed: 2 * time.Second, Bytes: 100, Rate: 50}},
		{c(replica.Receiving, 200, 1000), at(4), cluster.PairCopy{Elapsed: 4 * time.Second, Bytes: 200, About: 1000,
			Percent: 20, Rate: 50, Left: 16 * time.Second}},
		{c(replica.Receiving, 200, 2000), at(4), cluster.PairCopy{Elapsed: 4 * time.Second, Bytes: 200, About: 2000,
			Percent: 20, Rate: 50, Left: 36 * time.Second}},
		{c(replica.Receiving, 999, 1000), at(40), cluster.PairCopy{Elapsed: 40 * time.Second, Bytes: 999, About: 1000, Percent: 99, Rate: 22}},
		{c(replica.Receiving, 1200, 1000), at(41), cluster.PairCopy{Elapsed: 41 * time.Second, Bytes: 1200, About: 1000, Percent: 99, Rate: 27}},
		{c(replica.Preparing, 1200, 1000), at(50), cluster.PairCopy{Elapsed: 50 * time.Second, Bytes: 1200, About: 1000, Percent: 100}},
		{whole, at(65), cluster.PairCopy{Elapsed: 60 * time.Second, Bytes: 1200, About: 1000, Percent: 100, Rate: 20}},
		{whole, at(69), cluster.PairCopy{Elapsed: 60 * time.Second, Bytes: 1200, About: 1000, Percent: 100, Rate: 20}},
		{again, at(70), cluster.PairCopy{Bytes: 10, About: 1000, Percent: 1}},
		{again2, at(71), cluster.PairCopy{Elapsed: time.Second, Bytes: 110, About: 1000, Percent: 11, Rate: 100, Left: 9 * time.Second}},
	} {
		x.want.Stage = string(x.c.Stage)
		if got := *m.look(x.c, x.at); got != x.want {
			t.Errorf("%+v after %s:\n%+v, want\n%+v", x.c, x.at.Sub(begun), got, x.want)
		}
	}
}

// copying is a copy of the data that is always being made anew.
type copying struct {
	Data
	meter meter
	begun time.Time
}

func (c *copying) Look(context.Context, pair.Sync) (pair.Replica, string, error) {
	return pair.Replica{Role: pair.RoleStandby}, "", nil
}

func (c *copying) Describe(r *cluster.PairReport) {
	n := int64(time.Since(c.begun) / time.Millisecond)
	r.Copy = c.meter.look(replica.Copy{Stage: replica.Receiving, Begun: c.begun, Bytes: n, About: 100_000}, time.Now())
}

func (c *copying) Close() {}

// copies runs the driver of a standby that copies.
func copies(t *testing.T, s store.Store) (d *Driver, ctx context.Context, end func()) {
	d = New(Options{
		Self: "a", Peer: "b", Resource: cluster.MgmtVM, Store: s, Data: &copying{begun: time.Now()}, Patience: time.Second, RunDir: t.TempDir(),
		Clock: func() cluster.Instant { return cluster.Instant(time.Now().UnixNano()) }, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, nil) }()
	return d, ctx, func() {
		cancel()
		try.Must(t, <-ended)
		try.Must(t, d.Close())
	}
}

// TestACopyIsReportedNowAndThen: it changes with each look, and costs a write in two seconds.
func TestACopyIsReportedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMem().NewClient("test")
		_, ctx, end := copies(t, s)
		rev, last, writes := int64(0), cluster.PairReport{}, 0
		for range 400 { // 40 s
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			kv, ok, err := s.Get(ctx, KeyNode+"a")
			try.Must(t, err)
			if !ok || kv.ModRev == rev {
				continue
			}
			r, err := records.Decode[cluster.PairReport](kv, false)
			try.Must(t, err)
			if rev != 0 && r.Time.Sub(last.Time) < copyEvery {
				t.Errorf("reports at %s and %s", last.Time, r.Time)
			}
			if r.Copy == nil || last.Copy != nil && (r.Copy.Bytes <= last.Copy.Bytes || r.Copy.Percent < last.Copy.Percent) {
				t.Errorf("%+v after %+v", r.Copy, last.Copy)
			}
			rev, last, writes = kv.ModRev, r, writes+1
		}
		if writes < 15 || last.Copy == nil || last.Copy.Rate != 1000 {
			t.Errorf("%d reports, the last one of %+v", writes, last.Copy)
		}
		end()
	})
}

// TestAReportSaysWhatFailed, and when it is tried again, while the node is not fit: it may be why.
func TestAReportSaysWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewMem().NewClient("test")
		d, ctx, end := copies(t, s)
		for _, o := range []pair.Outcome{{Why: "the primary refuses"}, {OK: true}} {
			want := ""
			if !o.OK {
				want = o.Why + "; the next try is at " + time.Now().Add(2*time.Second).Format(nextFormat)
			}
			d.post(ctx, func() { d.done(pair.Follow{Peer: "b"}, o) })
			time.Sleep(2 * copyEvery)
			synctest.Wait()
			kv, _, err := s.Get(ctx, KeyNode+"a")
			try.Must(t, err)
			r, err := records.Decode[cluster.PairReport](kv, false)
			try.Must(t, err)
			if r.Fit || r.Problem != want {
				t.Errorf("after %+v: fit %v, problem %q", o, r.Fit, r.Problem)
			}
		}
		end()
	})
}

// TestAReportByAnEarlierRecord: why a copy was not fit by another record of the copies is not told as if it were so now.
func TestAReportByAnEarlierRecord(t *testing.T) {
	r := Report{Judged: 7}
	r.Why = "its copy does not have every acknowledged write"
	if got := r.By(7).Why; got != r.Why {
		t.Errorf("by the same record: %q", got)
	}
	if got := r.By(8).Why; got != pair.NotJudged {
		t.Errorf("by another record: %q", got)
	}
	if r.Why = ""; r.By(8).Why != "" {
		t.Errorf("a copy that was fit: %q", r.By(8).Why)
	}
}
