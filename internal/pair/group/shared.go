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
}

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
	Held   bool // the reservation was this node's
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
// it sees: reading past the cache would have the kernel write what of that place is in the cache.
func (d *Shared) check(ctx context.Context, active bool) error {
	if active && d.Mount.State(ctx) != pair.Down {
		return nil
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
func (d *Shared) Look(ctx context.Context, _ pair.Sync) (r pair.Replica, told string, err error) {
	p, err := d.promoted()
	if err != nil {
		return r, "", err
	}
	c, trouble := d.look(ctx, p.Active)
	lost := c.Reserves && c.Holder != d.Disk.Self()
	switch {
	case trouble != nil:
		c.Problem = trouble.Error()
	case p.Active && lost && d.Mount.State(ctx) != pair.Down:
		c.Problem = "the disk's reservation was lost: it refuses this node's writes"
	default:
		c.Problem = d.Mount.Full()
	}
	d.mu.Lock()
	d.seen = c
	d.mu.Unlock()
	r = pair.Replica{Role: pair.RoleStandby, Linked: true, Whole: c.Whole}
	switch {
	case p.Active && !lost: // also when the disk can not be asked
		r.Role, r.Waits = pair.RoleActive, true
	case !c.Whole:
		r.Role = pair.RoleOff
	}
	b, err := json.Marshal(c)
	return r, string(b), err
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
	if err := d.claim(ctx, !held); err != nil {
		return err
	}
	return errors.Join(d.note(promotion{s.Epoch, true, true}), made(d.Dir), d.fresh(ctx))
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
func (d *Shared) claim(ctx context.Context, take bool) error {
	err := d.Disk.Claim(ctx, take)
	if errors.Is(err, shared.ErrNone) {
		return nil
	}
	return err
}

// Demote gives the reservation back, after it was seen that nothing of this node has the disk.
// One whose disk does not answer fails: what it has sent may be on its way still.
func (d *Shared) Demote(ctx context.Context, _ bool) error {
	if s := d.Mount.State(ctx); s != pair.Down {
		return fail.Errorf(fail.Failed, "%s is in use: it may be written", d.Disk.Path())
	}
	if err := d.Disk.Release(ctx); err != nil && !errors.Is(err, shared.ErrNone) {
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
	if err := d.claim(ctx, false); err != nil {
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
