package cli

import (
	"context"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/feature"
)

// fakeFeatures finds that a guest can do all that it is not named after: one called cold does not
// migrate cold. One called stuck can not be put back.
func fakeFeatures(_ context.Context, o feature.Order, tell func(feature.Progress)) (*feature.Report, error) {
	if o.Guest == "none" {
		return nil, fail.Errorf(fail.Invalid, "--guest %s: this host's libvirtd does not know a guest of this "+
			"name or UUID", o.Guest).With("virsh list --all")
	}
	r := &feature.Report{Guest: feature.Guest{Name: o.Guest, UUID: "98000000-0000-4000-8000-000000000001"},
		Libvirt: "9.0.0", QEMU: "7.2.22", At: clitest.Time()}
	facts := feature.Facts{Persistent: true, Disk: true, Card: true, Folder: true, Target: o.Target != ""}
	for i, n := range feature.All() {
		tell(feature.Progress{Name: n, Done: i, All: len(feature.All())})
		f := feature.Result{Name: n, Result: feature.OK, Seconds: (1500 * time.Millisecond).Seconds()}
		if f.Why = facts.Skip(n); f.Why != "" {
			f.Result, f.Seconds = feature.Skipped, 0
		} else if n == feature.Cold && o.Guest == "cold" {
			f.Result, f.Why = feature.Failed, "move to h2: no answer from libvirtd: context deadline exceeded"
		}
		r.Features = append(r.Features, f)
	}
	if o.Guest == "stuck" {
		r.Left = []string{"guest stuck-holdfast-feature is still there: no answer from libvirtd"}
	}
	return r, nil
}

// fakeCloudFeatures finds the same by the API of OpenStack; the metadata service answers to one secret only.
func fakeCloudFeatures(_ context.Context, o feature.CloudOrder, tell func(feature.Progress)) (*feature.Report, error) {
	if o.Guest == "none" {
		return nil, fail.Errorf(fail.Invalid, "--guest %s: Nova does not know a guest of this name or UUID in the "+
			"project of the login", o.Guest).With("openstack server list")
	}
	r := &feature.Report{Guest: feature.Guest{Name: o.Guest, UUID: "98000000-0000-4000-8000-000000000001"}, Nova: "2.93",
		At: clitest.Time()}
	facts := feature.CloudFacts{Version: 93, Volumes: true, Images: true, Image: true, Port: true, Hosts: 1,
		Flavor: o.Flavor != "", Service: o.URL != "", CloudInit: o.CloudInit, DHCP: true}
	for i, n := range feature.AllOfAPI() {
		tell(feature.Progress{Name: n, Done: i, All: len(feature.AllOfAPI())})
		f := feature.Result{Name: n, Result: feature.OK, Seconds: o.Wait.Minutes()}
		if f.Why = facts.Skip(n); f.Why != "" {
			f.Result, f.Seconds = feature.Skipped, 0
		} else if n == feature.Metadata && o.Secret != "s" {
			f.Result, f.Why = feature.Failed, "status 403: Invalid proxy request signature."
		}
		r.Features = append(r.Features, f)
	}
	return r, nil
}
