package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Fencer is the port to fence devices.
type Fencer interface {
	// Off orders the devices of one host, in their order, to switch it off, until
	// one has read its state back as off after the order, and names that one. They
	// must belong to the hardware machine, where both are known.
	Off(ctx context.Context, devices []config.FenceDevice, machine string) (device string, err error)
	// Look asks each device for its state, and whose it is, and orders nothing. An error is one of the configuration.
	Look(ctx context.Context, devices []config.FenceDevice, machine string) ([]cluster.FenceAnswer, error)
}

// fenceWithin bounds an order to all fence devices of a host. A slow management
// controller takes 2 to 10 s.
const fenceWithin = 20 * time.Second

// fence orders the devices of a host.
func (a *Agent) fence(act ha.Fence) call {
	devices := a.s.cfg.Fencing.Hosts[string(act.Host)].Devices
	return call{fenceWithin, func(ctx context.Context) ha.Outcome {
		began := time.Now()
		device, err := a.Fencer.Off(ctx, devices, act.Machine)
		a.Log.Info("fenced", "host", act.Host, "off", err == nil, "device", device, "took", time.Since(began), "err", err)
		if err != nil {
			return ha.Outcome{Why: err.Error()}
		}
		return ha.Outcome{OK: true, Device: device}
	}}
}

// Bounds of looking at the fence devices.
const (
	deviceEvery  = time.Minute
	deviceWithin = 15 * time.Second
	maxDeviceWhy = 2000 // bytes
)

// checkDevices asks, again and again, the fence devices of the next member in the
// configuration's order. A host can often not reach its own: it shares a port of
// the network with it. What is wrong shows in every host's status, before it is
// needed.
func (a *Agent) checkDevices(ctx context.Context) {
	for {
		var host cluster.HostID
		var machine string
		var devices []config.FenceDevice
		if !a.ask(ctx, func() {
			v := a.s.core
			if i := slices.Index(v.Order, v.Self); i >= 0 && v.Synced {
				host = v.Order[(i+1)%len(v.Order)]
				devices, machine = a.s.cfg.Fencing.Hosts[string(host)].Devices, v.Hosts[host].Machine
			}
		}) {
			return
		}
		again := deviceEvery
		if host == "" {
			again = healthEvery
		} else {
			var looked cluster.FenceCheck // without devices: at none
			if len(devices) > 0 {
				cctx, cancel := context.WithTimeout(ctx, deviceWithin)
				all, err := a.Fencer.Look(cctx, devices, machine)
				err = errors.Join(err, cluster.FenceTrouble(all))
				cancel()
				looked = cluster.FenceCheck{Host: host, Time: time.Now().UTC()}
				if err != nil {
					looked.Error = text.Cut(err.Error(), maxDeviceWhy)
				}
			}
			a.post(ctx, func() {
				a.s.looked = looked
				a.describe()
			})
		}
		if !clock.Sleep(ctx, again) {
			return
		}
	}
}

// TestFence asks the fence devices of a host for their state, and orders nothing. Where the host is this one, another
// member that is alive asks: a host often can not reach its own.
func (a *Agent) TestFence(ctx context.Context, user string, host cluster.HostID) (cluster.FenceTest, error) {
	var known bool
	var machine string
	var devices []config.FenceDevice
	if !a.ask(ctx, func() {
		known = slices.Contains(a.s.core.Order, host)
		devices, machine = a.s.cfg.Fencing.Hosts[string(host)].Devices, a.s.core.Hosts[host].Machine
	}) {
		return cluster.FenceTest{}, fail.Errorf(fail.Unavailable, "the agent is ending").With("ask again in some seconds")
	}
	switch {
	case !known:
		return cluster.FenceTest{}, fail.Errorf(fail.Invalid, "host %q: want a member of the cluster: others have no fence devices", host)
	case len(devices) == 0:
		return cluster.FenceTest{}, fail.Errorf(fail.Refused, "host %s has no fence device", host).
			With("Fencing of the configuration has those of each host: holdfast config export, config import")
	case host == a.Host:
		return a.testElsewhere(ctx, host)
	}
	out := cluster.FenceTest{Host: host, By: a.Host, Time: time.Now().UTC()}
	cctx, cancel := context.WithTimeout(ctx, deviceWithin)
	defer cancel()
	var err error
	out.Answers, err = a.Fencer.Look(cctx, devices, machine)
	for i := range out.Answers {
		out.Answers[i].Error = text.Cut(out.Answers[i].Error, maxDeviceWhy)
	}
	out.Took = time.Since(out.Time)
	a.Log.Info("fence devices are tested", "host", host, "user", user, "works", out.Works(), "took", out.Took, "err", err)
	if err != nil {
		return cluster.FenceTest{}, fail.Errorf(fail.Failed, "the fence devices of %s were not asked: %w", host, err)
	}
	return out, nil
}

// testElsewhere has the first other member that is alive ask the devices of this host.
func (a *Agent) testElsewhere(ctx context.Context, host cluster.HostID) (cluster.FenceTest, error) {
	s := a.Status()
	i := slices.IndexFunc(s.Hosts, func(h cluster.HostStatus) bool { return h.Name != host && h.Alive })
	if i < 0 || a.Peer == nil {
		return cluster.FenceTest{}, fail.Errorf(fail.Refused, "another host must ask the fence devices of %s, and %s reaches none", host, a.Host).
			With("run it on another member, or open its console")
	}
	p, err := a.Peer(s.Hosts[i].Name)
	if err != nil {
		return cluster.FenceTest{}, fmt.Errorf("have %s ask the fence devices of %s: %w", s.Hosts[i].Name, host, err)
	}
	defer p.Close()
	return p.TestFence(ctx, host)
}
