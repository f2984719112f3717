package group

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Device is a copy that is a DRBD device. The file system on it is a member of the group,
// a Mount, and the first one: the device is active when it may be opened.
type Device struct {
	DB *drbd.Driver
	// Dir survives reboots. The file in it says that this copy was promoted, and has not followed since.
	Dir string
	// Mount is the file system on it, the first member of the group.
	Mount *Mount
	// Make puts on the device what the group begins with. The device is active, and nothing
	// uses it but Make. It is called again where it was cut short.
	Make func(ctx context.Context) error

	created outlast // the resource file was written, and the disk has what DRBD needs

	mu   sync.Mutex
	seen Copy // at the last look
}

var _ Data = (*Device)(nil)

// First makes two copies that have nothing yet good, and puts on them what the group begins
// with: both nodes are connected. Two that are good and have something are left as they are.
func (d *Device) First(ctx context.Context) (err error) {
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	if fresh := st.Disk == "Inconsistent" && st.PeerDisk == "Inconsistent"; fresh {
		if err := d.DB.First(ctx); err != nil {
			return err
		}
		if st, err = d.DB.Status(ctx); err != nil {
			return err
		}
	}
	if !st.Linked() || !st.Good() || st.Role != "Secondary" || st.PeerRole != "Secondary" {
		return fail.Errorf(fail.Refused, "DRBD: the copies are neither new nor the same: this one %s, %s, the other one %s, %s, connection %s",
			cmp.Or(st.Role, "off"), cmp.Or(st.Disk, "unknown"), cmp.Or(st.PeerRole, "unknown"),
			cmp.Or(st.PeerDisk, "unknown"), cmp.Or(st.Connection, "none"))
	}
	if d.Make == nil {
		return nil
	}
	if err := d.DB.Promote(ctx, "the pair begins"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.DB.Demote(context.WithoutCancel(ctx))) }()
	return makeOnce(ctx, d.Dir, d.DB.Device(), d.Make)
}

// createWithin is for programs that read all of DRBD's own data, or write them, where a processor is slow.
const createWithin = time.Minute

// create writes the resource file, once in the life of this process, and puts on the disk what DRBD needs. A look may be
// over before: on a host that is slow, or that works at its limit, the programs take seconds each.
func (d *Device) create(ctx context.Context) error {
	return d.created.wait(ctx, createWithin, d.DB.Create)
}

// Describe tells people how the copy was at the last look.
func (d *Device) Describe(r *cluster.PairReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.Data, r.Problem = d.DB.Device(), d.seen.Problem
}

// Copy is what a node tells of its copy.
type Copy struct {
	drbd.State
	Problem string `json:",omitempty"`
}

// Look says how the copy is. It attaches one that nothing has attached since the boot, and
// has it look for its peer; a copy that was promoted does that when it is told to follow.
func (d *Device) Look(ctx context.Context, _ pair.Sync) (r pair.Replica, told string, err error) {
	defer func() {
		if err != nil {
			d.see(Copy{Problem: err.Error()})
		}
	}()
	if err := d.create(ctx); err != nil {
		return r, "", err
	}
	_, wrote, err := readWrote(d.Dir)
	if err != nil {
		return r, "", err
	}
	st, err := d.DB.Glance(ctx)
	if err != nil {
		return r, "", err
	}
	begun, err := d.DB.Begun()
	if err != nil {
		return r, "", err
	}
	var trouble error
	switch {
	case st.Role == "Primary" && st.Alone():
		trouble = d.DB.Connect(ctx) // the other one gives up what it has, or neither end connects
	case !st.Up, st.Disk == "", !begun:
		trouble = d.DB.Up(ctx, !wrote)
	}
	if trouble == nil && st.Role == "Secondary" && wrote && st.Linked() && st.PeerRole == "Primary" && st.Disk == "UpToDate" {
		wrote, trouble = false, forgetWrote(d.Dir) // it follows whom it gave the group to
	}
	if st, err = d.DB.Glance(ctx); err != nil {
		return r, "", errors.Join(err, trouble)
	}
	r = pair.Replica{Wrote: wrote, Whole: st.Good()}
	switch {
	case st.Role == "Primary":
		r.Role, r.Linked = pair.RoleActive, st.Linked() && !st.Frozen()
	case st.Role == "Secondary":
		r.Role, r.Linked = pair.RoleStandby, !st.Alone()
	case !st.Up:
		r.Role = pair.RoleOff
	}
	if r.Waits, err = d.DB.Waits(st); err != nil {
		return pair.Replica{}, "", err
	}
	split, err := d.DB.Split(st)
	if err != nil {
		return pair.Replica{}, "", err
	}
	c := Copy{State: st}
	switch {
	case trouble != nil:
		c.Problem = trouble.Error()
	case split && !wrote:
		c.Problem = "split brain: this copy and the peer's have diverged"
	case d.Mount != nil:
		c.Problem = d.Mount.Full()
	}
	d.see(c)
	b, err := json.Marshal(c)
	return r, string(b), err
}

func (d *Device) see(c Copy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = c
}

// Status is how the device is now.
func (d *Device) Status(ctx context.Context) (drbd.State, error) { return d.DB.Status(ctx) }

// Glance is the same at less cost.
func (d *Device) Glance(ctx context.Context) (drbd.State, error) { return d.DB.Glance(ctx) }

// Last is how the copy was at the last look.
func (d *Device) Last() Copy {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

// Promote makes this copy the active one, by the license of the record.
func (d *Device) Promote(ctx context.Context, s pair.Sync) error {
	_, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.WriteFile(wroteFile(d.Dir), nil, 0o600), made(d.Dir)); err != nil {
		return err
	}
	err = d.DB.Promote(ctx, s.Epoch.String())
	var e *fail.Error
	if !wrote && errors.As(err, &e) && e.Kind == fail.Refused {
		err = errors.Join(err, forgetWrote(d.Dir)) // nothing was changed
	}
	return err
}

// Demote ends all writing. A copy that was promoted, and whose peer does not have everything, is
// not linked again before it is told to follow. Any other one goes on as it is.
func (d *Device) Demote(ctx context.Context, _ bool) error {
	if err := d.DB.Demote(ctx); err != nil {
		return err
	}
	_, wrote, err := readWrote(d.Dir)
	if err != nil || !wrote {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil || st.Linked() {
		return err
	}
	return d.DB.Detach(ctx)
}

// Drain ends all writing after the peer has got everything: what uses the device has ended.
func (d *Device) Drain(ctx context.Context, _ string) error {
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	waits, err := d.DB.Waits(st)
	if err != nil {
		return err
	}
	if !waits || !st.Linked() || st.Frozen() {
		return fail.Errorf(fail.Failed, "the peer does not have everything")
	}
	return d.DB.Demote(ctx)
}

// Alone lets writes end without the peer.
func (d *Device) Alone(ctx context.Context) error { return d.DB.Alone(ctx) }

// Join needs no proof in the record: a copy that misses anything says so itself.
func (d *Device) Join(ctx context.Context, _ string) (string, error) { return "", d.DB.Join(ctx) }

// Follow makes this copy follow the peer's. Cut: what it alone has is lost.
func (d *Device) Follow(ctx context.Context, cut bool) error {
	if err := d.DB.Resync(ctx, cut); err != nil {
		return err
	}
	return forgetWrote(d.Dir)
}

// Retain makes this copy one that may be promoted with what it has. What the other one has
// beside it is lost when that one follows: DRBD can not save it.
func (d *Device) Retain(ctx context.Context) error {
	_, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	if wrote {
		st, err := d.DB.Status(ctx)
		if err != nil || st.Good() {
			return err // it has kept all that it had, and a history of its own
		}
	}
	if err := d.DB.Retain(ctx); err != nil {
		return err
	}
	return durable.WriteFile(wroteFile(d.Dir), nil, 0o600)
}

// Unfollow ends following.
func (d *Device) Unfollow(ctx context.Context) error { return d.DB.Detach(ctx) }

// Close has nothing to close.
func (d *Device) Close() {}
