package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

const (
	storageDetachWait = time.Minute      // for guests that are just leaving
	storageAttachWait = 5 * time.Minute  // for networks and targets after a start
	storageMapperWait = 20 * time.Second // for a multipath device, before a pool is started without
	storagePoll       = 3 * time.Second
	storageLook       = 100 * time.Millisecond // after the first round: it has done most
)

// PoolHost has storage pools; *pools.Pools is one.
type PoolHost interface {
	List(ctx context.Context) ([]pools.Pool, error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	RedefineMultipath(ctx context.Context, name string) (changed bool, err error)
	// For transient pools, which libvirt forgets when they are stopped:
	XML(ctx context.Context, name string) (string, error)
	Create(ctx context.Context, xml string) error
	MultipathXML(xml string) (out string, changed bool, err error)
}

// StorageDetach stops pools that would hang a reboot, those with templates first:
// the Executor of upgrade.KindStorageDetach. A pool that guests use is not stopped. What
// a transient one is made of is kept before, for StorageAttach.
type StorageDetach struct {
	Host PoolHost
	Dir  string        // where that is kept: in the agent's data directory, absolute
	Wait time.Duration // for pools in use; 0: 1 min
}

// Probe tells whether all pools are stopped.
func (d *StorageDetach) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	return storageProbe(ctx, t, d.Host, func(p *pools.Pool, _ upgrade.StoragePool) bool { return p == nil || !p.Active })
}

// Do stops the pools, and tries all of them.
func (d *StorageDetach) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.StorageArgs](t)
	if err != nil {
		return err
	}
	r := &storageRun{task: t, host: d.Host, pools: storageOrder(args.Pools), verb: "stopped", wait: d.Wait}
	if r.wait == 0 {
		r.wait = storageDetachWait
	}
	r.one = func(ctx context.Context, p *pools.Pool, want upgrade.StoragePool) (bool, error) {
		if p == nil || !p.Active { // a transient pool is gone when it is stopped
			return true, nil
		}
		if err := storageKeep(ctx, d.Host, d.Dir, t.Job, *p); err != nil {
			return false, err
		}
		return false, r.host.Stop(ctx, want.Name)
	}
	return r.run(ctx)
}

// StorageAttach starts the pools again, in the opposite order, and makes transient
// ones anew; those with a single path use the multipath device over their disk then,
// when there is one: the Executor of upgrade.KindStorageAttach.
type StorageAttach struct {
	Host PoolHost
	Dir  string        // as StorageDetach's
	Wait time.Duration // for pools to become active; 0: 5 min
}

// Probe tells whether all pools are active, with multipath where it is wanted.
func (d *StorageAttach) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	return storageProbe(ctx, t, d.Host, func(p *pools.Pool, want upgrade.StoragePool) bool {
		return p != nil && p.Active && !(want.Multipath && p.Paths == 1 && p.Mapper != "")
	})
}

// Do starts the pools, and tries all of them. One over whose disk is no multipath
// device comes back as it was, which the log tells and checks find. One that has
// such a device and can not be redefined is started, too, and the step fails.
func (d *StorageAttach) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.StorageArgs](t)
	if err != nil {
		return err
	}
	pools := storageOrder(args.Pools)
	slices.Reverse(pools)
	r := &storageRun{task: t, host: d.Host, pools: pools, verb: "active", wait: d.Wait}
	if r.wait == 0 {
		r.wait = storageAttachWait
	}
	a := &storageAttaching{storageRun: r, dir: d.Dir, until: time.Now().Add(min(storageMapperWait, r.wait/2)),
		single: map[string]error{}, settled: map[string]bool{}}
	r.one = a.attach
	err = r.run(ctx)
	for _, p := range pools {
		err = errors.Join(err, a.single[p.Name])
	}
	return err
}

// storageAttaching is one run of StorageAttach.Do.
type storageAttaching struct {
	*storageRun
	dir     string
	until   time.Time        // multipath devices are waited for
	single  map[string]error // why pools stay on a single path
	settled map[string]bool  // pools about whose paths nothing more is tried
}

func (a *storageAttaching) attach(ctx context.Context, p *pools.Pool, want upgrade.StoragePool) (bool, error) {
	if p == nil {
		return false, a.create(ctx, want)
	}
	if p.Transient && want.Multipath && !a.settled[want.Name] {
		return false, a.renew(ctx, *p)
	}
	if want.Multipath && !a.settled[want.Name] {
		if err := a.redefine(ctx, *p); err != nil {
			return false, err
		}
		a.settled[want.Name] = true
		return false, a.host.Start(ctx, want.Name)
	}
	if p.Active {
		return true, nil
	}
	return false, a.host.Start(ctx, want.Name)
}

// redefine makes a pool use the multipath device over its disk. An error: it is to
// be tried again.
func (a *storageAttaching) redefine(ctx context.Context, p pools.Pool) error {
	changed, err := a.host.RedefineMultipath(ctx, p.Name)
	if errors.Is(err, pools.ErrBusy) { // libvirtd has started it with the host
		if err = a.host.Stop(ctx, p.Name); err == nil {
			changed, err = a.host.RedefineMultipath(ctx, p.Name)
		}
	}
	switch {
	case err == nil && changed:
		fmt.Fprintf(a.task.Log, "pool %s: uses the multipath device now\n", p.Name)
	case err == nil:
	case ctx.Err() != nil, !p.Active && time.Now().Before(a.until):
		return err
	case p.Mapper == "":
		fmt.Fprintf(a.task.Log, "WARN pool %s stays on a single path: %v\n", p.Name, err)
	default: // better a single path than none
		a.single[p.Name] = storageStays(p.Name, p.Mapper, err)
	}
	return nil
}

// storageOrder puts pools with templates first: they depend on no other one.
func storageOrder(pools []upgrade.StoragePool) []upgrade.StoragePool {
	out := slices.Clone(pools)
	slices.SortStableFunc(out, func(a, b upgrade.StoragePool) int { return storageRank(a) - storageRank(b) })
	return out
}

func storageRank(p upgrade.StoragePool) int {
	if p.Use == "template" {
		return 0
	}
	return 1
}

// storageProbe tells by the pools as they are.
func storageProbe(ctx context.Context, t engine.Task, h PoolHost, done func(*pools.Pool, upgrade.StoragePool) bool) (engine.Probed, error) {
	args, err := engine.Args[upgrade.StorageArgs](t)
	if err != nil {
		return engine.CanNotTell, err
	}
	have, err := h.List(ctx)
	if err != nil {
		return engine.CanNotTell, err
	}
	for _, p := range args.Pools {
		if !done(storageFind(have, p.Name), p) {
			return engine.NotDone, nil
		}
	}
	return engine.ProbedDone, nil
}

// storageFind returns the pool with that name, nil when there is none.
func storageFind(have []pools.Pool, name string) *pools.Pool {
	for i := range have {
		if have[i].Name == name {
			return &have[i]
		}
	}
	return nil
}

// storageRun brings pools to a state, in their order, round after round.
type storageRun struct {
	task  engine.Task
	host  PoolHost
	pools []upgrade.StoragePool
	verb  string // how they shall be
	wait  time.Duration
	// one does what is to be done with a pool (nil: libvirt has none of that name)
	// and reports whether there was nothing to do.
	one  func(ctx context.Context, p *pools.Pool, want upgrade.StoragePool) (ok bool, err error)
	told map[string]bool
}

func (r *storageRun) run(ctx context.Context) error {
	r.told = map[string]bool{}
	end := time.Now().Add(r.wait)
	waits := engine.Waits{Task: r.task}
	pause := storageLook
	for {
		pending, err := r.round(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case len(pending) == 0 && err == nil:
			return nil
		case !time.Now().Before(end):
			return errors.Join(err, r.late(pending))
		case err != nil || pause == storagePoll:
			waits.Say("%v", errors.Join(err, r.late(pending)))
		}
		if serr := engine.Pause(ctx, pause); serr != nil {
			return errors.Join(serr, err)
		}
		pause = storagePoll
	}
}

// late is the error about pools with which all went well but the outcome.
func (r *storageRun) late(pending []string) error {
	if len(pending) == 0 {
		return nil
	}
	return fmt.Errorf("not %s yet: %s", r.verb, strings.Join(pending, ", "))
}

// round looks at all pools once. pending are those that were dealt with and must be
// looked at again; err tells what went wrong with others.
func (r *storageRun) round(ctx context.Context) (pending []string, err error) {
	have, err := r.host.List(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, want := range r.pools {
		if ctx.Err() != nil {
			break
		}
		switch ok, err := r.one(ctx, storageFind(have, want.Name), want); {
		case err != nil:
			errs = append(errs, err)
		case ok:
			r.tell(want.Name)
		default:
			pending = append(pending, want.Name)
		}
	}
	return pending, errors.Join(errs...)
}

func (r *storageRun) tell(pool string) {
	if r.told[pool] {
		return
	}
	r.told[pool] = true
	fmt.Fprintf(r.task.Log, "pool %s is %s\n", pool, r.verb)
	r.task.Note(fmt.Sprintf("%d of %d pools are %s", len(r.told), len(r.pools), r.verb), 100*len(r.told)/len(r.pools))
}
