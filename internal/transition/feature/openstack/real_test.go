package openstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/feature/openstack"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
)

// state is all that must be as before: servers, volumes, images, ports.
func state(c *nettest.Cloud) string {
	var b strings.Builder
	add := func(service, path string, fields ...string) {
		var got map[string]json.RawMessage
		c.Call("GET", service, path, "", nil, &got)
		for _, name := range []string{"servers", "volumes", "images", "ports"} {
			var all []map[string]any
			if json.Unmarshal(got[name], &all) != nil {
				continue // another kind, or none
			}
			var lines []string
			for _, o := range all {
				line := name
				for _, f := range fields {
					line += fmt.Sprintf(" %s=%v", f, o[f])
				}
				lines = append(lines, line)
			}
			slices.Sort(lines)
			b.WriteString(strings.Join(lines, "\n") + "\n")
		}
	}
	add("compute", "/servers/detail", "id", "name", "status", "OS-EXT-STS:task_state", "OS-EXT-STS:power_state",
		"OS-EXT-SRV-ATTR:host", "flavor", "image", "addresses", "metadata", "os-extended-volumes:volumes_attached")
	add("volume", "/volumes/detail", "id", "name", "status")
	add("image", "/images", "id", "name", "status")
	add("network", "/ports", "id", "admin_state_up", "binding:host_id", "device_id")
	return b.String()
}

func unchanged(t *testing.T, c *nettest.Cloud, before string) {
	t.Helper()
	if now := state(c); now != before {
		t.Errorf("not as before:\n%s\nwas:\n%s", now, before)
	}
}

func order(c *nettest.Cloud, guest string) feature.CloudOrder {
	return feature.CloudOrder{Guest: guest, Flavor: nettest.Large, URL: c.Metadata, Secret: nettest.Secret,
		CloudInit: true, Wait: feature.DefaultCloudWait, Getenv: c.Keys.Env}
}

func quiet(feature.Progress) {}

// TestRealPlatform: every feature by the real services, with Nova's fake driver; refusals; what fails, as it would on
// a platform of which a part is broken; interrupts.
func TestRealPlatform(t *testing.T) {
	need.Drill(t, "360, tests of features: each one by the real services, refusals, broken parts, interrupts")
	c := nettest.StartCloud(t, nettest.MariaDB)
	id := c.Guest("vm1")
	before := state(c)
	t.Run("all", func(t *testing.T) {
		r, err := openstack.Run(t.Context(), order(c, "vm1"), quiet)
		if err != nil {
			t.Fatal(err, c.Said())
		}
		if r.Guest.UUID != id || r.Count(feature.OK) != len(feature.AllOfAPI()) || len(r.Left) > 0 || !strings.HasPrefix(r.Nova, "2.") {
			t.Errorf("%+v\n%s", r, c.Said())
		}
		unchanged(t, c, before)
	})
	t.Run("refused", func(t *testing.T) {
		for name, change := range map[string]struct {
			kind fail.Kind
			do   func(*feature.CloudOrder)
		}{
			"guest":       {fail.Invalid, func(o *feature.CloudOrder) { o.Guest = "vm.*" }},
			"target":      {fail.Invalid, func(o *feature.CloudOrder) { o.Target = nettest.Hosts[0] }},
			"flavor":      {fail.Invalid, func(o *feature.CloudOrder) { o.Flavor = "huge" }},
			"same flavor": {fail.Invalid, func(o *feature.CloudOrder) { o.Flavor = nettest.Small }},
			"password": {fail.Invalid, func(o *feature.CloudOrder) {
				env := o.Getenv
				o.Getenv = func(name string) string { return map[string]string{"OS_PASSWORD": "wrong"}[name] + env(name) }
			}},
		} {
			o := order(c, "vm1")
			change.do(&o)
			var e *fail.Error
			if _, err := openstack.Run(t.Context(), o, quiet); !errors.As(err, &e) || e.Kind != change.kind {
				t.Errorf("%s: %v, want %s", name, err, change.kind)
			}
		}
		unchanged(t, c, before)
	})
	t.Run("a host that ended", func(t *testing.T) {
		c.Call("PUT", "compute", "/os-services/disable", "", map[string]string{"host": nettest.Hosts[1], "binary": "nova-compute"}, nil)
		defer c.Call("PUT", "compute", "/os-services/enable", "", map[string]string{"host": nettest.Hosts[1], "binary": "nova-compute"}, nil)
		o := order(c, "vm1")
		o.Flavor, o.Secret, o.Rebuild = "", "wrong", true
		r, err := openstack.Run(t.Context(), o, quiet)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Features {
			want := feature.OK
			switch f.Name {
			case feature.Live, feature.Cold, feature.Resize:
				want = feature.Skipped
			case feature.Metadata:
				want = feature.Failed
			}
			if f.Result != want {
				t.Errorf("%s: %s (%s), want %s", f.Name, f.Result, f.Why, want)
			}
		}
		unchanged(t, c, before)
	})
	for what, want := range map[string]string{"dhcp": "it did not get 10.1.0.", "metadata": "http://169.254.169.254 did not tell it"} {
		t.Run("a guest without "+what, func(t *testing.T) {
			c.Breaks(what)
			defer c.Mends(what)
			r, err := openstack.Run(t.Context(), order(c, "vm1"), quiet)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Features {
				if bad := f.Name == feature.Inside; bad != (f.Result == feature.Failed) || bad && !strings.Contains(f.Why, want) {
					t.Errorf("%s: %s (%s)", f.Name, f.Result, f.Why)
				}
			}
			unchanged(t, c, before)
		})
	}
	for _, at := range []struct {
		name  feature.Name
		after time.Duration
	}{{feature.Stop, 0}, {feature.Attach, 700 * time.Millisecond}, {feature.Image, time.Second},
		{feature.Cold, 4 * time.Second}, {feature.Live, 2 * time.Second}, {feature.New, 3 * time.Second}} {
		t.Run("interrupted in "+string(at.name), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := openstack.Run(ctx, order(c, id), func(p feature.Progress) {
				if p.Name == at.name {
					time.AfterFunc(at.after, cancel)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Interrupted || len(r.Left) > 0 {
				t.Errorf("%+v", r)
			}
			unchanged(t, c, before)
		})
	}
}
