package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/durable"
	"holdfast/internal/fail"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/host/replica/shared"
	"holdfast/internal/pair"
)

// Shared is the one copy of the data, on a disk that both nodes see. It is complete for a
// node that sees the pair's file system on it. Only the active node mounts it, since only a
// license promotes; where the disk has persistent reservations it refuses the other one's writes.
type Shared struct {
	Disk *shared.Disk
	// Mount is the file system on it, the first member of the group.
	Mount *Mount
	// Dir survives reboots, for what First makes.
	Dir string
	// RunDir is empty after a boot. The file in it says that this node was promoted.
	RunDir string
	// Make puts on the disk what the group begins with: a file system with the UUID of Disk.
	Make func(ctx context.Context) error

	mu   sync.Mutex
	seen SharedCopy // at the last look
	at   time.Time  // since when no look had a good answer of the disk; zero: the last one had
	lost string     // why what is here of the group has to end, "" when it need not
	peer SharedCopy // what the other node has told last
}

const (
	// askWithin is how long a look waits for the disk.
	askWithin = 2 * time.Second
	// silentAfter is how long the disk of the active node may not answer, or answer with errors only, until that node's path
	// to it counts as lost. A disk's own controllers take turns in less.
	silentAfter = 20 * time.Second
)

var _ Data = (*Shared)(nil)

// SharedCopy is what a node tells of the disk.
type SharedCopy struct {
	Whole    bool       // it sees the pair's file system
	Reserves bool       // the disk has reservations
	Holder   shared.Key `json:",omitempty"` // of the reservation; 0: nobody
	Problem  string     `json:",omitempty"`
}

// promotion is that of this node, as the file in RunDir has it.
type promotion struct {
	Epoch  cluster.Epoch
	Active bool // until a Demote
	Held   bool // the reservation was this node's; never, where the disk has none
}

func (d *Shared) file() string { return filepath.Join(d.RunDir, "pair-shared") }

// promoted is the last promotion since the boot; there may be none.
func (d *Shared) promoted() (p promotion, err error) {
	b, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", d.file(), err)
	}
	return p, err
}

func (d *Shared) note(p promotion) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return durable.WriteFile(d.file(), b, 0o600)
}

// check is nil when this node sees the pair's file system. A mount of the active node is what
// it sees: the disk has to answer then.
func (d *Shared) check(ctx context.Context, active bool) error {
	if active && d.Mount.State(ctx) != pair.Down {
		return d.Disk.Answers(ctx)
	}
	return d.Disk.Check(ctx)
}

// look asks the disk.
func (d *Shared) look(ctx context.Context, active bool) (c SharedCopy, err error) {
	r, err := d.Disk.Holder(ctx)
	if c.Reserves = err == nil; !c.Reserves && !errors.Is(err, shared.ErrNone) {
		return c, err
	}
	c.Holder = r.Key
	err = d.check(ctx, active)
	c.Whole = err == nil
	return c, err
}

// Look says how the copy is. Nothing that the active node has acknowledged is elsewhere, so
// its writes always count as waiting for the peer. A disk that is not seen, or is another one,
// makes this node unfit, and takes nothing from what the record says of it.
//
// The active node is that no more when its reservation is another's, or when it has lost its path and
// the other one has not. What it has sent may be on its way still: where the disk refuses that once the
// other node has reserved it, the end of all that uses it here is enough. Where it does not, nobody knows
// what becomes of it, and this node has to be reset.
func (d *Shared) Look(ctx context.Context, _ pair.Sync) (r pair.Replica, told string, err error) {
	p, err := d.promoted()
	if err != nil {
		return r, "", err
	}
	asking, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, trouble := d.look(asking, p.Active)
	mounted := d.Mount.State(ctx) != pair.Down
	silent := d.silent(trouble) && p.Active
	taken := c.Reserves && c.Holder != d.Disk.Self()
	lost := ""
	switch {
	case silent && d.Lost() == "" && d.alone():
		c.Problem = fmt.Sprintf("%s has not answered for %s, and the other node does not see it either", d.Disk.Path(), silentAfter)
	case silent:
		lost = fmt.Sprintf("%s has not answered for %s: what is here of the group is ended", d.Disk.Path(), silentAfter)
	case trouble != nil:
		c.Problem = trouble.Error()
	case p.Active && taken && mounted:
		lost = "the disk's reservation was lost: it refuses this node's writes"
	default:
		c.Problem = d.Mount.Full()
	}
	if lost != "" {
		c.Problem = lost
	}
	if silent && lost != "" && p.Held && !mounted {
		// What it has sent is refused from when the other node takes the reservation, so all has ended.
		if err := d.note(promotion{Epoch: p.Epoch, Held: true}); err != nil {
			return r, "", err
		}
	}
	d.mu.Lock()
	d.seen, d.lost = c, lost
	d.mu.Unlock()
	r = pair.Replica{Role: pair.RoleStandby, Linked: true, Whole: c.Whole}
	switch {
	case p.Active && !taken && lost == "": // also when the disk can not be asked
		r.Role, r.Waits = pair.RoleActive, true
	case silent && lost != "" && !p.Held:
		r.Role = pair.RoleUnknown
	case !c.Whole:
		r.Role = pair.RoleOff
	}
	b, err := json.Marshal(c)
	return r, string(b), err
}

// silent takes in how the disk has answered, and reports that it has not for silentAfter.
func (d *Shared) silent(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var e *fail.Error
	switch {
	case err == nil || errors.As(err, &e): // what is on the disk, or where, may be wrong: it has answered
		d.at = time.Time{}
	case d.at.IsZero():
		d.at = time.Now()
	}
	return !d.at.IsZero() && time.Since(d.at) >= silentAfter
}

// Told takes in what the other node has told last of the disk.
func (d *Shared) Told(told string) {
	var c SharedCopy
	if told != "" && json.Unmarshal([]byte(told), &c) != nil {
		c = SharedCopy{Whole: true} // then this node does not keep what it can not use
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peer = c
}

// alone reports that the other node, as it has told, can not use the disk either: a target that is away
// for a while is to reset nobody.
func (d *Shared) alone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.peer.Whole
}

// Lost says why what is here of the group has to end, "" when it need not.
func (d *Shared) Lost() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Describe tells people how the copy was at the last look.
func (d *Shared) Describe(r *cluster.PairReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.Data, r.Problem = d.Disk.Path(), d.seen.Problem
}

// Promote takes the reservation, by the license of the record. Who has lost it to the other node
// within one license does not take it again: the other one has a later license.
func (d *Shared) Promote(ctx context.Context, s pair.Sync) error {
	p, err := d.promoted()
	if err != nil {
		return err
	}
	if err := d.check(ctx, p.Active); err != nil {
		return err
	}
	held := p.Held && p.Epoch == s.Epoch
	if err := d.note(promotion{s.Epoch, true, held}); err != nil {
		return err
	}
	reserved, err := d.claim(ctx, !held)
	if err != nil {
		return err
	}
	return errors.Join(d.note(promotion{s.Epoch, true, reserved}), made(d.Dir), d.fresh(ctx))
}

// fresh has the next mount read what is on the disk now. A mount that is there already reads
// its own.
func (d *Shared) fresh(ctx context.Context) error {
	if d.Mount.State(ctx) != pair.Down {
		return nil
	}
	return d.Disk.Fresh(ctx)
}

// claim takes the reservation, where the disk has any.
func (d *Shared) claim(ctx context.Context, take bool) (reserved bool, err error) {
	err = d.Disk.Claim(ctx, take)
	if errors.Is(err, shared.ErrNone) {
		return false, nil
	}
	return err == nil, err
}

// Demote gives the reservation back, after it was seen that nothing of this node has the disk.
// One whose disk does not answer fails: what it has sent may be on its way still.
func (d *Shared) Demote(ctx context.Context, _ bool) error {
	if s := d.Mount.State(ctx); s != pair.Down {
		return fail.Errorf(fail.Failed, "%s is in use: it may be written", d.Disk.Path())
	}
	err := d.Disk.Release(ctx)
	if errors.Is(err, shared.ErrNone) {
		err = d.Disk.Answers(ctx)
	}
	if err != nil {
		return err
	}
	p, err := d.promoted()
	if err != nil {
		return err
	}
	return d.note(promotion{Epoch: p.Epoch, Held: p.Held})
}

// Drain ends all writing: the peer has everything, as there is one copy.
func (d *Shared) Drain(ctx context.Context, _ string) error { return d.Demote(ctx, false) }

// Join reports that the peer sees the same disk: the pair's file system on it, and this node's
// reservation, where the disk has any.
func (d *Shared) Join(ctx context.Context, told string) (string, error) {
	var peer SharedCopy
	if told == "" {
		return "", fail.Errorf(fail.Failed, "the peer has told nothing of its disk")
	}
	if err := json.Unmarshal([]byte(told), &peer); err != nil {
		return "", fmt.Errorf("what the peer tells of its disk: %w", err)
	}
	c, err := d.look(ctx, true)
	switch {
	case err != nil:
		return "", err
	case !peer.Whole:
		return "", fail.Errorf(fail.Failed, "the peer does not see the pair's disk: %s", peer.Problem)
	case peer.Reserves != c.Reserves || peer.Holder != c.Holder:
		return "", fail.Errorf(fail.Failed, "the peer sees another reservation than this node, %s and %s: it has another disk, or has not looked since", peer.Holder, c.Holder)
	}
	return "", nil
}

// First puts on an empty disk what the group begins with. A disk that has the pair's file
// system already is left as it is, unless it was not finished; one that has anything else in its first
// MiB is refused, half a file system as well.
func (d *Shared) First(ctx context.Context) (err error) {
	if _, err := d.claim(ctx, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Demote(context.WithoutCancel(ctx), false)) }()
	empty, err := drbd.Empty(d.Disk.Path())
	if err == nil && !empty {
		err = d.Disk.Check(ctx) // whatever else is there is not made anew
	}
	if err != nil {
		return err
	}
	if d.Make != nil {
		if err := makeOnce(ctx, d.Dir, d.Disk.Path(), d.Make); err != nil {
			return err
		}
	}
	return d.Disk.Check(ctx)
}

// Keep has nothing to do: there is one copy.
func (d *Shared) Keep(ctx context.Context) error { return d.Disk.Check(ctx) }

// Alone has nothing to do: no write waits for the peer.
func (d *Shared) Alone(context.Context) error { return nil }

// Follow has nothing to do but to see the disk.
func (d *Shared) Follow(ctx context.Context, _ bool) error { return d.Disk.Check(ctx) }

// Unfollow has nothing to end.
func (d *Shared) Unfollow(context.Context) error { return nil }

// Close has nothing to close.
func (d *Shared) Close() {}
