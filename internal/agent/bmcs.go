package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/bmc"
)

// bmcs is the Fencer of real management controllers.
type bmcs struct{ log *slog.Logger }

// Off implements Fencer.
func (b bmcs) Off(ctx context.Context, devices []config.FenceDevice, machine string) (string, error) {
	chain, err := b.chain(devices, machine)
	if err != nil {
		return "", err
	}
	return chain.Off(ctx)
}

// Look implements Fencer.
func (b bmcs) Look(ctx context.Context, devices []config.FenceDevice, machine string) (out []cluster.FenceAnswer, err error) {
	chain, err := b.chain(devices, machine)
	for _, d := range chain {
		st, cerr := d.Check(ctx)
		out = append(out, cluster.FenceAnswered(d.Name(), st.On, cerr))
	}
	return out, err
}

// ShownOff is nil when a device of the host shows that it is off.
func (b bmcs) ShownOff(ctx context.Context, devices []config.FenceDevice, machine string) error {
	all, err := b.Look(ctx, devices, machine)
	for _, d := range all {
		switch {
		case d.Error == "" && !d.On:
			return nil
		case d.Error == "":
			d.Error = d.Device + ": the host is on"
		}
		err = errors.Join(err, errors.New(d.Error))
	}
	return cmp.Or(err, errors.New("no fence device"))
}

func (b bmcs) chain(devices []config.FenceDevice, machine string) (bmc.Chain, error) {
	var chain bmc.Chain
	for i, d := range devices {
		o := bmc.Options{
			Type: d.Type, Address: d.Address, User: d.User, PasswordFile: strings.TrimPrefix(d.Credential, "file:"),
			Machine: machine, Fingerprint: d.Fingerprint, System: d.System, Log: b.log,
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
