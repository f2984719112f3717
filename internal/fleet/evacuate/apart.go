package evacuate

import "slices"

// KeyApart is where the groups of guests are that must not share a host, in JSON: a []Apart,
// as the last upgrade was told of them. Every drain keeps to them.
const KeyApart = "fleet-apart"

// Apart are guests that must not run on one host.
type Apart struct {
	Name  string   `json:"name"`
	UUIDs []string `json:"uuids"`
}

// Partners returns the guests that must not share a host with a guest, each once, and the
// names of the groups that say so.
func Partners(groups []Apart, uuid string) (uuids, names []string) {
	for _, g := range groups {
		if !slices.Contains(g.UUIDs, uuid) {
			continue
		}
		names = append(names, g.Name)
		for _, u := range g.UUIDs {
			if u != uuid && !slices.Contains(uuids, u) {
				uuids = append(uuids, u)
			}
		}
	}
	return uuids, names
}
