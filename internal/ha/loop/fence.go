package loop

import (
	"context"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/text"
)

// Fencer is the port to fence devices.
type Fencer interface {
	// Off orders the devices of one host, in their order, to switch it off, until
	// one has read its state back as off after the order, and names that one. They
	// must belong to the hardware machine, where both are known.
	Off(ctx context.Context, devices []config.FenceDevice, machine string) (device string, err error)
	// Check asks each device for its state, and whose it is, and joins what is wrong.
	Check(ctx context.Context, devices []config.FenceDevice, machine string) error
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
				err := a.Fencer.Check(cctx, devices, machine)
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
