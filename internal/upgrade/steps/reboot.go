package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/reboot"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade"
)

const (
	rebootWithin = 5 * time.Minute // from the order until this process is ended
	rebootPoll   = 5 * time.Second // between two looks at the store's members
)

// RebootHost orders reboots and tells boots apart; *reboot.Host is one.
type RebootHost interface {
	Boot() (string, error)
	// Reboot's errors are those of package reboot: ErrNotOrdered is in each that
	// nobody has heard the order of.
	Reboot(ctx context.Context, r reboot.Request) error
}

// Reboot restarts this host: the Executor of upgrade.KindReboot. The order is given
// at most once per attempt: before it, a mark is written that outlives this process,
// so that nobody orders a second reboot while the first may still come.
type Reboot struct {
	Host RebootHost
	// Guests are the names of the guests that have a process on this host.
	Guests func(ctx context.Context) ([]string, error)
	// NextKernel is the release that a reboot would start, "" when that can not be told.
	NextKernel func(ctx context.Context) (string, error)
	// Quorum counts the voters of Holdfast's store, and those that answer beside
	// this host. member: this host is a voter.
	Quorum func(ctx context.Context) (voters, healthy int, member bool, err error)
	// File is where the mark is kept: in the agent's data directory, absolute.
	File string
	// Clock tells the age of the mark; nil: the host's (clock.Clock).
	Clock func() cluster.Instant
}

// rebootMark says that an attempt has ordered, or was about to order, a reboot.
type rebootMark struct {
	Job     string          `json:"job"`
	Step    string          `json:"step"`
	Attempt int             `json:"attempt"`
	Boot    string          `json:"boot"` // that shall end
	At      cluster.Instant `json:"at"`   // of that boot
}

// Do orders the reboot and waits for this process to be ended. When it is not, the
// outcome is unclear: the order may still be heard.
func (d *Reboot) Do(ctx context.Context, t engine.Task) error {
	args, err := engine.Args[upgrade.RebootArgs](t)
	if err != nil {
		return err
	}
	if err := d.mayGo(ctx, t, args.Kernel); err != nil {
		return err
	}
	if err := d.empty(ctx); err != nil {
		return err
	}
	if err := d.mark(t); err != nil {
		return err
	}
	err = d.order(ctx, t)
	switch {
	case errors.Is(err, reboot.ErrDone):
		fmt.Fprintln(t.Log, errors.Join(err, hostRemove(d.File)))
		return nil
	case errors.Is(err, reboot.ErrNotOrdered): // nobody has heard it
		return errors.Join(err, hostRemove(d.File))
	}
	return d.goDown(ctx, t, err)
}

// order gives the order, with a last look at the guests: one may have been started
// since the first. The error is that of RebootHost.
func (d *Reboot) order(ctx context.Context, t engine.Task) error {
	guests, err := d.running(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", reboot.ErrNotOrdered, err)
	}
	fmt.Fprintf(t.Log, "orders the reboot of boot %s\n", t.Boot)
	return d.Host.Reboot(ctx, reboot.Request{Boot: t.Boot, Guests: guests})
}

// mayGo waits until the store can do without this host. It fails when another
// kernel would start than is wanted.
func (d *Reboot) mayGo(ctx context.Context, t engine.Task, kernel string) error {
	waits := engine.Waits{Task: t}
	for {
		if err := d.checkKernel(ctx, t, kernel); err != nil {
			return err
		}
		why, err := d.missed(ctx)
		if err != nil || why == "" {
			return err
		}
		waits.Say("%s", why)
		if err := engine.Pause(ctx, rebootPoll); err != nil {
			return fmt.Errorf("not rebooted: %s: %w", why, err)
		}
	}
}

func (d *Reboot) checkKernel(ctx context.Context, t engine.Task, want string) error {
	if want == "" {
		return nil
	}
	next, err := d.NextKernel(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("find out which kernel the reboot would start: %w", err)
	case next == "":
		fmt.Fprintf(t.Log, "which kernel starts next can not be told; the step after the reboot checks that it is %s\n", want)
	case next != want:
		return fmt.Errorf("not rebooted: kernel %s would start, want %s: install it, or make it the boot loader's "+
			"default (grub-set-default, grubby --set-default), then retry this step", next, want)
	}
	return nil
}

// missed tells why the store can not do without this host just now, "" when it
// can. An error: it never can.
func (d *Reboot) missed(ctx context.Context) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, hostAsk)
	defer cancel()
	voters, healthy, member, err := d.Quorum(ctx)
	most := voters/2 + 1
	switch {
	case err != nil:
		return fmt.Sprintf("it is not known which members of the store are healthy: %v", err), nil
	case !member || healthy >= most:
		return "", nil
	case voters-1 < most:
		return "", fmt.Errorf("not rebooted: the store can not do without this host, one of %d voters: add members, "+
			"or reboot the host by hand and skip this step", voters)
	}
	return fmt.Sprintf("without this host the store has %d healthy members of %d and needs %d", healthy, voters, most), nil
}

// empty fails when guests run here, or when that can not be told.
func (d *Reboot) empty(ctx context.Context) error {
	guests, err := d.running(ctx)
	if err != nil {
		return fmt.Errorf("not rebooted: %w", err)
	}
	if len(guests) > 0 {
		return fmt.Errorf("not rebooted: %w: %s: move them away or shut them down, then retry this step",
			reboot.ErrGuests, strings.Join(guests, ", "))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// running asks which guests run here.
func (d *Reboot) running(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, hostAsk)
	defer cancel()
	guests, err := d.Guests(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask which guests run: %w", err)
	}
	return guests, nil
}

// goDown waits for the end of this process. heard is the error of the order, which
// does not tell whether it was heard.
func (d *Reboot) goDown(ctx context.Context, t engine.Task, heard error) error {
	if heard != nil {
		fmt.Fprintln(t.Log, heard)
	}
	t.Note("the reboot is ordered, the host goes down", -1)
	ended := engine.Pause(ctx, rebootWithin)
	if errors.Is(ended, engine.ErrStopping) {
		return ended
	}
	now, err := d.Host.Boot()
	switch {
	case err == nil && now != t.Boot:
		return nil // this process has outlived it
	case ended != nil:
		return fmt.Errorf("%w: the reboot was ordered and can not be taken back: %w", engine.ErrUnclear, errors.Join(ended, heard, err))
	}
	return errors.Join(fmt.Errorf("%w: %w", engine.ErrUnclear, errRebootLate(rebootWithin, t.Boot)), heard, err)
}

func errRebootLate(after time.Duration, boot string) error {
	return fmt.Errorf("the reboot was ordered %s ago, and the host has not gone down (boot id is still %s): look at "+
		"its shutdown, reboot it by hand, then retry or skip this step",
		after.Round(time.Second), boot)
}

// Probe tells by the boot id. With the same one, an order that this attempt has
// given goes on by itself for a while; after that nobody can tell.
func (d *Reboot) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	if t.Boot == "" {
		return engine.CanNotTell, errors.New("the boot id at which the step began is not known")
	}
	now, err := d.Host.Boot()
	if err != nil {
		return engine.CanNotTell, err
	}
	if now != t.Boot {
		return engine.ProbedDone, nil
	}
	m, err := d.marked()
	if err != nil {
		return engine.CanNotTell, err
	}
	if m.Job != t.Job || m.Step != t.Step.ID || m.Attempt != t.Attempt || m.Boot != t.Boot {
		return engine.NotDone, nil // this attempt has not come to the order
	}
	age := d.now().Sub(m.At)
	if age < 0 || age >= rebootWithin {
		return engine.CanNotTell, errRebootLate(age, t.Boot)
	}
	t.Note("the reboot is ordered, the host goes down", -1)
	return engine.StillRunning, nil
}

func (d *Reboot) now() cluster.Instant {
	if d.Clock != nil {
		return d.Clock()
	}
	return clock.New().Now()
}

func (d *Reboot) mark(t engine.Task) error {
	data, err := json.Marshal(rebootMark{t.Job, t.Step.ID, t.Attempt, t.Boot, d.now()})
	if err != nil {
		return fmt.Errorf("mark the order of the reboot: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(d.File), 0o700); err != nil {
		return fmt.Errorf("mark the order of the reboot: %w", err)
	}
	if err := hostReplace(d.File, data, 0o600, nil); err != nil {
		return fmt.Errorf("mark the order of the reboot: %w", err)
	}
	return nil
}

// marked reads the mark; without one it is empty.
func (d *Reboot) marked() (rebootMark, error) {
	var m rebootMark
	data, err := os.ReadFile(d.File)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read whether the reboot was ordered (%s): %w", d.File, err)
	}
	return m, nil
}
