package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/testbed/try"
)

var _ engine.Executor = (*Stage)(nil)

// stageRig is a Stage on host h1 with holders that a test gives.
type stageRig struct {
	*Stage
	task  engine.Task
	log   bytes.Buffer
	notes []string
	last  int // percent
	asked []cluster.HostID
}

// rig makes one; serve gives what a holder sends.
func rig(t *testing.T, sha string, holders []cluster.HostID, serve func(h cluster.HostID) Source) *stageRig {
	t.Helper()
	args, err := json.Marshal(upgrade.StageArgs{Bundle: "app", Version: "2.0.0.B120", SHA256: sha})
	try.Must(t, err)
	r := &stageRig{Stage: &Stage{
		Cache: fresh(t), Host: "h1", every: time.Millisecond, patience: 20 * time.Millisecond,
		Holders: func(asked string) []Holder {
			if asked != sha {
				t.Errorf("asked for holders of %s", asked)
			}
			var out []Holder
			for _, h := range holders {
				out = append(out, Holder{h, "https://" + string(h)})
			}
			return out
		},
	}}
	r.Stage.Fetch = func(ctx context.Context, h Holder, asked string, offset int64) (io.ReadCloser, int64, error) {
		if asked != sha || h.API != "https://"+string(h.Host) {
			t.Errorf("asked %+v for %s", h, asked)
		}
		r.asked = append(r.asked, h.Host)
		return serve(h.Host)(ctx, offset)
	}
	r.task = engine.Task{Step: job.Step{ID: "h1/stage", Host: "h1", Kind: upgrade.KindStage, Args: args}, Log: &r.log,
		Note: func(what string, percent int) {
			r.notes = append(r.notes, what)
			if percent >= 0 {
				if percent < r.last {
					t.Errorf("from %d to %d percent: %s", r.last, percent, what)
				}
				r.last = percent
			}
		}}
	return r
}

func (r *stageRig) probe(t *testing.T, want engine.Probed) {
	t.Helper()
	if got, err := r.Probe(context.Background(), r.task); got != want || err != nil {
		t.Errorf("probe: %v, %v, want %v", got, err, want)
	}
}

func TestStage(t *testing.T) {
	data := native(t, 500_000, bundle.Zstd, nil)
	r := rig(t, sum(data), []cluster.HostID{"h1", "h2"}, func(cluster.HostID) Source { return from(data) })
	r.probe(t, engine.NotDone)
	try.Must(t, r.Do(context.Background(), r.task))
	r.probe(t, engine.ProbedDone)
	has(t, r.Cache, sum(data), data)
	if fmt.Sprint(r.asked) != "[h2]" || r.last != 100 {
		t.Errorf("asked %v, %d percent", r.asked, r.last)
	}
	if log := r.log.String(); !strings.Contains(log, "fetched from host h2 in ") ||
		!strings.Contains(log, "unpacked app 2.0.0.B120 into "+r.Cache.Dir) {
		t.Errorf("log: %s", log)
	}
	// Again: nothing is left to do.
	r.notes = nil
	try.Must(t, r.Do(context.Background(), r.task))
	if len(r.asked) != 1 || len(r.notes) > 0 {
		t.Errorf("asked %v, noted %q", r.asked, r.notes)
	}
	// With the file and nothing unpacked, no host is asked.
	try.Must(t, os.RemoveAll(r.Cache.path(sum(data), "")))
	r.probe(t, engine.NotDone)
	r.last = 0
	try.Must(t, r.Do(context.Background(), r.task))
	if len(r.asked) != 1 || r.last != 100 {
		t.Errorf("asked %v, %d percent", r.asked, r.last)
	}
	try.Must(t, os.Truncate(r.Cache.path(sum(data), "")+"/data/blob", 7))
	r.probe(t, engine.NotDone)
	try.Must(t, os.Remove(r.Cache.path(sum(data), "")+"/data/blob"))
	r.probe(t, engine.NotDone)
	try.Must(t, r.Cache.Remove(sum(data)))
	r.probe(t, engine.NotDone)
}

func TestStageGoesToTheNextHolder(t *testing.T) {
	data := native(t, 200_000, bundle.None, nil)
	changed := bytes.Clone(data)
	changed[len(data)-1] ^= 1
	bad := map[cluster.HostID]Source{}
	r := rig(t, sum(data), []cluster.HostID{"h2", "h3", "h4", "h5"}, func(h cluster.HostID) Source {
		if s := bad[h]; s != nil {
			return s
		}
		return from(data)
	})
	order := r.order(r.Holders(sum(data)), nil)
	// The first lies, the second breaks off half-way each time, the third is dead.
	bad[order[0].Host] = from(changed)
	bad[order[1].Host] = func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(broken(data[offset:], int(max(100_000-offset, 0)), errBroken)), int64(len(data)), nil
	}
	bad[order[2].Host] = func(context.Context, int64) (io.ReadCloser, int64, error) {
		return nil, 0, errors.New("no route to host")
	}
	try.Must(t, doLoose(r))
	has(t, r.Cache, sum(data), data)
	if want := []cluster.HostID{order[0].Host, order[1].Host, order[2].Host,
		order[3].Host}; !slices.Equal(slices.Compact(slices.Clone(r.asked)), want) {
		t.Errorf("asked %v, want %v", r.asked, want)
	}
	for _, text := range []string{ErrWrong.Error(), "connection reset", "no route to host", "fetched from host " + string(order[3].Host)} {
		if !strings.Contains(r.log.String(), text) {
			t.Errorf("the log has no %q:\n%s", text, r.log.String())
		}
	}
}

// doLoose is Do when the percentage may fall: a fetch begins anew.
func doLoose(r *stageRig) error {
	task := r.task
	task.Note = func(what string, _ int) { r.notes = append(r.notes, what) }
	return r.Do(context.Background(), task)
}

func TestStageWaitsForAHolder(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	r := rig(t, sum(data), nil, func(cluster.HostID) Source { return from(data) })
	err := r.Do(context.Background(), r.task)
	if err == nil || !strings.Contains(err.Error(), "no host that answers has the bundle") {
		t.Errorf("got %v", err)
	}
	r.patience = time.Minute
	rounds := 0
	r.Holders = func(string) []Holder {
		if rounds++; rounds < 3 {
			return nil
		}
		return []Holder{{"h2", "https://h2"}}
	}
	try.Must(t, r.Do(context.Background(), r.task))
	if i := slices.Index(r.notes, "waits for a host that gives the bundle: no host that answers has the bundle"); i < 0 {
		t.Errorf("noted %q", r.notes)
	}
}

func TestStageWhenAllLie(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	r := rig(t, sum(data), []cluster.HostID{"h2", "h3"}, func(cluster.HostID) Source { return from(data[1:]) })
	err := doLoose(r)
	if !errors.Is(err, ErrWrong) {
		t.Errorf("got %v", err)
	}
	slices.Sort(r.asked)
	if fmt.Sprint(r.asked) != "[h2 h3]" {
		t.Errorf("asked %v: want each once", r.asked)
	}
	r.probe(t, engine.NotDone)
}

func TestStageWithoutSpaceAsksNobodyElse(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	r := rig(t, sum(data), []cluster.HostID{"h2", "h3"}, func(cluster.HostID) Source { return from(data) })
	r.Cache.free = func(string) (int64, error) { return 1000, nil }
	if err := r.Do(context.Background(), r.task); !errors.Is(err, bundle.ErrNoSpace) || len(r.asked) != 1 {
		t.Errorf("asked %v: %v", r.asked, err)
	}
}

func TestStageOfADamagedFile(t *testing.T) {
	data := native(t, 1000, bundle.None, nil)
	r := rig(t, sum(data), []cluster.HostID{"h2"}, func(cluster.HostID) Source { return from(data) })
	_, _, err := r.Cache.Put(context.Background(), bytes.NewReader(data), unsigned)
	try.Must(t, err)
	flipped := bytes.Clone(data)
	flipped[len(data)/2] ^= 1
	try.Must(t, os.WriteFile(r.Cache.path(sum(data), fileSuffix), flipped, 0o600))
	try.Must(t, doLoose(r))
	has(t, r.Cache, sum(data), data)
	r.probe(t, engine.ProbedDone)
	if !strings.Contains(r.log.String(), "it is fetched anew") {
		t.Errorf("log: %s", r.log.String())
	}
}

func TestStageIsStoppedAndGoesOn(t *testing.T) {
	data := native(t, 200_000, bundle.None, nil)
	for _, cause := range []error{engine.ErrStopping, engine.ErrCancelled, engine.ErrTimeout} {
		ctx, cancel := context.WithCancelCause(context.Background())
		stopped := false
		r := rig(t, sum(data), []cluster.HostID{"h2"}, func(cluster.HostID) Source {
			return func(sctx context.Context, offset int64) (io.ReadCloser, int64, error) {
				if stopped {
					if offset == 0 {
						t.Error("it begins anew")
					}
					return from(data)(sctx, offset)
				}
				pr, pw := io.Pipe()
				go func() {
					_, _ = pw.Write(data[:50_000]) // the reader may have gone
					cancel(cause)
				}()
				return pr, int64(len(data)), nil
			}
		})
		if err := r.Do(ctx, r.task); !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
		r.probe(t, engine.NotDone)
		stopped = true
		try.Must(t, r.Do(context.Background(), r.task))
		r.probe(t, engine.ProbedDone)
	}
}

func TestStageArguments(t *testing.T) {
	for _, args := range []string{`{`, `{}`, `{"sha256": "../../etc"}`, `{"sha256": 7}`} {
		r := rig(t, "", nil, nil)
		r.task.Step.Args = json.RawMessage(args)
		if err := r.Do(context.Background(), r.task); err == nil || !strings.Contains(err.Error(), "h1/stage") {
			t.Errorf("%s: %v", args, err)
		}
		if p, err := r.Probe(context.Background(), r.task); p != engine.CanNotTell || err == nil {
			t.Errorf("%s: probe: %v, %v", args, p, err)
		}
	}
}

// TestHoldersAreSpread: the first choices of many hosts are not the same.
func TestHoldersAreSpread(t *testing.T) {
	var holders []Holder
	for i := range 10 {
		holders = append(holders, Holder{Host: cluster.HostID(fmt.Sprintf("holder%d", i))})
	}
	first := map[cluster.HostID]int{}
	for i := range 1000 {
		s := &Stage{Host: cluster.HostID(fmt.Sprintf("host%d", i))}
		order := s.order(holders, nil)
		first[order[0].Host]++
		if len(order) != len(holders) {
			t.Fatal(order)
		}
	}
	for h, n := range first {
		if n < 50 || n > 200 {
			t.Errorf("%s is the first choice of %d hosts in 1000, with 10 holders", h, n)
		}
	}
	if len(first) != len(holders) {
		t.Errorf("first choices: %v", first)
	}
}
