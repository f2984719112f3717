package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/feature/attempt"
)

const (
	poll      = time.Second // between two looks
	backLimit = 5 * time.Minute
)

// Statuses of a server.
const (
	active = "ACTIVE"
	off    = "SHUTOFF"
	verify = "VERIFY_RESIZE"
	broken = "ERROR"
)

// run is one run on one guest.
type run struct {
	platform
	attempt.Stack
	order  feature.CloudOrder
	facts  feature.CloudFacts
	was    server // before the run
	ports  []port // before the run
	flavor string // ID of that for a resize
	fresh  string // ID of the new guest
	volume string // ID of the volume
}

// Run tries all features on the guest of an order and tells when each begins. Everything is put back, also after a
// failure or when ctx ends; what could not be is in Report.Left. Errors come before anything is done: Invalid, the
// login, the guest, the target or the flavor is not known; Refused, the guest can not be tried on; Unavailable, an API is not reached.
func Run(ctx context.Context, o feature.CloudOrder, tell func(feature.Progress)) (*feature.Report, error) {
	c, err := meet(ctx, o.Getenv)
	if err != nil {
		return nil, err
	}
	r := &run{platform: c, order: o, Stack: attempt.Stack{Limit: backLimit + 3*o.Wait}}
	if err := r.find(ctx); err != nil {
		return nil, err
	}
	if err := r.lookAt(ctx); err != nil {
		return nil, err
	}
	rep := &feature.Report{
		Guest: feature.Guest{Name: r.was.Name, UUID: r.was.ID}, Nova: fmt.Sprint("2.", c.Latest), At: time.Now().UTC().Truncate(time.Second),
	}
	attempt.Run(ctx, rep, feature.AllOfAPI(), r, tell)
	return rep, nil
}

// find finds the guest, and refuses one that can not be tried on.
func (r *run) find(ctx context.Context) error {
	all, err := r.named(ctx, r.order.Guest)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		s, err := r.server(ctx, strings.ToLower(url.PathEscape(r.order.Guest)))
		switch {
		case cloud.Absent(err):
			return fail.Errorf(fail.Invalid, "--guest %s: Nova does not know a guest of this name or UUID in the "+
				"project of the login", r.order.Guest).With("openstack server list")
		case err != nil:
			return err
		}
		all = []server{s}
	}
	if len(all) > 1 {
		return fail.Errorf(fail.Invalid, "--guest %s: %d guests have this name; want a UUID", r.order.Guest, len(all))
	}
	r.was = all[0]
	if why := r.unfit(); why != "" {
		return fail.Errorf(fail.Refused, "guest %s: %s", r.was.Name, why)
	}
	return r.leftovers(ctx)
}

// unfit says why a guest can not be tried on.
func (r *run) unfit() string {
	switch s := r.was; {
	case s.Project != r.Project:
		return fmt.Sprintf("it belongs to project %s, and the login is of project %s: log in to that of the guest", s.Project, r.Project)
	case s.Host == "":
		return "Nova does not tell on which host it is: log in with the role admin"
	case s.Task != "":
		return "task " + s.Task + ": want one with which nothing is under way"
	case s.Status != active && s.Status != off:
		return "its status is " + s.Status + ": want " + active + " or " + off
	case s.Locked:
		return "it is locked: unlock it first (openstack server unlock)"
	}
	return ""
}

// newName names the new guest after the test guest.
func (r *run) newName() string { return r.was.Name + "-holdfast-feature" }

// mark names volumes and images.
func (r *run) mark() string { return "holdfast-feature-" + r.was.ID }

// leftovers refuses what an earlier run has left.
func (r *run) leftovers(ctx context.Context) error {
	left := func(what, name, remedy string) error {
		return fail.Errorf(fail.Refused, "there is a %s %s, which an earlier run has left: remove it first", what, name).With(remedy + " " + name)
	}
	servers, err := r.named(ctx, r.newName())
	if err != nil {
		return err
	}
	if len(servers) > 0 {
		return left("guest", r.newName(), "openstack server delete")
	}
	query := "?" + url.Values{"name": {r.mark()}}.Encode()
	if r.Cinder != nil {
		var got struct {
			Volumes []struct{} `json:"volumes"`
		}
		if err := cloud.Get(ctx, r.Cinder, "volumes"+query, 0, &got); err != nil {
			return err
		}
		if len(got.Volumes) > 0 {
			return left("volume", r.mark(), "openstack volume delete")
		}
	}
	if r.Glance != nil {
		var got struct {
			Images []struct{} `json:"images"`
		}
		if err := cloud.Get(ctx, r.Glance, "images"+query, 0, &got); err != nil {
			return err
		}
		if len(got.Images) > 0 {
			return left("image", r.mark(), "openstack image delete")
		}
	}
	return nil
}

// lookAt fills in what decides on features.
func (r *run) lookAt(ctx context.Context) (err error) {
	r.facts = feature.CloudFacts{
		Version: r.Latest, Volumes: r.Cinder != nil, Images: r.Glance != nil, Image: r.was.Image != "",
		Service: r.order.URL != "", CloudInit: r.order.CloudInit,
	}
	if r.Neutron != nil {
		if r.ports, err = r.portsOf(ctx, r.was.ID); err != nil {
			return err
		}
		r.facts.Port = len(r.ports) > 0
		r.facts.Down = r.facts.Port && !r.ports[0].Up
	}
	if r.facts.Port && r.order.CloudInit {
		subnets, err := r.dhcp(ctx, r.ports[0].Network)
		if err != nil {
			return err
		}
		r.facts.DHCP = len(subnets) > 0
	}
	if err := r.hosts(ctx); err != nil {
		return err
	}
	return r.findFlavor(ctx)
}

// hosts counts the compute hosts to which the guest could be moved.
func (r *run) hosts(ctx context.Context) error {
	var got struct {
		Services []struct {
			Host   string `json:"host"`
			State  string `json:"state"`
			Status string `json:"status"`
		} `json:"services"`
	}
	if err := cloud.Get(ctx, r.Nova, "os-services?binary=nova-compute", cloud.Base, &got); err != nil {
		return err
	}
	var fit []string
	for _, s := range got.Services {
		if s.Host != r.was.Host && s.State == "up" && s.Status == "enabled" {
			fit = append(fit, s.Host)
		}
	}
	if t := r.order.Target; t != "" && !slices.Contains(fit, t) {
		return fail.Errorf(fail.Invalid, "--target %s: want a host with a nova-compute that is up and enabled, "+
			"beside the guest's %s; there are: %s",
			t, r.was.Host, strings.Join(fit, ", ")).With("openstack compute service list --service nova-compute")
	}
	r.facts.Hosts = len(fit)
	return nil
}

// findFlavor finds the flavor for a resize.
func (r *run) findFlavor(ctx context.Context) error {
	if r.order.Flavor == "" {
		return nil
	}
	var got struct {
		Flavors []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"flavors"`
	}
	if err := cloud.Get(ctx, r.Nova, "flavors?is_public=None", cloud.Base, &got); err != nil {
		return err
	}
	for _, f := range got.Flavors {
		if f.ID == r.order.Flavor || f.Name == r.order.Flavor {
			r.flavor = f.ID
		}
	}
	switch r.flavor {
	case "":
		return fail.Errorf(fail.Invalid, "--flavor %s: Nova does not know a flavor of this name or ID",
			r.order.Flavor).With("openstack flavor list --all")
	case r.was.Flavor.ID:
		return fail.Errorf(fail.Invalid, "--flavor %s: the guest has it already; want another one", r.order.Flavor)
	}
	r.facts.Flavor = true
	return nil
}

// Skip tells why a feature can not be tried; "": it can.
func (r *run) Skip(n feature.Name) string { return r.facts.Skip(n) }

// Ready puts back what was done before, and sees that the guest runs where it ran.
func (r *run) Ready(ctx context.Context) error {
	if err := r.Unwind(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := attempt.Persist(ctx, r.home); err != nil {
		return fmt.Errorf("it must run and does not: %w", err)
	}
	return nil
}

// Restore puts back all that is left to be, and says what it could not.
func (r *run) Restore(ctx context.Context) []string {
	return r.Drain(ctx,
		attempt.Undo{What: "it does not run, or is not off, as before", Do: r.stand},
		attempt.Undo{What: "it is not as before", Do: r.same},
	)
}

// Try tries one feature. nil: it was done, and read back.
func (r *run) Try(ctx context.Context, n feature.Name) error {
	switch n {
	case feature.Restart:
		return r.act(ctx, r.was.ID, cloud.Base, map[string]any{"reboot": map[string]any{"type": "SOFT"}}, active)
	case feature.Stop:
		return r.act(ctx, r.was.ID, cloud.Base, map[string]any{"os-stop": nil}, off)
	case feature.Start:
		return r.started(ctx)
	case feature.Attach:
		return r.attach(ctx)
	case feature.Detach:
		return r.detach(ctx)
	case feature.Image:
		return r.image(ctx)
	case feature.Down:
		return r.linkDown(ctx)
	case feature.Up:
		return r.link(ctx, true)
	case feature.Resize:
		return r.resize(ctx)
	case feature.Live:
		return r.live(ctx)
	case feature.Cold:
		return r.cold(ctx)
	case feature.New:
		return r.newGuest(ctx)
	case feature.Inside:
		return r.inside(ctx)
	case feature.Rebuild:
		return r.rebuild(ctx)
	case feature.Metadata:
		return r.metadata(ctx)
	}
	return fmt.Errorf("%s is not known", n)
}

// act has Nova do something with a server, and waits until it has, and the server has a status.
func (r *run) act(ctx context.Context, id string, version int, body map[string]any, status string) error {
	request, _, err := cloud.Send(ctx, r.Nova, "POST", "servers/"+id+"/action", version, body, nil)
	if err != nil {
		return err
	}
	return r.ended(ctx, id, request, status)
}

// ended waits until an action has ended well, all parts of it, and the server has a status.
func (r *run) ended(ctx context.Context, id, request, status string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.order.Wait, fmt.Errorf("not done after %s", r.order.Wait))
	defer cancel()
	for {
		s, err := r.server(ctx, id)
		var parts []event
		if err == nil && request != "" {
			parts, err = r.events(ctx, id, request)
		}
		done := len(parts) > 0
		for _, e := range parts {
			if e.Result == "Error" {
				return fmt.Errorf("%s: %s", e.Name, lastLine(e.Traceback))
			}
			done = done && e.Result == "Success"
		}
		switch {
		case err == nil && s.Status == broken:
			return fmt.Errorf("its status is %s: %s", s.Status, s.Fault.Message)
		case err == nil && done && s.Task == "" && s.Status == status:
			return powered(s)
		}
		if !clock.Sleep(ctx, poll) {
			return errors.Join(context.Cause(ctx), fmt.Errorf("its status is %s, task %s", s.Status, s.busy()), err)
		}
	}
}

// powered reads back what the hypervisor said last.
func powered(s server) error {
	if want := map[string]power{active: powerOn, off: powerOff}[s.Status]; want > 0 && s.Power != want {
		return fmt.Errorf("its status is %s, and its power state %s: want %s", s.Status, s.Power, want)
	}
	return nil
}

// lastLine is the last line of a traceback, which tells the error.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "Nova tells no reason"
}

// home makes the guest run on its host with its flavor, whatever state it is in.
func (r *run) home(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*r.order.Wait, fmt.Errorf("not done after %s", 3*r.order.Wait))
	defer cancel()
	for {
		s, err := r.server(ctx, r.was.ID)
		if err != nil {
			return err
		}
		isHome := s.Host == r.was.Host && s.Flavor.ID == r.was.Flavor.ID
		switch {
		case s.Task != "": // it ends by itself
			err = nil
		case s.Status == active && isHome:
			return powered(s)
		case s.Status == verify && isHome:
			err = r.act(ctx, s.ID, cloud.Base, map[string]any{"confirmResize": nil}, active)
		case s.Status == verify:
			err = r.act(ctx, s.ID, cloud.Base, map[string]any{"revertResize": nil}, active)
		case s.Status == off:
			err = r.act(ctx, s.ID, cloud.Base, map[string]any{"os-start": nil}, active)
		case s.Status == broken:
			err = r.act(ctx, s.ID, cloud.Base, map[string]any{"reboot": map[string]any{"type": "HARD"}}, active)
		case s.Status == active && s.Flavor.ID == r.was.Flavor.ID:
			if r.moveLive(ctx, r.was.Host) != nil { // what does not move live moves cold
				err = r.moveCold(ctx, r.was.Host)
			}
		case s.Status == active:
			return fmt.Errorf("its flavor is %s, and was %s", s.Flavor.ID, r.was.Flavor.ID)
		}
		if err != nil {
			return err
		}
		if !clock.Sleep(ctx, poll) {
			return errors.Join(context.Cause(ctx), fmt.Errorf("its status is %s, task %s, on host %s", s.Status, s.busy(), s.Host))
		}
	}
}

// stand makes the guest run if it ran, and be off if it was.
func (r *run) stand(ctx context.Context) error {
	s, err := r.server(ctx, r.was.ID)
	if err == nil && s.Status == r.was.Status && s.Task == "" && s.Host == r.was.Host {
		return nil
	}
	if err := r.home(ctx); err != nil || r.was.Status == active {
		return err
	}
	return r.act(ctx, r.was.ID, cloud.Base, map[string]any{"os-stop": nil}, off)
}

// same reads back that the guest is as it was.
func (r *run) same(ctx context.Context) error {
	now, err := r.server(ctx, r.was.ID)
	if err != nil {
		return err
	}
	var bad []error
	differs := func(what string, was, now any) {
		if !reflect.DeepEqual(was, now) {
			bad = append(bad, fmt.Errorf("%s: was %s, is %s", what, shown(was), shown(now)))
		}
	}
	differs("status", r.was.Status, now.Status)
	differs("power state", r.was.Power, now.Power)
	differs("task", r.was.Task, now.Task)
	differs("host", r.was.Host, now.Host)
	differs("flavor", r.was.Flavor.ID, now.Flavor.ID)
	differs("image", r.was.Image, now.Image)
	differs("metadata", r.was.Metadata, now.Metadata)
	differs("addresses", r.was.Addresses, now.Addresses)
	differs("volumes", r.was.Volumes, now.Volumes)
	if r.Neutron != nil {
		ports, err := r.portsOf(ctx, r.was.ID)
		if err != nil {
			return err
		}
		differs("ports", r.ports, ports)
	}
	return errors.Join(bad...)
}

// shown writes a value as the API does, for people.
func shown(v any) string {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	switch s := strings.Trim(string(text), `"`); s {
	case "", "null", "[]", "{}":
		return "none"
	default:
		return s
	}
}
