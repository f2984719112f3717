package openstack

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/feature"
)

// started starts the guest, which the feature before has stopped.
func (r *run) started(ctx context.Context) error {
	s, err := r.server(ctx, r.was.ID)
	if err != nil {
		return err
	}
	if s.Status != off {
		return fmt.Errorf("it must be off, and its status is %s", s.Status)
	}
	return r.act(ctx, r.was.ID, cloud.Base, map[string]any{"os-start": nil}, active)
}

// resize gives the guest another flavor, and takes that back: so its disk can not stay larger.
func (r *run) resize(ctx context.Context) error {
	if err := r.act(ctx, r.was.ID, cloud.Base, map[string]any{"resize": map[string]any{"flavorRef": r.flavor}}, verify); err != nil {
		return err
	}
	s, err := r.server(ctx, r.was.ID)
	if err != nil {
		return err
	}
	if s.Flavor.ID != r.flavor || s.Power != powerOn {
		return fmt.Errorf("its flavor is %s, and its power state %s: want %s and %s", s.Flavor.ID, s.Power, r.flavor, powerOn)
	}
	if err := r.act(ctx, r.was.ID, cloud.Base, map[string]any{"revertResize": nil}, active); err != nil {
		return fmt.Errorf("the resize taken back: %w", err)
	}
	return r.at(ctx, r.was.Host)
}

// at reads back that the guest runs on a host, with its own flavor; host "": on any but its own.
func (r *run) at(ctx context.Context, host string) error {
	s, err := r.server(ctx, r.was.ID)
	switch {
	case err != nil:
		return err
	case host == "" && s.Host == r.was.Host:
		return fmt.Errorf("it is still on %s", s.Host)
	case host != "" && s.Host != host:
		return fmt.Errorf("it is on %s: want %s", s.Host, host)
	case s.Flavor.ID != r.was.Flavor.ID:
		return fmt.Errorf("its flavor is %s: want %s", s.Flavor.ID, r.was.Flavor.ID)
	}
	return r.bound(ctx, s)
}

// bound reads back that Neutron has bound the guest's ports to its host.
func (r *run) bound(ctx context.Context, s server) error {
	if r.Neutron == nil {
		return nil
	}
	ports, err := r.portsOf(ctx, s.ID)
	for _, p := range ports {
		if p.Host != s.Host || p.VIF == "binding_failed" || p.VIF == "unbound" {
			err = errors.Join(err, fmt.Errorf("port %s: it is bound to host %q as %s: want %q", p.ID, p.Host, p.VIF, s.Host))
		}
	}
	return err
}

// moveLive moves the guest while it runs; host "": the scheduler chooses.
func (r *run) moveLive(ctx context.Context, host string) error {
	body := map[string]any{"host": nil, "block_migration": "auto"}
	if host != "" {
		body["host"] = host
	}
	if err := r.act(ctx, r.was.ID, feature.LiveVersion, map[string]any{"os-migrateLive": body}, active); err != nil {
		return err
	}
	return r.at(ctx, host)
}

// moveCold moves the guest with a stop and a start; host "": the scheduler chooses.
func (r *run) moveCold(ctx context.Context, host string) error {
	var body map[string]any
	if host != "" {
		body = map[string]any{"host": host}
	}
	if err := r.act(ctx, r.was.ID, feature.ColdVersion, map[string]any{"migrate": body}, verify); err != nil {
		return err
	}
	if err := r.act(ctx, r.was.ID, cloud.Base, map[string]any{"confirmResize": nil}, active); err != nil {
		return err
	}
	return r.at(ctx, host)
}

// live moves the guest to the target and back, while it runs.
func (r *run) live(ctx context.Context) error { return r.thereAndBack(ctx, r.moveLive) }

// cold does it with a stop and a start each time.
func (r *run) cold(ctx context.Context) error { return r.thereAndBack(ctx, r.moveCold) }

func (r *run) thereAndBack(ctx context.Context, move func(context.Context, string) error) error {
	if err := move(ctx, r.order.Target); err != nil {
		return err
	}
	if err := move(ctx, r.was.Host); err != nil {
		return fmt.Errorf("the way back: %w", err)
	}
	return nil
}
