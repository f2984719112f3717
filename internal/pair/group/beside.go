package group

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Composite is the copy of the group's own data with a partition beside it, a DRBD device. To the
// core they are one copy: it is complete when both are, and the active one acknowledges alone, or
// waits for its peer, on both. The group's own data say which role the node has. The partition is
// promoted by a member, Promoted, and mounted by the next one, so it can come and go while the group runs.
type Composite struct {
	Data      // the group's own
	Part Side // what the file system of the partition is on

	mu     sync.Mutex
	record pair.Sync    // as at the last look
	own    pair.Replica // at the last look
	part   pair.Replica
	anew   bool // one of them waited for the peer while the other one did not: what was joined before does not count
}

var _ Data = (*Composite)(nil)

// Side is a copy beside another one, a DRBD device.
type Side interface {
	Data
	retainer
	Last() Copy // at the last look
	// Status is how it is now, Glance the same at less cost.
	Status(ctx context.Context) (drbd.State, error)
	Glance(ctx context.Context) (drbd.State, error)
}

var _ Side = (*Device)(nil)

// Look looks at both.
func (b *Composite) Look(ctx context.Context, s pair.Sync) (r pair.Replica, told string, err error) {
	if r, told, err = b.Data.Look(ctx, s); err != nil {
		return r, told, err
	}
	p, _, perr := b.Part.Look(ctx, s)
	if perr != nil && r.Role != pair.RoleActive {
		return pair.Replica{}, told, fmt.Errorf("the partition: %w", perr)
	}
	// An active node goes on with its own data while the partition can not be looked at; it does
	// not count as linked then.
	st := b.Part.Last()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.record, b.own, b.part = s, r, p
	if r.Role == pair.RoleActive {
		b.active(&r, p, perr == nil && st.Linked() && !st.Frozen())
	} else {
		r.Linked = r.Linked && p.Linked && p.Role == pair.RoleStandby
	}
	r.Whole = r.Whole && p.Whole
	r.Wrote = r.Wrote || p.Wrote
	return r, told, nil
}

// active is how both wait for the peer. Waits has the core let writes go on alone when the peer is
// not linked, so it is true then as soon as one of them waits. The caller has the lock.
func (b *Composite) active(r *pair.Replica, p pair.Replica, linked bool) {
	r.Linked = r.Linked && linked
	if p.Role != pair.RoleActive { // nobody writes to the partition
		p.Waits = r.Waits
	}
	b.anew = b.anew || r.Waits != p.Waits
	if r.Linked {
		r.Waits = r.Waits && p.Waits && !b.anew
	} else {
		r.Waits = r.Waits || p.Waits
	}
}

// settle says that both are as the last action has left them.
func (b *Composite) settle(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.anew = b.anew && err != nil
	return err
}

// Alone lets writes end without the peer, on both. A partition that is not promoted waits when it is, until this is called again.
func (b *Composite) Alone(ctx context.Context) error {
	err := b.Data.Alone(ctx)
	st, perr := b.Part.Glance(ctx)
	if perr == nil && st.Role == "Primary" {
		perr = b.Part.Alone(ctx)
	}
	return b.settle(errors.Join(err, perr))
}

// Join reports that the peer has everything of both, and that later writes wait for it. The proof
// is that of the group's own data.
func (b *Composite) Join(ctx context.Context, told string) (proof string, err error) {
	st, err := b.Part.Status(ctx)
	switch {
	case err != nil:
	case st.Role == "Primary":
		_, err = b.Part.Join(ctx, told)
	case !st.Linked():
		err = fail.Errorf(fail.Failed, "the peer does not have the partition's data")
	}
	if err == nil {
		proof, err = b.Data.Join(ctx, told)
	}
	return proof, b.settle(err)
}

// Drain ends all writing after the peer has got everything. The partition was given back by its
// member before.
func (b *Composite) Drain(ctx context.Context, told string) error {
	st, err := b.Part.Status(ctx)
	switch {
	case err != nil:
		return err
	case st.Role != "Secondary":
		return fail.Errorf(fail.Failed, "the partition is still active")
	case !st.Linked():
		return fail.Errorf(fail.Failed, "the peer does not have the partition's data")
	}
	return b.Data.Drain(ctx, told)
}

// Follow has that copy follow the peer's which does not. Cut: what it alone has is lost, of the
// partition without being saved.
func (b *Composite) Follow(ctx context.Context, cut bool) error {
	b.mu.Lock()
	own, part := b.own, b.part
	b.mu.Unlock()
	var err error
	if !part.Linked {
		if err = b.Part.Follow(ctx, cut && (part.Wrote || !part.Whole)); err != nil {
			err = fmt.Errorf("the partition: %w", err)
		}
	}
	if !own.Linked { // it may take hours, and is not kept waiting for the partition
		err = errors.Join(err, b.Data.Follow(ctx, cut && (own.Wrote || !own.Whole)))
	}
	return err
}

// Retain makes both copies ones that may be promoted with what they have.
func (b *Composite) Retain(ctx context.Context) error {
	if own, ok := b.Data.(retainer); ok {
		if err := own.Retain(ctx); err != nil {
			return err
		}
	}
	if err := b.Part.Retain(ctx); err != nil {
		return fmt.Errorf("the partition: %w", err)
	}
	return nil
}

// Ready reports that the peer of the own copy could take the group now.
func (b *Composite) Ready(ctx context.Context) error {
	if own, ok := b.Data.(ready); ok {
		return own.Ready(ctx)
	}
	return nil
}

// Reopen lets clients write to the own copy again; the partition goes on.
func (b *Composite) Reopen(ctx context.Context) error {
	own, ok := b.Data.(opener)
	if !ok {
		return fail.Errorf(fail.Refused, "this copy can not be made writable again without being started anew")
	}
	return own.Reopen(ctx)
}

// Describe tells people how the own copy was at the last look.
func (b *Composite) Describe(r *cluster.PairReport) {
	if t, ok := b.Data.(interface{ Describe(*cluster.PairReport) }); ok {
		t.Describe(r)
	}
}

// license is the record by which the group runs.
func (b *Composite) license() pair.Sync {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.record
}

// Promoted is a member that is the partition's device as the primary, below its file system. The
// core starts members on the node that has the license, when its own data are active, and no others.
type Promoted struct {
	Name     string
	Restarts int
	Copy     *Composite
}

// Spec is what the core knows of it.
func (p *Promoted) Spec() pair.Member { return pair.Member{Name: p.Name, Restarts: p.Restarts} }

// State looks at the device. A primary whose own disk has failed is a failure, although DRBD would go
// on with the peer's: the other node has a whole copy.
func (p *Promoted) State(ctx context.Context) pair.State {
	st, err := p.Copy.Part.Glance(ctx)
	switch {
	case err != nil, st.Up && st.Role == "":
		return pair.StateUnknown
	case st.Role == "Primary" && st.Good():
		return pair.Up
	case st.Role == "Primary":
		return pair.Failed
	}
	return pair.Down
}

// Start promotes the device. Without the peer all writes are held back until the core says that
// they may go on alone.
func (p *Promoted) Start(ctx context.Context) error {
	return p.Copy.Part.Promote(ctx, p.Copy.license())
}

// Stop makes it a secondary. The file system on it has ended before.
func (p *Promoted) Stop(ctx context.Context, hard bool) error { return p.Copy.Part.Demote(ctx, hard) }
