package openstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"

	"holdfast/internal/lib/clock"
	"holdfast/internal/transition/cloud"
)

// volumeSize is the size of the volume that is made, in GiB: Cinder's smallest.
const volumeSize = 1

// port is what Neutron tells of a port.
type port struct {
	ID      string `json:"id"`
	Network string `json:"network_id"`
	Up      bool   `json:"admin_state_up"`
	Status  string `json:"status"`
	Host    string `json:"binding:host_id"`
	VIF     string `json:"binding:vif_type"`
	Fixed   []struct {
		Subnet  string `json:"subnet_id"`
		Address string `json:"ip_address"`
	} `json:"fixed_ips"`
}

// portsOf are the ports of a server, in the order of their IDs.
func (c platform) portsOf(ctx context.Context, id string) ([]port, error) {
	var got struct {
		Ports []port `json:"ports"`
	}
	err := cloud.Get(ctx, c.Neutron, "ports?"+url.Values{"device_id": {id}}.Encode(), 0, &got)
	slices.SortFunc(got.Ports, func(a, b port) int { return cmp.Compare(a.ID, b.ID) })
	return got.Ports, err
}

func (c platform) port(ctx context.Context, id string) (port, error) {
	var got struct {
		Port port `json:"port"`
	}
	err := cloud.Get(ctx, c.Neutron, "ports/"+id, 0, &got)
	return got.Port, err
}

// linkDown takes the first port's link down.
func (r *run) linkDown(ctx context.Context) error {
	r.Later("port "+r.ports[0].ID+" is down", func(ctx context.Context) error {
		if now, err := r.port(ctx, r.ports[0].ID); err != nil || now.Up {
			return err
		}
		return r.link(ctx, true)
	})
	return r.link(ctx, false)
}

// link sets the state of the first port, and reads it back; also that its network agent has followed, if the port
// was plugged before.
func (r *run) link(ctx context.Context, up bool) error {
	was := r.ports[0]
	body := map[string]any{"port": map[string]any{"admin_state_up": up}}
	if _, _, err := cloud.Send(ctx, r.Neutron, "PUT", "ports/"+was.ID, 0, body, nil); err != nil {
		return err
	}
	want := map[bool]string{true: "ACTIVE", false: "DOWN"}[up]
	return r.await(ctx, func(ctx context.Context) (string, error) {
		now, err := r.port(ctx, was.ID)
		if err != nil {
			return "", err
		}
		if now.Up == up && (was.Status != "ACTIVE" || now.Status == want) {
			return "", nil
		}
		return fmt.Sprintf("port %s: admin_state_up is %v, status %s: want %v, %s", was.ID, now.Up, now.Status, up, want), nil
	})
}

// await waits until look finds nothing wrong, "".
func (r *run) await(ctx context.Context, look func(context.Context) (wrong string, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.order.Wait, fmt.Errorf("not done after %s", r.order.Wait))
	defer cancel()
	for {
		wrong, err := look(ctx)
		if err == nil && wrong == "" {
			return nil
		}
		if err != nil && !cloud.Passes(err) || !clock.Sleep(ctx, poll) {
			if wrong != "" {
				err = errors.Join(errors.New(wrong), err)
			}
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// volumeState is what Cinder tells of a volume.
type volumeState struct {
	Status      string `json:"status"`
	Attachments []struct {
		Server string `json:"server_id"`
	} `json:"attachments"`
}

func (c platform) volumeState(ctx context.Context, id string) (volumeState, error) {
	var got struct {
		Volume volumeState `json:"volume"`
	}
	err := cloud.Get(ctx, c.Cinder, "volumes/"+id, 0, &got)
	return got.Volume, err
}

// plugged reports whether Nova says that the guest has the volume.
func (r *run) plugged(ctx context.Context) (bool, error) {
	var got struct {
		All []struct {
			Volume string `json:"volumeId"`
		} `json:"volumeAttachments"`
	}
	err := cloud.Get(ctx, r.Nova, "servers/"+r.was.ID+"/os-volume_attachments", cloud.Base, &got)
	return slices.ContainsFunc(got.All, func(a struct {
		Volume string `json:"volumeId"`
	}) bool {
		return a.Volume == r.volume
	}), err
}

// attach has Cinder make a volume, and Nova plug it in. Both have to say that it is.
func (r *run) attach(ctx context.Context) error {
	r.volume = ""
	r.Later("volume "+r.mark()+" is still there", r.dropVolume)
	var got struct {
		Volume struct {
			ID string `json:"id"`
		} `json:"volume"`
	}
	body := map[string]any{"volume": map[string]any{"size": volumeSize, "name": r.mark(),
		"description": "a test of Holdfast, removed at once"}}
	if _, _, err := cloud.Send(ctx, r.Cinder, "POST", "volumes", 0, body, &got); err != nil {
		return err
	}
	r.volume = got.Volume.ID
	if err := r.volumeIs(ctx, "available"); err != nil {
		return err
	}
	body = map[string]any{"volumeAttachment": map[string]any{"volumeId": r.volume}}
	if _, _, err := cloud.Send(ctx, r.Nova, "POST", "servers/"+r.was.ID+"/os-volume_attachments", cloud.Base, body, nil); err != nil {
		return err
	}
	return r.volumeIs(ctx, "in-use")
}

// volumeIs waits until Cinder and Nova agree that the volume is in-use by the guest, or available.
func (r *run) volumeIs(ctx context.Context, status string) error {
	return r.await(ctx, func(ctx context.Context) (string, error) {
		v, err := r.volumeState(ctx, r.volume)
		if err != nil {
			return "", err
		}
		has, err := r.plugged(ctx)
		if err != nil {
			return "", err
		}
		of := slices.ContainsFunc(v.Attachments, func(a struct {
			Server string `json:"server_id"`
		}) bool {
			return a.Server == r.was.ID
		})
		if in := status == "in-use"; v.Status != status || has != in || of != in {
			return fmt.Sprintf("volume %s: its status is %s, and Nova says that the guest has it: %v; want %s", r.volume, v.Status, has, status), nil
		}
		return "", nil
	})
}

// detach asks for the volume back until Nova and Cinder say that it is.
func (r *run) detach(ctx context.Context) error {
	has, err := r.plugged(ctx)
	switch {
	case err != nil:
		return err
	case r.volume == "" || !has:
		return errors.New("it is not plugged in")
	}
	if _, _, err := cloud.Send(ctx, r.Nova, "DELETE", "servers/"+r.was.ID+"/os-volume_attachments/"+r.volume,
		cloud.Base, nil, nil); err != nil {
		return err
	}
	return r.volumeIs(ctx, "available")
}

// dropVolume sees that there is no volume of the run any more.
func (r *run) dropVolume(ctx context.Context) error {
	if r.volume == "" { // the answer to its making may be lost
		var got struct {
			Volumes []struct {
				ID string `json:"id"`
			} `json:"volumes"`
		}
		if err := cloud.Get(ctx, r.Cinder, "volumes?"+url.Values{"name": {r.mark()}}.Encode(), 0, &got); err != nil || len(got.Volumes) == 0 {
			return err
		}
		r.volume = got.Volumes[0].ID
	}
	has, err := r.plugged(ctx)
	if err != nil {
		return err
	}
	if has {
		if err := r.detach(ctx); err != nil {
			return err
		}
	}
	return r.gone(ctx, func(ctx context.Context) error {
		_, _, err := cloud.Send(ctx, r.Cinder, "DELETE", "volumes/"+r.volume, 0, nil, nil)
		return err
	}, func(ctx context.Context) error {
		_, err := r.volumeState(ctx, r.volume)
		return err
	})
}

// gone has something removed, and waits until it is not there any more. Nothing is wrong when it was not there.
func (r *run) gone(ctx context.Context, remove, look func(context.Context) error) error {
	if err := remove(ctx); err != nil && !cloud.Absent(err) {
		return err
	}
	return r.await(ctx, func(ctx context.Context) (string, error) {
		err := look(ctx)
		if cloud.Absent(err) {
			return "", nil
		}
		return "it is there after it was removed", err
	})
}

// image has Nova make an image of the guest's disk, and reads it back from Glance.
func (r *run) image(ctx context.Context) error {
	r.Later("image "+r.mark()+" is still there", r.dropImage)
	body := map[string]any{"createImage": map[string]any{"name": r.mark()}}
	request, head, err := cloud.Send(ctx, r.Nova, "POST", "servers/"+r.was.ID+"/action", cloud.Base, body, nil)
	if err != nil {
		return err
	}
	id := path.Base(head.Get("Location"))
	if err := r.ended(ctx, r.was.ID, request, active); err != nil {
		return err
	}
	err = r.await(ctx, func(ctx context.Context) (string, error) {
		var got struct {
			Status string `json:"status"`
			Size   int64  `json:"size"`
		}
		if err := cloud.Get(ctx, r.Glance, "images/"+url.PathEscape(id), 0, &got); err != nil {
			return "", err
		}
		// One of a guest that boots from a volume has no data: its snapshot has.
		if got.Status != "active" || got.Size == 0 && r.was.Image != "" {
			return fmt.Sprintf("image %s: its status is %s, its size %d bytes: want active, and data", id, got.Status, got.Size), nil
		}
		return "", nil
	})
	return err
}

// dropImage sees that there is no image of the run any more.
func (r *run) dropImage(ctx context.Context) error {
	var got struct {
		Images []struct {
			ID string `json:"id"`
		} `json:"images"`
	}
	list := func(ctx context.Context) error {
		return cloud.Get(ctx, r.Glance, "images?"+url.Values{"name": {r.mark()}}.Encode(), 0, &got)
	}
	if err := list(ctx); err != nil {
		return err
	}
	for _, i := range got.Images {
		if _, _, err := cloud.Send(ctx, r.Glance, "DELETE", "images/"+i.ID, 0, nil, nil); err != nil && !cloud.Absent(err) {
			return err
		}
	}
	if err := list(ctx); err != nil {
		return err
	}
	if len(got.Images) > 0 {
		return errors.New("it is there after it was removed")
	}
	return nil
}
