package nettest

import (
	"fmt"
	"os"
	"testing"
)

// End is a host at the end of a cable, which is its eth0.
type End struct{ space *os.File }

// Cable makes two hosts that are joined by nothing but a cable: one that goes down
// takes the other's carrier. They have 192.0.2.1 and 2001:db8::1, 192.0.2.2 and
// 2001:db8::2. It skips the test where that is not possible: it takes root and
// iproute2.
func Cable(t *testing.T) (here, there End) {
	t.Helper()
	need(t, "ip")
	ends := [2]End{{space(t)}, {space(t)}}
	ends[0].IP(t, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", path(ends[1].space))
	for i, e := range ends {
		e.IP(t, "link", "set", "lo", "up")
		e.IP(t, "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		e.IP(t, "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "eth0", "nodad")
		e.IP(t, "link", "set", "eth0", "up")
	}
	return ends[0], ends[1]
}

// IP runs ip(8) on the host, and returns what it says.
func (e End) IP(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, e.space, append([]string{"ip"}, args...)...)
}

// Do calls fn on the host. A socket that it opens stays there; a goroutine that it
// starts does not.
func (e End) Do(fn func() error) error { return inside(e.space, fn) }
