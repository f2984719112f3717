package service

import (
	"context"
	"errors"
	"slices"
	"strings"

	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/upgrade/survey"
)

// CheckUpgrade looks at all hosts. With a bundle, it fails for whatever RunUpgrade would
// refuse.
func (s *Service) CheckUpgrade(ctx context.Context, r request.Request) (check.Report, error) {
	p, err := s.gather(ctx, &r)
	if err != nil {
		return check.Report{}, err
	}
	if r.Bundle == "" {
		_, rep, err := s.look(ctx, p, r, check.Before)
		return rep, err
	}
	var stands []check.Finding
	if err := s.free(ctx, p, upgrade.ForUpgrade); err != nil {
		var refused *fail.Error
		if !errors.As(err, &refused) || refused.Kind != fail.Refused {
			return check.Report{}, err
		}
		stands = append(stands, check.Finding{
			Check: "running", Scope: check.ScopeCluster, Level: check.Fail, Text: refused.Message, Remedy: refused.Remedy,
		})
	}
	rep, more, err := s.judge(ctx, p, r, "")
	rep.Findings = survey.Accept(rep.Findings, r.Options.Confirmed)
	for _, f := range append(stands, more...) {
		said := func(x check.Finding) bool { return x.Check == f.Check && x.Host == f.Host && x.Level == check.Fail }
		if !slices.ContainsFunc(rep.Findings, said) {
			rep.Findings = append(rep.Findings, f)
		}
	}
	check.Sort(rep.Findings)
	return rep, err
}

// judge looks at all hosts, makes the plan of an upgrade, and says what stands in its way: what
// the plan blocks, and the checks that fail and that nobody has confirmed. Nothing else decides
// whether an upgrade may begin.
func (s *Service) judge(ctx context.Context, p *planned, r request.Request, id string) (check.Report, []check.Finding, error) {
	in, rep, err := s.look(ctx, p, r, check.Before)
	if err != nil {
		return rep, nil, err
	}
	if !p.keepsHA(in.HABefore) {
		p.inv.HA = &inventory.Switch{Status: p.inv.HA.Status} // it is off already, and stays so
	}
	if err := p.build(r, id); err != nil {
		return rep, nil, err
	}
	var stands []check.Finding
	for _, f := range p.plan.Findings {
		if f.Level == upgrade.Block {
			stands = append(stands, blocked(f))
		}
	}
	return rep, append(stands, unconfirmed(rep.Findings, r.Options.Confirmed)...), nil
}

// blocked is what a plan says as a check says it.
func blocked(f upgrade.Finding) check.Finding {
	out := check.Finding{
		Check: f.Rule, Scope: check.ScopeCluster, Host: f.Host, Level: check.Fail, Text: strings.TrimSuffix(f.Text, "."), Remedy: f.Remedy,
	}
	switch {
	case f.VM != "":
		out.Scope, out.Where = check.ScopeVM, f.VM
	case f.Host != "":
		out.Scope, out.Where = check.ScopeHost, string(f.Host)
	}
	return out
}

// unconfirmed are the failures that nobody has said to accept.
func unconfirmed(fs []check.Finding, confirmed []string) []check.Finding {
	return slices.DeleteFunc(slices.Clone(fs), func(f check.Finding) bool {
		return f.Level != check.Fail || slices.Contains(confirmed, f.Check)
	})
}
