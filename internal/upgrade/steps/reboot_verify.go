package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

const (
	verifyWait = 2 * time.Minute // for what takes a while after a start
	verifyPoll = 2 * time.Second
)

// Verify checks that this host has come back as it should: the Executor of
// upgrade.KindVerify. It changes nothing.
type Verify struct {
	Boot func() (string, error) // boot id
	// Record is the journal's entry of a step; false: there is none.
	Record func(ctx context.Context, job, step string) (job.Record, bool, error)
	Kernel func(ctx context.Context) (string, error) // release that runs
	Pools  func(ctx context.Context) ([]pools.Pool, error)
	Dir    string        // as StorageDetach's
	Wait   time.Duration // for pools to become active; 0: 2 min
}

// Probe says that nothing is done yet: to check again does no harm.
func (v *Verify) Probe(context.Context, engine.Task) (engine.Probed, error) {
	return engine.NotDone, nil
}

// Do checks until all is well. What no waiting mends fails at once; the error
// tells everything that is wrong.
func (v *Verify) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.VerifyArgs](t)
	if err != nil {
		return err
	}
	wait := v.Wait
	if wait == 0 {
		wait = verifyWait
	}
	end := time.Now().Add(wait)
	waits := engine.Waits{Task: t}
	for {
		wrong, yet := v.look(ctx, t, args)
		if len(wrong)+len(yet) == 0 {
			return nil
		}
		all := errors.Join(append(wrong, yet...)...)
		if len(wrong) > 0 || !time.Now().Before(end) {
			return all
		}
		waits.Say("%v", errors.Join(yet...))
		if err := engine.Pause(ctx, verifyPoll); err != nil {
			return fmt.Errorf("%w: %w", err, all)
		}
	}
}

// look tells what is wrong for good, and what may become well yet.
func (v *Verify) look(ctx context.Context, t engine.Task, args upgrade.VerifyArgs) (wrong, yet []error) {
	ctx, cancel := context.WithTimeout(ctx, hostAsk)
	defer cancel()
	bad, err := v.rebooted(ctx, t, args.Reboot)
	if bad != nil {
		wrong = append(wrong, bad)
	}
	if err != nil {
		yet = append(yet, err)
	}
	if args.Kernel != "" {
		switch now, err := v.Kernel(ctx); {
		case err != nil:
			yet = append(yet, fmt.Errorf("find out which kernel runs: %w", err))
		case now != args.Kernel:
			wrong = append(wrong, fmt.Errorf("kernel %s runs, want %s: make it the boot loader's default "+
				"(grub-set-default, grubby --set-default), reboot the host, then retry this step", now, args.Kernel))
		}
	}
	return wrong, append(yet, v.pools(ctx, t.Job, args.Pools)...)
}

// rebooted compares the boot id with that at which the reboot step began. err: it
// could not be found out.
func (v *Verify) rebooted(ctx context.Context, t engine.Task, step string) (bad, err error) {
	now, err := v.Boot()
	if err != nil {
		return nil, err
	}
	r, found, err := v.Record(ctx, t.Job, step)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the record of %s: %w", step, err)
	case !found || r.Boot == "" && r.State != job.Skipped:
		return fmt.Errorf("nobody can tell whether the host was rebooted: step %s has not begun", step), nil
	case r.Boot == "":
		return fmt.Errorf("nobody can tell whether the host was rebooted: step %s was skipped by %s before it began: "+
			"see to it that it was rebooted since, then skip this step, too", step, r.By), nil
	case r.Boot != now:
		return nil, nil
	case r.State == job.Skipped:
		return fmt.Errorf("the host was not rebooted: step %s was skipped by %s (%s), and the boot id is still %s: "+
			"reboot the host by hand, then retry this step", step, r.By, r.Why, now), nil
	}
	return fmt.Errorf("the host was not rebooted: its boot id is still %s, as when step %s began: reboot it by hand, "+
		"then retry this step", now, step), nil
}

// missing tells of a pool that libvirt does not know, and how a transient one, which
// the job has stopped, is made again.
func (v *Verify) missing(of, pool string) error {
	text, err := storageKept(v.Dir, of, pool)
	switch {
	case err != nil:
		return fmt.Errorf("libvirt has no storage pool %s: %w", pool, err)
	case text == "":
		return fmt.Errorf("libvirt has no storage pool %s: define and start it, then retry this step", pool)
	}
	return fmt.Errorf("libvirt has no storage pool %s, which was a transient one: make it again (virsh pool-create "+
		"%s), then retry this step", pool, storageFile(v.Dir, pool))
}

// pools tells which pools are not active.
func (v *Verify) pools(ctx context.Context, of string, want []string) []error {
	if len(want) == 0 {
		return nil
	}
	have, err := v.Pools(ctx)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, name := range want {
		i := slices.IndexFunc(have, func(p pools.Pool) bool { return p.Name == name })
		switch {
		case i < 0:
			errs = append(errs, v.missing(of, name))
		case !have[i].Active:
			errs = append(errs, fmt.Errorf("storage pool %s is not active: start it (virsh pool-start %s), then retry this step", name, name))
		}
	}
	return errs
}
