package zsha

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/ha"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
)

func status(a *command.App, cmd *cobra.Command, conf bool) error {
	c, s, cl, err := open(a, cmd, "holdfast pair status")
	if err != nil {
		return err
	}
	defer c.Close()
	st, err := c.StoreStatus(cmd.Context())
	if err != nil {
		return err
	}
	events, _, err := c.Events(cmd.Context(), ha.NewestEvents, ha.EventPage)
	if err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, statusText(s, cl, st.Members, events, conf))
}

// statusText is the status under the source tool's headings: its Consul members
// are those of etcd.
func statusText(s cluster.Status, cl config.Cluster, members []cluster.StoreMember, events []cluster.Event,
	conf bool) string {
	var b strings.Builder
	ip := map[cluster.HostID]string{}
	for _, n := range cl.Nodes() {
		ip[n.Host] = n.IP
	}
	part := func(name string) { fmt.Fprintf(&b, ">>>%s\n", name) }
	part("MN-VM Running On")
	if s.Owner.Host != "" && s.Owner.State != cluster.Released {
		fmt.Fprintf(&b, "%s : %s\n", cmp.Or(ip[s.Owner.Host], string(s.Owner.Host)), s.Owner.State)
	} else {
		b.WriteString("none : stopped\n")
	}
	b.WriteByte('\n')
	part("Last MN-VM Start Record")
	for _, e := range slices.Backward(events) {
		if e.Kind == cluster.EvStarted {
			fmt.Fprintf(&b, "%s %s\n", e.Time.UTC().Format(time.DateTime), cmp.Or(ip[e.Host], string(e.Host)))
			break
		}
	}
	b.WriteByte('\n')
	part("ZStack HA Services Running On")
	for _, n := range cl.Nodes() {
		if slices.ContainsFunc(s.Hosts, func(h cluster.HostStatus) bool { return h.Name == n.Host && h.Alive }) {
			fmt.Fprintf(&b, "%s %s\n", n.IP, n.Host)
		}
	}
	b.WriteByte('\n')
	part("Consul Members")
	membersText(&b, ip, members)
	b.WriteByte('\n')
	host := s.Owner.Host
	if ip[host] == "" && len(cl.Nodes()) > 0 {
		host = cl.Nodes()[0].Host
	}
	nics, _ := cl.For(host)
	for _, n := range []struct {
		name string
		is   func(config.NICAddr) bool
	}{
		{"Management Node IP", func(n config.NICAddr) bool { return n.Mgmt }},
		{"Public Network IP", func(n config.NICAddr) bool { return n.DefRoute }},
	} {
		part(n.name)
		for _, nic := range nics {
			if n.is(nic) {
				fmt.Fprintln(&b, nic.IP)
			}
		}
		b.WriteByte('\n')
	}
	if conf {
		part("Configuration")
		fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(string(cl.JSON())))
	}
	part("Checking Host I/O")
	bad := false
	for _, h := range s.Hosts {
		if h.Alive && !h.Fit {
			bad = true
			fmt.Fprintf(&b, "%s : %s\n", cmp.Or(ip[h.Name], string(h.Name)), output.Or(h.Why, "not fit"))
		}
	}
	if !bad {
		b.WriteString("done.\n")
	}
	return b.String()
}

// membersText writes the members of the store in the columns of Consul's.
func membersText(b *strings.Builder, ip map[cluster.HostID]string, members []cluster.StoreMember) {
	rows := [][]string{{"Node", "Address", "Status", "Type", "Build", "Protocol", "DC"}}
	for _, m := range members {
		state := "alive"
		if !m.Reachable {
			state = "failed"
		}
		address := m.URL
		if u, err := url.Parse(m.URL); err == nil {
			address = u.Host
		}
		rows = append(rows,
			[]string{cmp.Or(ip[cluster.HostID(m.Name)], output.Clean(m.Name)), output.Clean(address), state, "server",
				output.Or(m.Version, "-"), "3", "dc1"})
	}
	wide := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, f := range r {
			wide[i] = max(wide[i], len(f))
		}
	}
	for _, r := range rows {
		for i, f := range r {
			if i == len(r)-1 {
				b.WriteString(f + "\n")
			} else {
				fmt.Fprintf(b, "%-*s ", wide[i], f)
			}
		}
	}
}

// installHosts installs, and tells it in the source tool's words. What that tool does
// and Holdfast does not is not told: it stops no services first, and sets no iptables.
func installHosts(a *command.App, cmd *cobra.Command, o install.Options, ssh *installer.SSHFlags, check bool) error {
	if err := ssh.Confirm(cmd.Context(), a, install.Members(o.Config)); err != nil {
		return err
	}
	res, err := installer.Install(a, cmd, &o, ssh, check)
	found := installer.ResultText(install.Result{Report: res.Report}, tellsMore(cmd) || check,
		output.PainterFor(a.Env.Stderr))
	if err = installer.Installed(cmd, res, err, output.Text(a.Env.Stderr, found)); err != nil || check {
		return err
	}
	if err := output.Text(a.Env.Stdout, installedText(o, res)); err != nil {
		return err
	}
	if res.Running == "" {
		return output.Text(a.Env.Stderr, "warning: the management VM was stopped, and stays so: zsha start\n")
	}
	return nil
}

func installedText(o install.Options, res install.Result) string {
	var b strings.Builder
	hosts := install.Members(o.Config)
	b.WriteString("All nodes connect success.\n")
	links := func() {
		for _, n := range o.Config.Network {
			fmt.Fprintf(&b, "Settings for %s:\nLink detected: yes\n", n.Bridge)
		}
		b.WriteByte('\n')
	}
	for _, h := range hosts {
		fmt.Fprintf(&b, "check environment for %s\n", h.Addr)
		if o.Config.Type == config.FileConf && o.Config.ImageURL == "" {
			fmt.Fprintf(&b, "File %s exists\n", o.Config.ImagePath())
		}
		links()
	}
	for _, h := range hosts {
		for _, path := range []string{install.Program, install.ClusterFile} {
			if slices.Contains(res.Changed[h.Name], path) {
				fmt.Fprintf(&b, "Send %s to %s\n", path, h.Addr)
			}
		}
	}
	if o.Config.Type != config.CephConf {
		b.WriteString("Not Ceph Type, skip generate ceph auth.\n")
	}
	for _, h := range hosts {
		fmt.Fprintf(&b, "Install for: %s\nconfig file check pass\n", h.Addr)
		if o.Config.Type == config.FileConf {
			fmt.Fprintf(&b, "File %s exists\n", o.Config.ImageFolder)
		}
		links()
		b.WriteString("Install bash auto-completion\nInstall to Current Node Finished.\n\n")
	}
	b.WriteString("Upsert configuration to consul kv finished.\n\nInstall to All Nodes Finished.\nNow, You can " +
		"monitor zsha's status by using command \"zsha status\".\nMore commands are shown in \"zsha -h\".\n")
	return b.String()
}

func uninstallHosts(a *command.App, cmd *cobra.Command, file, base string, ssh *installer.SSHFlags) error {
	o, err := installer.UninstallOptions(a, cmd, file, "", base)
	if err == nil {
		err = refusePair(o.Config.Type == config.PairConf, "holdfast uninstall")
	}
	if err != nil {
		return err
	}
	if err := ssh.Login(cmd.Context(), a, o); err != nil {
		return err
	}
	each := each(o.Config)
	o.Begin = func() error { return output.Text(a.Env.Stdout, "start clean\nstart shutdown cluster\n"+each) }
	res, err := installer.Uninstall(a, cmd, &o, ssh)
	if !res.OK || tellsMore(cmd) {
		err = errors.Join(err, output.Text(a.Env.Stderr, installer.RemovedText(res, output.PainterFor(a.Env.Stderr))))
	}
	if err := installer.Uninstalled(cmd, res, err); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, "shutdown cluster finished\n"+each+"clean finished\n")
}
