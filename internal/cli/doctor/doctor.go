// Package doctor has the commands that look for what is wrong: doctor at this host and its agent, and report, which
// gathers what helps to find it, without secrets.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// doctorAsks is how long the agent may take to answer.
const doctorAsks = 5 * time.Second

// Commands are the commands that look for what is wrong.
func Commands(a *command.App) []*cobra.Command {
	return []*cobra.Command{doctorCmd(a), reportCmd(a)}
}

func doctorCmd(a *command.App) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong on this host, and what to do about it",
		Long: `Looks at this host as an installation does: libvirt, network, storage, clock,
watchdog, certificates, space; and asks its agent for what the cluster waits
for. On a host that is of no cluster yet it looks at what every host needs. It
changes nothing. Exit code 1: something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			named := file != ""
			if !named {
				file = a.Settings(cmd.Context(), c)
			}
			var r install.Report
			n, err := config.LoadNode(file)
			switch {
			case !named && errors.Is(err, fs.ErrNotExist):
				r, err = diagnoseAlone(cmd.Context(), a)
			case err != nil:
				return fail.Errorf(fail.Invalid, "%w", err)
			default:
				r, err = diagnose(cmd.Context(), a, c, n, file)
			}
			if err != nil {
				return err
			}
			if js {
				err = output.JSON(a.Env.Stdout, r, false)
			} else {
				err = output.Text(a.Env.Stdout,
					installer.ResultText(install.Result{Report: r}, true, output.PainterFor(a.Env.Stdout)))
			}
			if err == nil && !r.OK {
				return fail.Errorf(fail.Failed, "") // all is said
			}
			return err
		},
	}
	settingsFlag(cmd, &file)
	return cmd
}

// settingsFlag names the file with the settings of this host's agent.
func settingsFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "settings `file` (default that of the answering agent,\nelse "+install.SettingsFile+")")
}

// diagnoseAlone looks at this host, which has no settings.
func diagnoseAlone(ctx context.Context, a *command.App) (install.Report, error) {
	f, err := a.Env.Facts(ctx, *install.QueryAlone(cluster.GuestName))
	if err != nil {
		return install.Report{}, fmt.Errorf("look at this host: %w", err)
	}
	return install.DiagnoseAlone(f.Name, *f), nil
}

// diagnose looks at this host, whose agent has these settings, of a file.
func diagnose(ctx context.Context, a *command.App, c *api.Client, n config.Node, file string) (install.Report, error) {
	asks, cancel := context.WithTimeout(ctx, doctorAsks)
	defer cancel()
	var more []install.Finding
	h := install.Host{Name: n.Host, Addr: n.Addr, Guests: n.GuestsOnly}
	cfg, err := command.ClusterConfig(asks, c)
	answered := err == nil
	if err != nil {
		more = append(more, install.Finding{Node: h.Name, Check: "agent", Result: install.Fail, Finding: err.Error(),
			Remedy: "systemctl status holdfast; journalctl -u holdfast"})
		if n.ConfigFile != "" {
			if cfg, _, err = config.Load(n.ConfigFile, config.Options{AllowUndersized: true}); err != nil {
				return install.Report{}, fail.Errorf(fail.Invalid, "%w", err)
			}
		}
	} else if s, err := c.Status(asks); err == nil {
		more = append(more, ofCluster(h.Name, s)...)
		hosts, err := c.GuestHosts(ctx)
		if err != nil {
			more = append(more, install.Finding{Node: h.Name, Check: "certificate", Result: install.Warn,
				Finding: "what its agent says of its certificates is not known: " + err.Error()})
		}
		more = append(more, installer.OfCertificates(hosts, h.Name)...)
	}
	n.Console.Listen = cmp.Or(n.Console.Listen, config.NoConsole) // these are settings of a host
	q := install.QueryFor(cfg, n, h, cluster.GuestName)
	q.Settings, q.Runs = file, answered && a.Server == ""
	f, err := a.Env.Facts(ctx, *q)
	if err != nil {
		return install.Report{}, fmt.Errorf("look at this host: %w", err)
	}
	return install.Diagnose(cfg, n, h, *f, time.Now(), more), nil
}

// ofCluster is what the status says that people should know.
func ofCluster(host string, s cluster.Status) (out []install.Finding) {
	switch {
	case !s.Connected:
		out = append(out, install.Finding{Node: host, Check: "cluster", Result: install.Fail,
			Finding: "its agent reaches no quorum of the store, so nothing is decided: " +
				output.Or(s.StoreError, "not connected"),
			Remedy: "bring the silent hosts back, or their network: holdfast status shows which"})
	case s.Waiting != "":
		out = append(out, install.Finding{Check: "cluster", Result: install.Warn,
			Finding: "the cluster waits for " + s.Waiting, Remedy: "holdfast status"})
	}
	for _, h := range s.Hosts {
		if string(h.Name) == host && h.Why != "" {
			out = append(out, install.Finding{Node: host, Check: "agent", Result: install.Warn, Finding: h.Why, Remedy: "holdfast status"})
		}
	}
	return out
}
