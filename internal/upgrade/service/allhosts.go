package service

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/database"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/survey"
)

// askAllHosts asks what plans need of a bundle whose program changes all hosts: which
// manager is active, and which versions hosts have before they are rolled back.
func (s *Service) askAllHosts(ctx context.Context, p *planned, purpose upgrade.Purpose) (err error) {
	switch pair := p.inv.Pair; {
	case purpose == upgrade.ForCommit:
	case purpose == upgrade.ForRollback:
		p.versions, err = s.askVersions(ctx, &p.inv, p.inv.Status.VersionFile, nil)
	case pair != nil && len(pair.Status) > 0:
		active, said, aerr, err := s.askPair(ctx, &p.inv)
		if err != nil {
			return err
		}
		p.told = append(p.told, upgrade.ActiveFinding(pair, active, said, aerr))
		if aerr == nil {
			now := *pair
			now.Active = active
			p.inv.Pair = &now
		}
	}
	return err
}

// askPair asks both managers of the pair which one is active; not says that none is, or
// both are.
func (s *Service) askPair(ctx context.Context, inv *inventory.Inventory) (active cluster.HostID, said string, not, err error) {
	in, err := s.survey.Look(ctx, survey.Question{Inventory: inv, Only: inv.Pair.Nodes, Request: func(h *inventory.Host) fact.Request {
		return fact.Request{Host: h.Name, Status: &fact.Program{Name: inv.Pair.Status[0], Run: inv.Pair.Status}}
	}})
	if err == nil {
		active, said, not = upgrade.ActiveManager(inv.Pair, in.Facts)
	}
	return active, said, not, err
}

// askVersions asks hosts which version a file of theirs has; none are all.
func (s *Service) askVersions(ctx context.Context, inv *inventory.Inventory, file string,
	only []cluster.HostID) (map[cluster.HostID]*fact.Facts, error) {
	in, err := s.survey.Look(ctx, survey.Question{Inventory: inv, Only: only, Request: func(h *inventory.Host) fact.Request {
		return fact.Request{Host: h.Name, VersionFile: file}
	}})
	return in.Facts, err
}

// askEngines asks hosts which version of an engine they have: their reports may be of the
// time before the last run has ended. A host that does not say it has none.
func (s *Service) askEngines(ctx context.Context, inv *inventory.Inventory, dir string) error {
	inv.Hosts = slices.Clone(inv.Hosts)
	var nodes []cluster.HostID
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if h.Engine(dir) != nil {
			h.Engines = slices.Clone(h.Engines)
			nodes = append(nodes, h.Name)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	told, err := s.askVersions(ctx, inv, filepath.Join(dir, database.Versions), nodes)
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if e, f := h.Engine(dir), told[h.Name]; e != nil && f != nil {
			e.Version = f.Version
		}
	}
	return err
}

// allHosts is what a program that changes all hosts needs to know of them: a steps.AllHosts.
type allHosts struct{ *Service }

// Active implements steps.AllHosts.
func (s allHosts) Active(ctx context.Context) (said string, err error) {
	inv, err := s.reported(ctx)
	switch {
	case err != nil:
		return "", err
	case inv.Pair == nil:
		return fmt.Sprintf("%s is the only manager", s.Host), nil
	case len(inv.Pair.Status) == 0: // an operator has confirmed it, or there would be no run
		return fmt.Sprintf("%s is the active manager, by the word of the platform file", s.Host), nil
	}
	active, said, not, err := s.askPair(ctx, &inv)
	switch {
	case err != nil:
		return "", err
	case not != nil:
		return "", not
	case active != s.Host:
		return "", fmt.Errorf("the active manager is %s, not %s (%s)", active, s.Host, said)
	}
	return fmt.Sprintf("%s is the active manager (%s)", s.Host, said), nil
}

// Behind implements steps.AllHosts.
func (s allHosts) Behind(ctx context.Context, job, version string) (known bool, behind string, err error) {
	run, err := s.runOf(ctx, job)
	if err != nil {
		return false, "", err
	}
	inv, err := s.reported(ctx)
	if err != nil {
		return false, "", err
	}
	if inv.Status.VersionFile == "" && slices.Contains(run.Plan.Options.Confirmed, manifest.RuleReadBack) {
		return false, "", nil
	}
	hosts := run.Changed()
	told, err := s.askVersions(ctx, &inv, inv.Status.VersionFile, hosts)
	return true, upgrade.Behind(version, hosts, told), err
}
