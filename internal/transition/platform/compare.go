package platform

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"holdfast/internal/transition/net"
)

// compared are the kinds of objects that a platform has to have as the one before it: by which field they are the same,
// and fields that may differ. IDs of volume types and the like are mapped, so they go by their names.
var compared = []struct {
	list, kind, key string
	free            []string
}{
	{"hosts", "host", "name", []string{"node", "version", "up", "enabled", "cpus", "cpu_model", "memory_mib", "memory_used_mib"}},
	{"aggregates", "aggregate", "name", nil},
	{"volume_types", "volume_type", "name", nil},
	{"flavors", "flavor", "id", nil},
	{"images", "image", "id", nil},
}

// warned are fields of which a difference is a warning: guests come and go, names are for people.
var warned = []string{"guests", "name", "specs", "metadata"}

// Compare tells what a platform lacks that another one had, and what differs. What it has besides is not told.
// The error is of one that can not be written as JSON.
func Compare(was, is *Platform) ([]net.Difference, error) {
	before, err := lists(was)
	if err != nil {
		return nil, err
	}
	after, err := lists(is)
	if err != nil {
		return nil, err
	}
	out := []net.Difference{}
	for _, c := range compared {
		now := map[string]object{}
		for _, y := range slices.Backward(after[c.list]) { // of those with one key the first counts
			now[string(y[c.key])] = y
		}
		for _, x := range before[c.list] {
			var id string
			if err := json.Unmarshal(x[c.key], &id); err != nil {
				return nil, err
			}
			y, there := now[string(x[c.key])]
			if !there {
				out = append(out, net.Difference{Kind: c.kind, ID: id, Field: "object", Old: json.RawMessage(`"present"`), Severity: net.Error})
				continue
			}
			for _, f := range slices.Sorted(maps.Keys(x)) {
				if slices.Contains(c.free, f) || bytes.Equal(x[f], y[f]) {
					continue
				}
				severity := net.Error
				if slices.Contains(warned, f) {
					severity = net.Warning
				}
				out = append(out, net.Difference{Kind: c.kind, ID: id, Field: f, Old: x[f], New: y[f], Severity: severity})
			}
		}
	}
	return out, nil
}

type object map[string]json.RawMessage

func lists(p *Platform) (map[string][]object, error) {
	text, err := json.Marshal(map[string]any{"hosts": p.Hosts, "aggregates": p.Aggregates,
		"volume_types": p.VolumeTypes, "flavors": p.Flavors, "images": p.Images})
	if err != nil {
		return nil, err
	}
	var out map[string][]object
	err = json.Unmarshal(text, &out)
	return out, err
}
