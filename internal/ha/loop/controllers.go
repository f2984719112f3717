package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/bmc"
)

// Controllers is the Fencer of real management controllers.
type Controllers struct{ Log *slog.Logger }

// Off implements Fencer.
func (b Controllers) Off(ctx context.Context, devices []config.FenceDevice, machine string) (string, error) {
	chain, err := b.chain(devices, machine)
	if err != nil {
		return "", err
	}
	return chain.Off(ctx)
}

// Look implements Fencer.
func (b Controllers) Look(ctx context.Context, devices []config.FenceDevice, machine string) (out []cluster.FenceAnswer, err error) {
	chain, err := b.chain(devices, machine)
	for _, d := range chain {
		st, cerr := d.Check(ctx)
		out = append(out, cluster.FenceAnswered(d.Name(), st.On, cerr))
	}
	return out, err
}

func (b Controllers) chain(devices []config.FenceDevice, machine string) (bmc.Chain, error) {
	var chain bmc.Chain
	for i, d := range devices {
		o := bmc.Options{
			Type: d.Type, Address: d.Address, User: d.User, PasswordFile: strings.TrimPrefix(d.Credential, "file:"),
			Machine: machine, Fingerprint: d.Fingerprint, System: d.System, Log: b.Log,
		}
		if d.Machine != "" {
			o.Machine = strings.ToLower(d.Machine)
		}
		dev, err := bmc.New(o)
		if err != nil {
			return nil, fmt.Errorf("fence device %d: %w", i+1, err)
		}
		chain = append(chain, dev)
	}
	return chain, nil
}

// Devices are those of one host.
type Devices struct {
	by  Controllers
	all []config.FenceDevice
}

// Of has the devices of one host.
func (b Controllers) Of(devices []config.FenceDevice) Devices { return Devices{b, devices} }

// Off has the host switched off, and proved to be.
func (d Devices) Off(ctx context.Context, machine string) error {
	_, err := d.by.Off(ctx, d.all, machine)
	return err
}

// ShownOff is nil when one of them shows that the host is off.
func (d Devices) ShownOff(ctx context.Context, machine string) error {
	chain, err := d.by.chain(d.all, machine)
	if err != nil {
		return err
	}
	return chain.ShownOff(ctx)
}

// Check is nil when all of them can be relied on.
func (d Devices) Check(ctx context.Context, machine string) error {
	all, err := d.by.Look(ctx, d.all, machine)
	return errors.Join(err, cluster.FenceTrouble(all))
}
