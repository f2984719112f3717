package pacemaker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/testbed/lab"
)

// Work is what the cluster keeps running.
type Work string

// Works.
const (
	Guest Work = "guest" // the laboratory's guest
	VIP   Work = "vip"   // an address (IPaddr2) and a web server on it
	// Address is the laboratory's floating address (IPaddr2), and nothing else.
	Address Work = "address"
	// Database is a MariaDB on h1 and its replica on h2, a service and the
	// laboratory's floating address: what a pair of Holdfast keeps up.
	Database Work = "database"
	// Plain is the service and the address of Database. The database is not the
	// cluster's: one without replication runs on each node.
	Plain Work = "plain"
)

// work is what differs between the works.
type work interface {
	// resources is their part of the cluster's configuration.
	resources(o Options) (string, error)
	// ids are its resources; the first one's host is the active host.
	ids() []string
	// answer asks for what tells one start of it from the next, and how long it has run.
	answer(ctx context.Context) (start string, up time.Duration, err error)
	// probe is the client: a probe every lab.PingInterval until ctx ends.
	probe(ctx context.Context) (lab.Pings, error)
	// crash ends its process with SIGKILL.
	crash(ctx context.Context, host string) error
}

func newWork(w Work, l *lab.Lab) (work, error) {
	switch w {
	case Guest, "":
		return guestWork{l}, nil
	case VIP:
		return vipWork{l}, nil
	case Address:
		return addressWork{l}, nil
	case Database:
		return databaseWork{l, false}, nil
	case Plain:
		return databaseWork{l, true}, nil
	}
	return nil, fmt.Errorf("work %q: want %s, %s, %s, %s or %s", w, Guest, VIP, Address, Database, Plain)
}

// guestWork is the laboratory's guest.
type guestWork struct{ lab *lab.Lab }

func (w guestWork) ids() []string { return []string{"guest"} }

func (w guestWork) answer(ctx context.Context) (string, time.Duration, error) {
	a, err := w.lab.Ask(ctx)
	return a.Boot, a.Up, err
}

func (w guestWork) probe(ctx context.Context) (lab.Pings, error) {
	return w.lab.Ping(ctx, w.lab.GuestAddr())
}

func (w guestWork) crash(ctx context.Context, host string) error {
	return w.lab.Kill(ctx, host, "cmd:-uuid "+lab.GuestUUID)
}

func (w guestWork) resources(o Options) (string, error) {
	var class string
	var attrs []attr
	switch o.Resource {
	case Minimal:
		class = `class="ocf" provider="bench" type="guest"`
		attrs = []attr{{"config", guestFile}, {"name", lab.GuestName}}
	case VirtualDomain:
		class = `class="ocf" provider="heartbeat" type="VirtualDomain"`
		attrs = []attr{{"config", guestFile}, {"hypervisor", "qemu:///system"}, {"force_stop", "true"},
			{"autoset_utilization_cpu", "false"}, {"autoset_utilization_hv_memory", "false"}}
	default:
		return "", fmt.Errorf("resource agent %q: want %s or %s", o.Resource, Minimal, VirtualDomain)
	}
	return primitive("guest", class, attrs, o.Profile.Monitor), nil
}

// attr is a parameter of a resource agent.
type attr struct{ name, value string }

// primitive is a resource with a monitor.
func primitive(id, class string, attrs []attr, monitor time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<primitive id="%s" %s><instance_attributes id="%s-attributes">`, id, class, id)
	for _, a := range attrs {
		fmt.Fprintf(&b, `<nvpair id="%s-%s" name="%s" value="%s"/>`, id, a.name, a.name, a.value)
	}
	b.WriteString(`</instance_attributes><operations>`)
	fmt.Fprintf(&b, `<op id="%s-monitor" name="monitor" interval="%dms" timeout="30s"/>`, id, monitor.Milliseconds())
	for _, a := range []string{"start", "stop"} {
		fmt.Fprintf(&b, `<op id="%s-%s" name="%s" interval="0s" timeout="90s"/>`, id, a, a)
	}
	b.WriteString(`</operations></primitive>`)
	return b.String()
}
