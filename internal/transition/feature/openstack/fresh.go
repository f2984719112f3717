package openstack

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"holdfast/internal/transition/cloud"
)

// hostVersion is the minor version of Nova's API from which on a new server may name its host. Before, its availability
// zone names it, which passes the scheduler's filters by.
const hostVersion = 74

// newGuest has Nova make a guest like the test guest, on its host and its first port's network.
func (r *run) newGuest(ctx context.Context) error {
	r.fresh = ""
	r.Later("guest "+r.newName()+" is still there", r.dropGuest)
	want := map[string]any{"name": r.newName(), "imageRef": r.was.Image, "flavorRef": r.was.Flavor.ID}
	if len(r.ports) > 0 {
		want["networks"] = []map[string]any{{"uuid": r.ports[0].Network}}
	}
	version := cloud.Base
	if r.Latest >= hostVersion {
		version, want["host"] = hostVersion, r.was.Host
		if len(r.ports) == 0 {
			want["networks"] = "none"
		}
	} else {
		want["availability_zone"] = r.was.Zone + ":" + r.was.Host
	}
	if r.order.CloudInit {
		want["user_data"] = userData()
	}
	var got struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
	}
	request, _, err := cloud.Send(ctx, r.Nova, "POST", "servers", version, map[string]any{"server": want}, &got)
	if err != nil {
		return err
	}
	r.fresh = got.Server.ID
	if err := r.ended(ctx, r.fresh, request, active); err != nil {
		return err
	}
	return r.freshIsUp(ctx)
}

// freshIsUp reads back that the new guest runs on the test guest's host, with as many ports as it should have.
func (r *run) freshIsUp(ctx context.Context) error {
	s, err := r.server(ctx, r.fresh)
	if err != nil {
		return err
	}
	if s.Host != r.was.Host || s.Flavor.ID != r.was.Flavor.ID || s.Image != r.was.Image {
		return fmt.Errorf("it is on host %s with flavor %s and image %s: want %s, %s and %s", s.Host, s.Flavor.ID,
			s.Image, r.was.Host, r.was.Flavor.ID, r.was.Image)
	}
	if len(r.ports) == 0 {
		return nil
	}
	ports, err := r.portsOf(ctx, r.fresh)
	if err == nil && len(ports) != 1 {
		err = fmt.Errorf("it has %d ports: want 1", len(ports))
	}
	return errors.Join(err, r.bound(ctx, s))
}

// rebuild has Nova make the new guest's disk anew from its image, or that of the test guest if the order says so.
func (r *run) rebuild(ctx context.Context) error {
	id := r.fresh
	if r.order.Rebuild {
		id = r.was.ID
	}
	if id == "" {
		return errors.New("there is no new guest to rebuild")
	}
	if err := r.act(ctx, id, cloud.Base, map[string]any{"rebuild": map[string]any{"imageRef": r.was.Image}}, active); err != nil {
		return err
	}
	if !r.order.Rebuild {
		return r.freshIsUp(ctx)
	}
	return r.at(ctx, r.was.Host)
}

// dropGuest sees that there is no new guest any more, and no port of it.
func (r *run) dropGuest(ctx context.Context) error {
	if r.fresh == "" { // the answer to its making may be lost
		all, err := r.named(ctx, r.newName())
		if err != nil || len(all) == 0 {
			return err
		}
		r.fresh = all[0].ID
	}
	err := r.gone(ctx, func(ctx context.Context) error {
		_, _, err := cloud.Send(ctx, r.Nova, "DELETE", "servers/"+r.fresh, cloud.Base, nil, nil)
		return err
	}, func(ctx context.Context) error {
		_, err := r.server(ctx, r.fresh)
		return err
	})
	if err != nil || r.Neutron == nil {
		return err
	}
	ports, err := r.portsOf(ctx, r.fresh)
	if err == nil && len(ports) > 0 {
		err = fmt.Errorf("it is gone, and port %s is there", ports[0].ID)
	}
	if err == nil {
		r.fresh = ""
	}
	return err
}

// metadata asks Nova's metadata service in the guest's name, as Neutron's metadata agent does: with the signature of
// its ID (nova/api/metadata/handler.py). The way from a guest to that agent is seen by inside only.
func (r *run) metadata(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.order.URL, "/")+"/openstack/latest/meta_data.json", nil)
	if err != nil {
		return err
	}
	sum := hmac.New(sha256.New, []byte(r.order.Secret))
	sum.Write([]byte(r.was.ID))
	req.Header.Set("X-Instance-ID", r.was.ID)
	req.Header.Set("X-Tenant-ID", r.was.Project)
	req.Header.Set("X-Instance-ID-Signature", hex.EncodeToString(sum.Sum(nil)))
	res, err := (&http.Client{Timeout: cloud.Answer}).Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", req.URL, res.StatusCode, cloud.Message(text))
	}
	var got struct {
		UUID string `json:"uuid"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return fmt.Errorf("%s: it is not JSON: %w", req.URL, err)
	}
	if got.UUID != r.was.ID {
		return fmt.Errorf("%s: it tells of guest %q: want %s", req.URL, got.UUID, r.was.ID)
	}
	return nil
}
