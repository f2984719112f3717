package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
)

// checkPin wants each bridge that is to be pinned to be one that can be, on all hosts that have it, and to be on
// some host.
func checkPin(s *scene) []Finding {
	if len(s.Pin) == 0 {
		return nil
	}
	var fs []Finding
	found, asked := map[string]bool{}, false
	s.told(func(h *inventory.Host, f *fact.Facts) {
		if slices.Contains(s.Left, h.Name) {
			return
		}
		asked = true
		for _, name := range s.Pin {
			i := slices.IndexFunc(f.Bridges, func(b fact.Bridge) bool { return b.Name == name })
			switch {
			case i < 0:
				found[name] = true // perhaps
				fs = append(fs, onHost(h.Name, Warn, "upgrade its agent first, or try it there: holdfast "+
					"transition pin "+name+" --dry-run", "does not tell whether bridge %s can be pinned", name))
			case f.Bridges[i].Missing:
				fs = append(fs, onHost(h.Name, Warn, "correct --pin if it has one of another name: the host is "+
					"worked on without a pin of it", "has no bridge %s", name))
			default:
				found[name] = true
				fs = append(fs, onePin(h, &f.Bridges[i]))
			}
		}
	})
	for _, name := range s.Pin {
		if asked && !found[name] {
			fs = append(fs, inCluster(Fail, "correct --pin, or leave the bridge out", "no host has bridge %s", name))
		}
	}
	return fs
}

func onePin(h *inventory.Host, b *fact.Bridge) Finding {
	switch {
	case b.Why != "":
		return onHost(h.Name, Fail, cmp.Or(b.Remedy, "change that on the host, or leave the bridge out of --pin"),
			"bridge %s can not be pinned: %s", b.Name, b.Why)
	case len(b.Notes) > 0:
		return onHost(h.Name, Warn, "look whether that matters during the upgrade",
			"bridge %s can be pinned, by %s; %s", b.Name, copied(b), strings.Join(b.Notes, "; "))
	}
	return onHost(h.Name, Info, "", "bridge %s can be pinned, by %s", b.Name, copied(b))
}

func copied(b *fact.Bridge) string {
	return fmt.Sprintf("a copy of %d flows and %d groups for %d ports", b.Flows, b.Groups, b.Ports)
}
