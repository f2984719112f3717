package drbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
)

// Driver is one device on this node. Methods that change something must not run at the same
// time; each ends with its context.
type Driver struct {
	cfg  Config
	busy chan struct{} // a program runs
}

// lookAgain is between two tries of what the kernel may refuse for a moment.
const lookAgain = 50 * time.Millisecond

// connectWithin is how long Resync waits for the peer to answer: a few times connect-int.
const connectWithin = 15 * time.Second

// New checks the settings.
func New(cfg Config) (*Driver, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Driver{cfg, make(chan struct{}, 1)}, nil
}

// Create writes the resource file, and puts DRBD's own data on a disk that has none, and whose
// beginning is empty: fail.Refused. It can be called again.
func (d *Driver) Create(ctx context.Context) error {
	v, err := module(ctx)
	if err != nil {
		return err
	}
	text, err := d.cfg.text(v)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(d.cfg.file(), []byte(text), 0o600); err != nil {
		return err
	}
	st, err := d.Status(ctx)
	if err == nil {
		err = d.ownMinor(st)
	}
	if err != nil || st.Up {
		return err
	}
	out, err := d.run(ctx, "drbdadm", "dump-md", d.cfg.Resource)
	switch {
	case err == nil, strings.Contains(out, "unclean"): // as a loss of power leaves it
		return nil
	case strings.Contains(out, "No valid meta data"):
		if err := free(d.cfg.Disk); err != nil {
			return err
		}
		return d.adm(ctx, "create-md")
	}
	return err
}

// First makes two copies that have nothing yet good, on one node, once: both are connected,
// Secondary and Inconsistent. Blocks that nobody has written differ, and mean nothing.
func (d *Driver) First(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if st.Connection != "Connected" || st.Role != "Secondary" || st.PeerRole != "Secondary" ||
		st.Disk != "Inconsistent" || st.PeerDisk != "Inconsistent" {
		return fail.Errorf(fail.Refused, "the copies are not new: connection %s, roles %s and %s, disks %s and %s",
			st.Connection, st.Role, st.PeerRole, st.Disk, st.PeerDisk)
	}
	_, err = d.run(ctx, "drbdadm", "--", "--clear-bitmap", "new-current-uuid", d.cfg.Resource)
	return err
}

// Up attaches the disk, and connects to the peer if it is told so and nothing has told
// the copy not to. It promotes nothing. What is there already stays.
func (d *Driver) Up(ctx context.Context, connect bool) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if !st.Up {
		if err := d.adm(ctx, "new-resource"); err != nil {
			return err
		}
	}
	if st.Disk == "" {
		if err := d.adm(ctx, "new-minor"); err != nil {
			return err
		}
	}
	if err := d.peer(ctx, st); err != nil {
		return err
	}
	if st.Disk == "" || st.Disk == "Diskless" {
		if err := d.adm(ctx, "attach"); err != nil {
			return err
		}
	}
	detached, err := d.has(detachedMark)
	if err == nil && connect && !detached {
		err = d.Connect(ctx)
	}
	if err != nil {
		return err
	}
	return d.set(upMark, "")
}

// peer tells DRBD 9 of the other end, which 8.4 learns with the connection. It is before the
// disk is there: 9 asks the handler about peers that it knows, and about no others.
func (d *Driver) peer(ctx context.Context, st State) error {
	v, err := module(ctx)
	if err != nil || !v.nine() {
		return err
	}
	if st.Connection == "" {
		if err := d.adm(ctx, "new-peer"); err != nil {
			return err
		}
	}
	if st.Path {
		return nil
	}
	return d.adm(ctx, "new-path")
}

// Begun reports that Up has come to its end since the boot: one that was cut short may have
// left the copy attached, and not connected.
func (d *Driver) Begun() (bool, error) { return d.has(upMark) }

// Connect has this copy look for its peer, unless it does. A copy of another history is not
// followed: both ends stop then (StandAlone).
func (d *Driver) Connect(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil || !st.Alone() {
		return err
	}
	return d.adm(ctx, "connect")
}

// Status is how the device is now.
func (d *Driver) Status(ctx context.Context) (st State, err error) {
	out, err := d.run(ctx, "drbdsetup", "events2", "--now", "--statistics", d.cfg.Resource)
	if err != nil {
		return st, err
	}
	for line := range strings.Lines(out) {
		end, err := st.take(d.cfg.Resource, line)
		if err != nil || end {
			return st, err
		}
	}
	return st, fmt.Errorf("drbdsetup events2: no end of what there is: %q", out)
}

// Waits reports that in this state a write is acknowledged when the peer has it, and not before.
func (d *Driver) Waits(st State) (bool, error) {
	alone, err := d.has(aloneMark)
	return st.Role == "Primary" && !alone && (st.Linked() || st.Frozen()), err
}

// Split reports that this copy does not connect, although nobody has told it so: its
// history and the peer's went apart, or the peer refuses it.
func (d *Driver) Split(st State) (bool, error) {
	detached, err := d.has(detachedMark)
	return st.Alone() && !detached, err
}

// readAgain is after how long a state is read again of which no event tells: one run in six
// did not see the end of a resync by the events alone.
const readAgain = time.Second

// await returns when ok, and gives the last state in any case. It reads the state when there
// is an event.
func (d *Driver) await(ctx context.Context, ok func(State) bool) (st State, err error) {
	within, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(within, "drbdsetup", "events2", d.cfg.Resource)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return st, err
	}
	events := make(chan struct{}, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case events <- struct{}{}:
			default:
			}
		}
		_ = cmd.Wait() // it is killed
	}()
	defer func() {
		cancel()
		<-over
	}()
	for {
		if st, err = d.Status(ctx); err != nil || ok(st) {
			return st, err
		}
		select {
		case <-events:
		case <-time.After(readAgain):
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// Promote makes this node the primary. license says by what, "" is none: the caller has
// proof that the other node is no primary and writes nothing any more, and that this copy
// has everything that was acknowledged. Writes wait for the peer, or for Alone.
// fail.Refused, and nothing is changed: the copy is not good.
func (d *Driver) Promote(ctx context.Context, license string) error {
	st, err := d.Status(ctx)
	switch {
	case err != nil:
		return err
	case license == "":
		return fail.Errorf(fail.Refused, "DRBD %s: a promotion needs a license", d.cfg.Resource)
	case !st.Good():
		return fail.Errorf(fail.Refused, "DRBD %s: this copy is %q: want UpToDate or Consistent", d.cfg.Resource, st.Disk)
	}
	if st.Linked() {
		// A link that is lost from here on has the kernel ask the handler, who knows no license.
		if st.Role == "Secondary" && st.Frozen() {
			if err := d.adm(ctx, "resume-io"); err != nil {
				return err
			}
		}
		if err := d.unset(aloneMark); err != nil || st.Role == "Primary" {
			return err
		}
		return d.adm(ctx, "primary")
	}
	if err := d.adm(ctx, "suspend-io"); err != nil {
		return err
	}
	if err := d.unset(aloneMark); err != nil {
		return err
	}
	if st.Role != "Primary" {
		if err := d.licensed(ctx, license); err != nil {
			return err
		}
	}
	if err := d.unset(detachedMark); err != nil {
		return err
	}
	return d.Connect(ctx)
}

// licensed becomes the primary without the peer. The mark is there meanwhile only.
func (d *Driver) licensed(ctx context.Context, license string) error {
	self, err := proc.Here.Read(os.Getpid())
	if err != nil {
		return err
	}
	if err := d.set(promoteMark, fmt.Sprintf("%d %d\n%s\n", self.PID, self.Started, license)); err != nil {
		return err
	}
	err = d.adm(ctx, "primary")
	return errors.Join(err, d.unset(promoteMark))
}

// Demote makes this node a secondary; nil proves that nobody has the device open and nobody
// can write. Frozen writes keep it from that until Thaw. Whoever has the device open has to
// be ended before.
func (d *Driver) Demote(ctx context.Context) error {
	for {
		st, err := d.Status(ctx)
		if err == nil && st.Role != "Primary" {
			return d.unset(aloneMark)
		}
		if err = errors.Join(err, d.adm(ctx, "secondary")); err == nil {
			continue
		}
		if !clock.Sleep(ctx, lookAgain) {
			return fmt.Errorf("demote DRBD %s: %w", d.cfg.Resource, err)
		}
	}
}

// Thaw ends frozen writes well. The caller has seen to it that nobody is told: all who have
// the file system open were killed, and nobody can open it.
func (d *Driver) Thaw(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil || !st.Frozen() {
		return err
	}
	return d.adm(ctx, "resume-io")
}

// Hold has later writes wait again after Thaw, unless they wait anyway, or need not.
func (d *Driver) Hold(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	alone, err := d.has(aloneMark)
	// A link that is lost from here on freezes by itself.
	if err != nil || alone || st.Role != "Primary" || st.Linked() || st.Frozen() {
		return err
	}
	return d.adm(ctx, "suspend-io")
}

// Alone lets writes be acknowledged without the peer. The caller has taken the peer out of
// those that may be promoted.
func (d *Driver) Alone(ctx context.Context) error {
	if err := d.set(aloneMark, ""); err != nil {
		return err
	}
	st, err := d.Status(ctx) // what froze before the mark; whatever freezes later asks the handler
	if err != nil || !st.Frozen() {
		return err
	}
	return d.adm(ctx, "resume-io")
}

// Join returns when the peer has everything and every later write waits for it.
func (d *Driver) Join(ctx context.Context) error {
	st, err := d.await(ctx, func(s State) bool { return s.Role != "Primary" || s.Linked() && !s.Frozen() })
	if err != nil {
		return fmt.Errorf("DRBD %s: the peer does not have everything yet (%s, %s, %s, writes held back: %s), %d KiB are left: %w",
			d.cfg.Resource, st.Connection, st.Replication, st.PeerDisk, st.Suspended, st.OutOfSync, err)
	}
	if st.Role != "Primary" {
		return fail.Errorf(fail.Refused, "DRBD %s: this node is no primary", d.cfg.Resource)
	}
	if err := d.unset(aloneMark); err != nil {
		return err
	}
	// A loss between the two was answered by the mark, and shows; one from here on is not.
	if st, err = d.Status(ctx); err != nil {
		return err
	}
	if !st.Linked() || st.Frozen() {
		return fail.Errorf(fail.Failed, "DRBD %s: the peer was lost meanwhile", d.cfg.Resource)
	}
	return nil
}

// Resync makes this copy follow the peer's, which takes its time after the return. Without
// cut nothing of a history of its own is given up: fail.Refused. With it, what this copy
// alone has is lost; DRBD can not save it, so whoever wants it takes a snapshot of the disk
// before.
func (d *Driver) Resync(ctx context.Context, cut bool) error {
	if err := d.Up(ctx, false); err != nil {
		return err
	}
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if st.Role == "Primary" {
		return fail.Errorf(fail.Refused, "DRBD %s: this node is the primary", d.cfg.Resource)
	}
	if err := d.unset(detachedMark); err != nil {
		return err
	}
	if st.Connection == "Connected" && !cut {
		return nil
	}
	args := []string{"connect", d.cfg.Resource}
	if cut {
		args = []string{"connect", "--discard-my-data", d.cfg.Resource}
		if !st.Alone() {
			if err := d.adm(ctx, "disconnect"); err != nil {
				return err
			}
		}
	}
	for tries := 0; ; tries++ {
		split, err := d.connect(ctx, args, st.Alone() || cut)
		switch {
		case err != nil || !split:
			return err
		case !cut:
			return fail.Errorf(fail.Refused, "DRBD %s: this copy and the peer's have diverged; what this one alone "+
				"has would be lost, about %d KiB", d.cfg.Resource, st.OutOfSync)
		case tries < 2:
			err = d.giveUp(ctx)
		default:
			return fail.Errorf(fail.Failed, "DRBD %s: the peer refuses this copy even as an empty one", d.cfg.Resource)
		}
		if err != nil {
			return err
		}
	}
}

// connect connects, and reports that the ends parted again.
func (d *Driver) connect(ctx context.Context, args []string, begin bool) (split bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if begin {
		if _, err := d.run(ctx, "drbdadm", args...); err != nil {
			return false, err
		}
	}
	st, err := d.await(ctx, func(s State) bool { return s.Alone() || s.Connection == "Connected" && s.Replication != "Off" })
	if err != nil {
		return false, fmt.Errorf("DRBD %s: connect to the peer: it is %q: %w", d.cfg.Resource, st.Connection, err)
	}
	return st.Alone(), nil
}

// Detach ends following: this copy does not connect again before Resync or Promote.
func (d *Driver) Detach(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if st.Role == "Primary" {
		return fail.Errorf(fail.Refused, "DRBD %s: this node is the primary", d.cfg.Resource)
	}
	if err := d.set(detachedMark, ""); err != nil || !st.Up || st.Alone() {
		return err
	}
	return d.adm(ctx, "disconnect")
}

// Device is the path of the device.
func (d *Driver) Device() string { return d.cfg.Device() }

// adm runs a command of drbdadm about the resource.
func (d *Driver) adm(ctx context.Context, command string) error {
	_, err := d.run(ctx, "drbdadm", command, d.cfg.Resource)
	return err
}

// run runs a program of DRBD, one at a time. One that has not ended with ctx goes on: it is not
// killed, since the kernel does not take that well. A "drbdsetup attach" that was killed
// while the kernel began a thread for it left all later ones waiting for that thread.
func (d *Driver) run(ctx context.Context, name string, args ...string) (string, error) {
	what := name + " " + strings.Join(args, " ")
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("%s: an earlier command goes on: %w", what, ctx.Err())
	}
	return run(ctx, func() { <-d.busy }, name, args...)
}
