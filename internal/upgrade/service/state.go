package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// Keys about upgrades.
const (
	keyState    = "upgrade/state"
	keyPlatform = "upgrade/platform/" // and the name of the bundle: products have their own managers and programs
)

// Times of the records about upgrades.
const (
	stateRead  = 10 * time.Second
	stateWrite = 3 * time.Second
	stateAgain = time.Second
)

// maxPlatform bounds what people say of the hosts, bytes.
const maxPlatform = 1 << 20

// State is how the cluster's software stands. There is one record of it.
type State struct {
	// Versions are those that are installed, by the name of the bundle: a platform and a
	// database may both be upgraded. A commit raises one, and nothing else does.
	Versions  map[string]string  `json:"versions,omitempty"`
	To        string             `json:"to,omitempty"`        // of the last upgrade
	Run       string             `json:"run,omitempty"`       // id of the last upgrade, of its last run
	Earlier   []string           `json:"earlier,omitempty"`   // ids of its runs before, which were aborted; the first one first
	Last      string             `json:"last,omitempty"`      // id of the last job: Run, its rollback or its commit
	Bundle    request.BundleInfo `json:"bundle,omitzero"`     // of the last upgrade
	Committed bool               `json:"committed,omitempty"` // the last upgrade: there is no way back
	Probe     bool               `json:"probe,omitempty"`     // the last upgrade: lost packets of guests are counted
	Network   string             `json:"network,omitempty"`   // over which its guests move, a CIDR; "": any
	// Behind are hosts that a commit has left out, by the name of the bundle: they have not
	// the version of the cluster. A later commit that has them takes them out of it.
	Behind map[string]map[cluster.HostID]behindHost `json:"behind,omitempty"`
	mod    int64
}

// behindHost is a host that was left behind by a commit.
type behindHost struct {
	upgrade.BehindHost
	At time.Time `json:"at"` // of the commit
}

// behind is the record after a commit. Of a host that was behind before, the first word counts.
func (s State) behind(args *upgrade.CommitArgs, now time.Time) State {
	all, hosts := maps.Clone(s.Behind), maps.Clone(s.Behind[s.Bundle.Name])
	if all == nil {
		all = map[string]map[cluster.HostID]behindHost{}
	}
	if hosts == nil {
		hosts = map[cluster.HostID]behindHost{}
	}
	for _, h := range args.Done {
		delete(hosts, h)
	}
	for h, b := range args.Behind {
		if before, known := hosts[h]; !known || b.Halfway && !before.Halfway {
			hosts[h] = behindHost{b, now}
		}
	}
	if all[s.Bundle.Name] = hosts; len(hosts) == 0 {
		delete(all, s.Bundle.Name)
	}
	s.Behind = all
	return s
}

// version is what is installed of what the last upgrade was about.
func (s State) version() string { return s.Versions[s.Bundle.Name] }

// with is the record with another version of a bundle.
func (s State) with(name, version string) State {
	all := maps.Clone(s.Versions)
	if all == nil {
		all = map[string]string{}
	}
	all[name] = version
	s.Versions = all
	return s
}

// loadState reads it. A cluster that was never upgraded has none.
func loadState(ctx context.Context, st store.Store) (State, error) {
	var s State
	kv, exists, err := st.Get(ctx, keyState)
	if err != nil || !exists {
		return s, err
	}
	if err := json.Unmarshal(kv.Value, &s); err != nil {
		return s, fmt.Errorf("read record %s: %w", keyState, err)
	}
	s.mod = kv.ModRev
	return s, nil
}

func (s State) op() (store.Op, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return store.Op{}, fmt.Errorf("write record %s: %w", keyState, err)
	}
	return store.Op{Key: keyState, Value: value}, nil
}

// guard holds as long as the record is what was read.
func (s State) guard() store.Cmp { return store.Cmp{Key: keyState, Rev: s.mod} }

// journal is a job of an upgrade with its plan and its status.
type journal struct {
	engine.Journal
	plan   upgrade.Plan
	status upgrade.Status
	last   job.Job // the job that came last, when it is another one

	over     map[string]bool // steps of earlier commits that are over
	cleaning bool            // all of them but of the cleanup
}

// latest is the job that came last.
func (j *journal) latest() job.Job {
	if j.last.ID != "" {
		return j.last
	}
	return j.Job
}

// committed are the steps that the commits of the last upgrade have over, the last
// one and those before it that failed; cleaning says that all are but of the cleanup.
func (s *Service) committed(ctx context.Context, st State) (over map[string]bool, cleaning bool, err error) {
	jobs, err := engine.List(ctx, s.Store)
	if err != nil {
		return nil, false, err
	}
	over = map[string]bool{}
	for _, j := range jobs { // the newest first
		if j.ID == st.Run {
			break
		}
		if j.Kind != job.Upgrade || !strings.HasPrefix(j.ID, string(upgrade.ForCommit)+"-") {
			continue
		}
		c, err := readJournal(ctx, s.Store, j.ID)
		if err != nil {
			return nil, false, err
		}
		left := false
		for _, step := range c.plan.Steps() {
			over[step.ID] = over[step.ID] || c.Records[step.ID].State.Over()
			left = left || step.Kind != upgrade.KindCleanup && !over[step.ID]
		}
		cleaning = cleaning || !left
	}
	return over, cleaning, nil
}

// readJournal loads the journal of a job.
func readJournal(ctx context.Context, st store.Store, id string) (journal, error) {
	var out journal
	j, err := engine.Load(ctx, st, id)
	if err != nil {
		return out, fmt.Errorf("read the journal of %s: %w", id, err)
	}
	out.Journal = j
	if out.plan, err = upgrade.DecodePlan(j.Plan); err != nil {
		return out, fmt.Errorf("read the plan of %s: %w", id, err)
	}
	out.status, err = upgrade.StatusOf(&out.plan, j.Job)
	return out, err
}

// platform reads what people said of the hosts last, for the upgrades of a bundle;
// nil when nobody did.
func platform(ctx context.Context, st store.Store, bundle string) (*inventory.Inventory, error) {
	kv, exists, err := st.Get(ctx, keyPlatform+bundle)
	if err != nil || !exists {
		return nil, err
	}
	var inv inventory.Inventory
	if err := json.Unmarshal(kv.Value, &inv); err != nil {
		return nil, fmt.Errorf("read record %s: %w", kv.Key, err)
	}
	return &inv, nil
}

// Commit raises the version of the cluster: the Executor of upgrade.KindCommit.
type Commit struct{ Store store.Store }

// Probe tells whether the upgrade was committed.
func (c *Commit) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	args, s, err := c.look(ctx, t)
	switch {
	case err != nil:
		return engine.CanNotTell, err
	case s.Committed && s.version() == args.To:
		return engine.ProbedDone, nil
	}
	return engine.NotDone, nil
}

func (c *Commit) look(ctx context.Context, t engine.Task) (args upgrade.CommitArgs, s State, err error) {
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return args, s, fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	s, err = loadState(ctx, c.Store)
	return args, s, err
}

// Do raises the version, once. A store that is away is asked until ctx ends.
func (c *Commit) Do(ctx context.Context, t engine.Task) error {
	for {
		again, err := c.raise(ctx, t)
		if !again {
			return err
		}
		fmt.Fprintf(t.Log, "%v\n", err)
		if !clock.Sleep(ctx, stateAgain) {
			if errors.Is(err, store.ErrUnknown) {
				err = fmt.Errorf("%w: %w", engine.ErrUnclear, err)
			}
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// raise makes one attempt. again says that the next one may do better; it finds
// what this one has done when its answer was lost.
func (c *Commit) raise(ctx context.Context, t engine.Task) (again bool, err error) {
	lctx, cancel := context.WithTimeout(ctx, stateRead)
	args, s, err := c.look(lctx, t)
	cancel()
	switch {
	case err != nil:
		return errors.Is(err, store.ErrRetry), err
	case s.Committed && s.version() == args.To:
		return false, nil
	case s.Last != t.Job || s.To != args.To:
		return false, fmt.Errorf("commit %s: the last job is %s, to version %s", args.To, s.Last, s.To)
	}
	s = s.with(s.Bundle.Name, args.To).behind(&args, time.Now().UTC())
	s.Committed = true
	op, err := s.op()
	if err != nil {
		return false, err
	}
	wctx, cancel := context.WithTimeout(ctx, stateWrite)
	defer cancel()
	_, ok, err := c.Store.Txn(wctx, []store.Cmp{s.guard()}, []store.Op{op})
	switch {
	case err != nil:
		return !errors.Is(err, store.ErrDefinite), fmt.Errorf("commit %s: %w", args.To, err)
	case !ok:
		return true, fmt.Errorf("commit %s: record %s was changed meanwhile", args.To, keyState)
	}
	fmt.Fprintf(t.Log, "version %s -> %s\n", args.From, args.To)
	return false, nil
}

// Kept are the old jobs that a rollback or commit still reads.
func (s *Service) Kept(ctx context.Context) ([]string, error) {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(st.Earlier), st.Run, st.Last), nil
}

// Planner reads the plan of a job of kind job.Upgrade.
func Planner(plan []byte) (job.Planner, error) {
	p, err := upgrade.NewPlanner(plan)
	if err != nil {
		return nil, err // a typed nil is no nil
	}
	return p, nil
}
