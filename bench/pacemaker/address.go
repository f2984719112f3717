package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/testbed/lab"
)

// addressWork is the laboratory's floating address alone.
type addressWork struct{ lab *lab.Lab }

func (w addressWork) ids() []string { return []string{"address"} }

func (w addressWork) resources(o Options) (string, error) {
	return primitive("address", `class="ocf" provider="heartbeat" type="IPaddr2"`,
		[]attr{{"ip", w.lab.FloatingAddr().String()}, {"cidr_netmask", "24"}, {"nic", "br0"}}, o.Profile.Monitor), nil
}

// answer gives the host that answers for the address. There is no boot to wait for.
func (w addressWork) answer(ctx context.Context) (string, time.Duration, error) {
	hosts, err := w.lab.WhoHas(ctx, w.lab.FloatingAddr())
	if err == nil && len(hosts) != 1 {
		err = fmt.Errorf("the address is on %d hosts: %s", len(hosts), strings.Join(hosts, ", "))
	}
	return strings.Join(hosts, " "), minUp, err
}

func (w addressWork) probe(ctx context.Context) (lab.Pings, error) {
	return w.lab.Ping(ctx, w.lab.FloatingAddr())
}

func (w addressWork) crash(context.Context, string) error {
	return errors.New("an address has no process that could be killed")
}
