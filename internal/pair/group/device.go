package group

import (
	"context"
	"encoding/json"
	"errors"

	"holdfast/internal/durable"
	"holdfast/internal/fail"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/pair"
)

// Device is a copy that is a DRBD device. The file system on it is a member of the group,
// a Mount, and the first one: the device is active when it may be opened.
type Device struct {
	DB *drbd.Driver
	// Dir survives reboots. The file in it says that this copy was promoted, and has not followed since.
	Dir string
}

var _ Data = (*Device)(nil)

// First makes two copies that have nothing yet good: both nodes are connected.
func (d *Device) First(ctx context.Context) error { return d.DB.First(ctx) }

// Copy is what a node tells of its copy.
type Copy struct {
	drbd.State
	Problem string `json:",omitempty"`
}

// Look says how the copy is. It attaches one that nothing has attached since the boot, and
// has it look for its peer; a copy that was promoted does that when it is told to follow.
func (d *Device) Look(ctx context.Context, _ pair.Sync) (r pair.Replica, told string, err error) {
	_, wrote, err := readWrote(d.Dir)
	if err != nil {
		return r, "", err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return r, "", err
	}
	var trouble error
	switch {
	case st.Role == "Primary" && st.Alone():
		trouble = d.DB.Connect(ctx) // the other one gives up what it has, or neither end connects
	case !st.Up, st.Disk == "":
		trouble = d.DB.Up(ctx, !wrote)
	}
	if trouble == nil && st.Role == "Secondary" && wrote && st.Linked() && st.PeerRole == "Primary" && st.Disk == "UpToDate" {
		wrote, trouble = false, forgetWrote(d.Dir) // it follows whom it gave the group to
	}
	if st, err = d.DB.Status(ctx); err != nil {
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
		c.Problem = "split brain: this copy and the peer's went apart"
	}
	b, err := json.Marshal(c)
	return r, string(b), err
}

// Promote makes this copy the active one, by the license of the record.
func (d *Device) Promote(ctx context.Context, s pair.Sync) error {
	_, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(wroteFile(d.Dir), nil, 0o600); err != nil {
		return err
	}
	err = d.DB.Promote(ctx, s.Epoch.String())
	var e *fail.Error
	if !wrote && errors.As(err, &e) && e.Kind == fail.Refused {
		err = errors.Join(err, forgetWrote(d.Dir)) // nothing was changed
	}
	return err
}

// Demote ends all writing. A copy whose peer does not have everything is not linked again
// before it is told to follow.
func (d *Device) Demote(ctx context.Context, _ bool) error {
	if err := d.DB.Demote(ctx); err != nil {
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

// Unfollow ends following.
func (d *Device) Unfollow(ctx context.Context) error { return d.DB.Detach(ctx) }

// Close has nothing to close.
func (d *Device) Close() {}
