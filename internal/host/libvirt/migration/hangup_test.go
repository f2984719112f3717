package migration

import (
	"net/netip"
	"testing"

	"holdfast/internal/lib/network"
)

func TestWhichConnectionsAreOutgoing(t *testing.T) {
	for _, c := range []struct {
		what     string
		from, to string
		want     bool
	}{
		{"a migration", "10.98.7.1:47326", "10.98.7.2:49152", true},
		{"storage", "10.98.7.1:47326", "10.98.7.2:10809", false},
		{"somebody looks at the console", "10.98.7.1:5900", "10.98.7.2:49152", false},
	} {
		if got := outgoing(network.Connection{From: netip.MustParseAddrPort(c.from), To: netip.MustParseAddrPort(c.to)}); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
