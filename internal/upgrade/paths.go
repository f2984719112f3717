package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/path"
)

// PathFindings judges the hop of an upgrade by the rules of a catalogue, the same that
// plan paths: from each version that hosts of the plan have, the bundle's must be reached
// in one hop, with the components that are installed beside. Rules whose condition an
// operator has confirmed are left out. Without a catalogue, or for a plan that is not of an
// upgrade, there are none.
func PathFindings(c *path.Catalogue, p *Plan, components []string) []Finding {
	if c == nil || p.Purpose != ForUpgrade {
		return nil
	}
	env := path.Environment{Mode: path.Rolling, Components: components}
	if p.Options.Mode == manifest.Offline {
		env.Mode = path.Offline
	}
	for _, r := range c.Spec().Rules {
		if r.Confirm && slices.Contains(p.Options.Confirmed, r.Name) {
			env.Confirmed = append(env.Confirmed, r.Name)
		}
	}
	var out []Finding
	var seen []string
	for _, h := range p.Hosts {
		if slices.Contains(seen, h.Version) {
			continue
		}
		seen = append(seen, h.Version)
		res, err := path.Plan(c, h.Version, p.To, env)
		switch {
		case err != nil:
			out = append(out, Finding{Rule: "path", Level: Block, Host: h.Name,
				Text: fmt.Sprintf("The rules of upgrade paths can not be applied: %s.",
					strings.TrimPrefix(err.Error(), "--")), Remedy: "correct the inventory or the manifest"})
		case res.Blocked != nil:
			out = append(out, Finding{Rule: res.Blocked.Rule, Level: Block, Host: h.Name, Text: res.Blocked.Reason,
				Remedy: "see `holdfast upgrade path`"})
		case len(res.Hops) > 1:
			way := []string{h.Version}
			for _, hop := range res.Hops {
				way = append(way, hop.To)
			}
			out = append(out, Finding{
				Rule: "path", Level: Block, Host: h.Name, Text: fmt.Sprintf("From %s the way to %s is %s.", h.Version, p.To, strings.Join(way, " -> ")),
				Remedy: "upgrade to " + res.Hops[0].To + " first; `holdfast upgrade path` says why",
			})
		}
	}
	return out
}
