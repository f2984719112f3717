package drain

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// readApart reads which guests must not share a host; none when nobody has said so.
func readApart(ctx context.Context, st store.Store) (groups []evacuate.Apart, err error) {
	ctx, cancel := context.WithTimeout(ctx, carryRead)
	defer cancel()
	kv, ok, err := st.Get(ctx, evacuate.KeyApart)
	if err == nil && ok {
		err = json.Unmarshal(kv.Value, &groups)
	}
	if err != nil {
		return nil, fmt.Errorf("read which guests are kept apart: %w", err)
	}
	return groups, nil
}

// withoutPartners takes out the hosts with a guest that must not share its host with this
// one: it runs there, or is on its way there. It says for a message which these are. Two hosts
// that are emptied at once and both leave their plans may still choose one host for two such
// guests in the same moment.
func (r *drainRun) withoutPartners(free room, uuid string, seen map[cluster.HostID]report.Seen) (string, error) {
	partners, groups := evacuate.Partners(r.groups, uuid)
	if len(partners) == 0 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(r.moves, carryRead)
	defer cancel()
	words, _, err := r.Store.List(ctx, carryKeys)
	if err != nil {
		return "", fmt.Errorf("list the records of moved guests: %w", err)
	}
	coming := map[cluster.HostID]bool{}
	for _, w := range words {
		host, guest, _ := strings.Cut(strings.TrimPrefix(w.Key, carryKeys), "/")
		coming[cluster.HostID(host)] = coming[cluster.HostID(host)] || slices.Contains(partners, guest)
	}
	for _, p := range partners {
		coming[r.sent[p].host] = true
	}
	var with []string
	for h := range free {
		if coming[h] || slices.ContainsFunc(seen[h].VMs, func(v inventory.VM) bool { return v.Running && slices.Contains(partners, v.UUID) }) {
			delete(free, h)
			with = append(with, string(h))
		}
	}
	if len(with) == 0 {
		return "", nil
	}
	slices.Sort(with)
	return fmt.Sprintf("; guests of the group %s, which must not share a host, are on %s", strings.Join(groups, ", "),
		strings.Join(with, ", ")), nil
}
