// Command holdfast keeps the control plane of a virtualization platform running
// through failures. The agent, its two helper processes and the command line
// are all this program.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/agent"
	"holdfast/internal/api"
	"holdfast/internal/cli"
	"holdfast/internal/demo"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lab"
	"holdfast/internal/sim"
	"holdfast/internal/store/etcdstore"
)

// version is stamped by the build: -ldflags "-X main.version=...".
var version = "dev"

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
		Extra: []*cobra.Command{
			agentCommand(), memberCommand(), holderCommand(),
			lab.Command(), demo.Command(), demo.GuestCommand(), sim.Command(),
		},
	}))
}

// agentCommand is the daemon.
func agentCommand() *cobra.Command {
	var file, level string
	var check bool
	c := &cobra.Command{
		Use: "agent", Short: "Run the agent of this host (the daemon)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logger(level)
			if err != nil {
				return badInput(err)
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			opt := agent.Options{NodeFile: file, Exe: exe, Version: version, Log: log}
			if check {
				if err := agent.CheckNode(opt); err != nil {
					return badInput(err)
				}
				_, err := fmt.Fprintln(c.OutOrStdout(), "agent settings check pass")
				return err
			}
			err = agent.RunNode(c.Context(), opt)
			var bad agent.BadInput
			if errors.As(err, &bad) || errors.Is(err, agent.ErrConflict) {
				return badInput(err)
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&check, "check", false, "check the settings and change nothing; do so before a restart")
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}

// badInput makes the exit code 2.
func badInput(err error) error { return api.Errorf(api.KindInvalid, "%w", err) }

func logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: value %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

// memberCommand is the store's member, a process of its own: its end must not
// be the agent's.
func memberCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "store-member", Short: "Run the member of the store on this host", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			debug.SetGCPercent(50)
			m, err := agent.MemberConfig(file)
			if err != nil {
				return badInput(err)
			}
			return etcdstore.RunMember(c.Context(), m)
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	return c
}

// holderCommand is the process that holds the watchdog.
func holderCommand() *cobra.Command {
	var cfg watchdog.HolderConfig
	c := &cobra.Command{
		Use: "watchdog-holder", Short: "Hold the watchdog of this host", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logger("info")
			if err != nil {
				return err
			}
			cfg.Log = log
			return watchdog.Run(c.Context(), cfg)
		},
	}
	c.Flags().StringVar(&cfg.Device, "device", "", "the device")
	c.Flags().DurationVar(&cfg.Timeout, "timeout", 4*time.Second, "its timeout")
	c.Flags().StringVar(&cfg.Socket, "socket", "", "the unix socket to serve")
	c.Flags().StringVar(&cfg.BootIDFile, "boot-id-file", "", "the host's boot id")
	return c
}
