// Package hostports looks at what this host has of Neutron's ports: interfaces of Open vSwitch and the kernel, flows,
// chains of iptables and guests. What that means is in internal/transition/net. It changes nothing.
package hostports

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/ovs"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/network"
	"holdfast/internal/lib/proc"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/pin"
)

// iptablesWithin bounds one call of iptables-save.
const iptablesWithin = 30 * time.Second

// Tables of the agent's firewall for Open vSwitch, first and last (neutron/plugins/ml2/drivers/openvswitch/agent/
// common/constants.py: TRANSIENT_TABLE to ACCEPTED_EGRESS_TRAFFIC_NORMAL_TABLE).
const firstFilter, lastFilter = 60, 94

// Look looks at this host. name is that under which Neutron knows it; "" is the kernel's name of it. It is Unavailable where
// Open vSwitch does not answer.
func Look(ctx context.Context, name string) (*net.Host, error) {
	var err error
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("ask for this host's name: %w", err)
		}
	}
	h := &net.Host{Version: net.Version, Host: name, Interfaces: []net.Interface{}, Links: []net.Link{}, Guests: []string{}}
	if h.Interfaces, err = interfaces(ctx); err != nil {
		return nil, err
	}
	if h.Links, err = links(); err != nil {
		return nil, err
	}
	if h.Chains, err = chains(ctx); err != nil {
		return nil, err
	}
	if h.Guests, err = guests("/proc"); err != nil {
		return nil, err
	}
	return h, nil
}

func interfaces(ctx context.Context) ([]net.Interface, error) {
	all, err := ovs.Interfaces(ctx)
	if err != nil {
		return nil, err
	}
	out := []net.Interface{}
	flows := map[string][]pin.Flow{}
	for _, i := range all {
		id := i.External["iface-id"]
		if id == "" || i.Bridge == "" {
			continue
		}
		of, asked := flows[i.Bridge]
		if !asked {
			if of, err = flowsOf(ctx, i.Bridge, i.Protocols); err != nil {
				return nil, err
			}
			flows[i.Bridge] = of
		}
		x := net.Interface{Name: i.Name, Bridge: i.Bridge, Type: i.Type, PortID: id, MAC: i.External["attached-mac"],
			AdminState: i.AdminState, LinkState: i.Link,
			OFPort: i.OFPort, Error: i.Error, Tag: i.Tag, NetworkID: i.OtherConfig["net_uuid"], Segment: segment(i.OtherConfig)}
		count(&x, of)
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b net.Interface) int { return strings.Compare(a.PortID+a.Name, b.PortID+b.Name) })
	return out, nil
}

// segment is what the agent noted of a port's segment; "None" and "" stand for no value.
func segment(noted map[string]string) string {
	if noted["network_type"] == "" {
		return ""
	}
	s := net.Segment{NetworkType: noted["network_type"]}
	if p := noted["physical_network"]; p != "None" {
		s.PhysicalNetwork = p
	}
	if n, err := strconv.Atoi(noted["segmentation_id"]); err == nil {
		s.SegmentationID = &n
	}
	return s.String()
}

// flowsOf are the flows of a bridge, those of a pin left out.
func flowsOf(ctx context.Context, bridge string, protocols []string) ([]pin.Flow, error) {
	said, err := ovs.Flows(ctx, bridge, protocols)
	if err != nil {
		return nil, err
	}
	all, err := pin.ParseFlows(said)
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "bridge %s: read what ovs-ofctl prints: %w", bridge, err)
	}
	return slices.DeleteFunc(all, func(f pin.Flow) bool { return f.Cookie == pin.Cookie }), nil
}

// count counts the flows that name an interface's number: as where packets come from or go to, or in register 5, where
// the agent's firewall keeps it.
func count(i *net.Interface, flows []pin.Flow) {
	if i.OFPort <= 0 {
		return
	}
	in, reg := fmt.Sprintf(",in_port=%d,", i.OFPort), fmt.Sprintf(",reg5=0x%x,", i.OFPort)
	to := regexp.MustCompile(fmt.Sprintf(`\boutput:%d\b|\b(set_field|load):0x%x->(reg5|NXM_NX_REG5\[\])`, i.OFPort, i.OFPort))
	for _, f := range flows {
		match := "," + f.Match + ","
		if !strings.Contains(match, in) && !strings.Contains(match, reg) && !to.MatchString(f.Actions) {
			continue
		}
		i.Flows++
		if f.Table >= firstFilter && f.Table <= lastFilter {
			i.Filters++
		}
		if f.Table == 0 && match == in && f.Actions == "drop" {
			i.Dropped = true
		}
	}
}

func links() ([]net.Link, error) {
	all, err := network.Links()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range all {
		names[l.Index] = l.Name
	}
	out := []net.Link{}
	for _, l := range all {
		out = append(out, net.Link{Name: l.Name, Kind: l.Kind, Up: l.Up, Master: names[l.Master], Peer: names[l.Peer]})
	}
	slices.SortFunc(out, func(a, b net.Link) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// chains are the names of iptables' chains of the table filter; nil where there is no iptables-save.
func chains(ctx context.Context) ([]string, error) {
	out, said, err := proc.Run(ctx, iptablesWithin, "", "iptables-save", "-t", "filter")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fail.Errorf(fail.Failed, "iptables-save: %w", proc.Told(err, said))
	}
	names := []string{}
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, ":"), " "); ok && strings.HasPrefix(line, ":") {
			names = append(names, name)
		}
	}
	return names, nil
}

// guests are the UUIDs of QEMU's processes, as libvirtd starts them (-uuid).
func guests(t proc.Table) ([]string, error) {
	pids, err := t.PIDs()
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, pid := range pids {
		args, err := t.Args(pid)
		if errors.Is(err, proc.ErrGone) || errors.Is(err, unix.EACCES) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(args) == 0 || !strings.Contains(filepath.Base(args[0]), "qemu") && filepath.Base(args[0]) != "kvm" {
			continue
		}
		if at := slices.Index(args, "-uuid"); at >= 0 && at+1 < len(args) {
			out = append(out, args[at+1])
		}
	}
	slices.Sort(out)
	return out, nil
}
