package transition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/rebuild"
)

// netHost are the flags of net host.
type netHost struct {
	file, host, save, fix string
	from                  []string
	agents                bool
}

func netHostCmd(a *command.App) *cobra.Command {
	var n netHost
	cmd := &cobra.Command{
		Use:   "host --file FILE | --save FILE",
		Short: "Compare a file with what a host has of its ports",
		Long: `Compares the ports that a file binds to this host with this host, both ways:
interfaces of Open vSwitch by the port's ID, their bridge, MAC address, state,
local VLAN and flows, Linux bridges and chains of iptables of the ports that
have them. Nothing is changed on the host. It takes root.

  --fix-file  writes the file anew, with ovs_hybrid_plug of each port as the
              host has it; apply then writes that into Neutron's database. What
              is compared is the new file
  --agents    asks the agents of all hosts to which the file binds ports, on a
              member or by --server; those of other hosts are left aside
  --save      writes what the host has, for --from on another host, where
              many of them are compared at once

Exit codes: 0 equal, 1 not equal, 2 bad input, 3 refused: a host has no agent, 4
Open vSwitch or an agent is not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			switch {
			case n.file == "" && n.save == "":
				err = command.Usage(cmd, errors.New("no --file given; want the path of a file"))
			case n.file == "" && n.fix != "":
				err = command.Usage(cmd, errors.New("--fix-file: want --file with it"))
			case len(n.from) > 0 && (n.save != "" || n.host != ""):
				err = command.Usage(cmd, errors.New("--from: want neither --save nor --host with it"))
			case n.agents && (n.file == "" || n.save != "" || n.host != "" || len(n.from) > 0):
				err = command.Usage(cmd, errors.New("--agents: want --file with it, and none of --save, --host and --from"))
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err == nil {
				err = outGiven(cmd, "save", n.save)
			}
			if err == nil {
				err = outGiven(cmd, "fix-file", n.fix)
			}
			if err != nil {
				return err
			}
			return runNetHost(a, cmd, n, js)
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.file, "file", "", "`FILE` that export has written")
	f.StringVar(&n.host, "host", "", "`NAME` under which Neutron knows this host\n(default: the name of this host)")
	f.StringVar(&n.save, "save", "", "`FILE` into which what this host has is written")
	f.StringArrayVar(&n.from, "from", nil, "`FILE` that --save has written, in place of this host;\nseveral times for several hosts")
	f.StringVar(&n.fix, "fix-file", "", "`FILE` that is written: that of --file, as hosts have it")
	f.BoolVar(&n.agents, "agents", false, "ask the agents of the hosts of --file, in place of\nthis host")
	return cmd
}

func runNetHost(a *command.App, cmd *cobra.Command, n netHost, js bool) error {
	ctx := cmd.Context()
	var d *net.Document
	var err error
	if n.file != "" {
		if d, err = rebuild.Read(n.file); err != nil {
			return netFaults(a, "read the document", err)
		}
	}
	var hosts []*net.Host
	if n.agents {
		hosts, err = agentsPorts(a, cmd, d)
	} else {
		hosts, err = netHosts(ctx, a, n)
	}
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if d != nil && !d.Knows(h.Host) {
			return fail.Errorf(fail.Invalid, "host %q: the document has no agent and no port of it; it has %s", h.Host,
				strings.Join(d.Hosts(), ", ")).
				With("--host says under which name Neutron knows this host.")
		}
	}
	if n.save != "" {
		if err := rebuild.SaveHost(hosts[0], n.save); err != nil {
			return err
		}
	}
	if d == nil {
		return output.Text(a.Env.Stdout,
			fmt.Sprintf("written: host %s, interfaces %d\n", output.Clean(hosts[0].Host), len(hosts[0].Interfaces)))
	}
	left, changed := []net.Difference{}, 0
	for _, h := range hosts {
		if n.fix != "" {
			changed += net.SetPlugs(d, h)
		}
		left = append(left, net.CompareHost(d, h)...)
	}
	if n.fix != "" {
		if err := rebuild.Save(d, n.fix); err != nil {
			return netFaults(a, "check what would be written", err)
		}
		if !js {
			if err := output.Text(a.Env.Stdout, fmt.Sprintf("written: %s, ports with another ovs_hybrid_plug: %d\n",
				output.Clean(n.fix), changed)); err != nil {
				return err
			}
		}
	}
	return netCompared(a, left, js, rebuild.HostText, "the host has what the document has, and nothing else")
}

// agentsPorts is what the hosts have to which a document binds ports of guests by Open vSwitch, as their agents tell. A
// host goes by the name of its agent where Neutron knows it, else by that of its kernel.
func agentsPorts(a *command.App, cmd *cobra.Command, d *net.Document) (out []*net.Host, err error) {
	c, _, err := a.Open(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx := cmd.Context()
	reported, err := c.GuestHosts(ctx)
	if err != nil {
		return nil, err
	}
	found, errs := make([]*net.Host, len(reported)), make([]error, len(reported))
	ofAll(len(reported), func(i int) {
		h, name := reported[i].Name, ""
		if d.Knows(string(h)) {
			name = string(h)
		}
		found[i], errs[i] = c.HostPorts(ctx, h, name)
	})
	plugged := d.Plugged()
	missing := slices.Clone(plugged)
	for i, h := range found {
		switch {
		case errs[i] == nil && d.Knows(h.Host):
			out = append(out, h)
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == h.Host })
		case errs[i] == nil: // a host that the file does not have
		case slices.Contains(plugged, string(reported[i].Name)):
			return nil, errs[i]
		}
	}
	if len(missing) > 0 {
		unknown := errors.Join(errs...) // of hosts that may go by another name in Neutron
		if unknown != nil {
			return nil, unknown
		}
		return nil, fail.Errorf(fail.Refused, "the file binds ports to hosts on which no agent reports: %s", strings.Join(missing, ", ")).
			With("install an agent there, or ask the host itself with --save and give its file with --from; an " +
				"agent's host goes by the agent's name, or by the kernel's")
	}
	return out, nil
}

// netHosts are what the files of --from have, or this host.
func netHosts(ctx context.Context, a *command.App, n netHost) (hosts []*net.Host, err error) {
	for _, file := range n.from {
		h, err := rebuild.ReadHost(file)
		if err != nil {
			return nil, netFaults(a, "read what a host has", err)
		}
		hosts = append(hosts, h)
	}
	if len(hosts) > 0 {
		return hosts, nil
	}
	h, err := a.Env.HostPorts(ctx, n.host)
	return []*net.Host{h}, err
}
