package told

import (
	"fmt"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/text"
)

// GuestNotes are what is to be known of a guest beside its state.
func GuestNotes(g inventory.Guest) (out []string) {
	if g.Protected {
		out = append(out, "under HA")
	}
	if g.Busy != "" {
		out = append(out, "busy: "+g.Busy)
	}
	if len(g.Fixed) > 0 {
		out = append(out, "does not move live: "+strings.Join(g.Fixed, ", "))
	}
	return out
}

// MiB is a size of memory, such as 512 MiB or 7.5 GiB.
func MiB(n int64) string {
	switch {
	case n < 1024:
		return fmt.Sprintf("%d MiB", n)
	case n%1024 == 0:
		return fmt.Sprintf("%d GiB", n/1024)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/1024)
}

// mostHostnames bounds how many are named.
const mostHostnames = 5

// Hostnames names some hosts, and says how many there are beside.
func Hostnames(all []cluster.HostID) string {
	var names []string
	for _, h := range all {
		names = append(names, string(h))
	}
	return text.Some(names, mostHostnames)
}
