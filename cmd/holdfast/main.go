// Command holdfast keeps the control plane of a virtualization platform running
// through failures. The agent, its helper processes and the command line
// are all this program.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/agent"
	"holdfast/internal/agent/logfile"
	"holdfast/internal/cli"
	"holdfast/internal/cli/command"
	commands "holdfast/internal/cli/transition"
	"holdfast/internal/cli/zsha"
	"holdfast/internal/config"
	"holdfast/internal/fleet/aid"
	"holdfast/internal/fleet/losses/measure"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/host/storage"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/install"
	"holdfast/internal/install/onhost"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/lib/traces"
	"holdfast/internal/store/etcdstore"
	"holdfast/internal/transition"
	"holdfast/internal/transition/feature/guests"
	"holdfast/internal/transition/feature/openstack"
	"holdfast/internal/transition/net/hostports"
	"holdfast/internal/transition/pin/bridge"
	"holdfast/internal/transition/platform/collect"
	"holdfast/internal/web/notify/send"
	"holdfast/packaging/files"
)

// These are stamped by the build: -ldflags "-X main.version=...". commit is the one that it was built
// from and committed its time, in seconds since 1970.
var (
	version   = "dev"
	commit    string
	committed string
)

func main() {
	var built time.Time
	if s, err := strconv.ParseInt(committed, 10, 64); err == nil {
		built = time.Unix(s, 0)
	}
	env := environment()
	env.Built = built
	if err := seal(); err != nil { // no reason to leave a cluster alone
		fmt.Fprintln(os.Stderr, "holdfast:", err)
	}
	os.Exit(cli.Main(os.Args[1:], env))
}

// environment is what the command line runs in, with the commands that the cluster's client lacks.
func environment() command.Env {
	return command.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version, Commit: commit,
		Extra: []*cobra.Command{
			agentCommand(), memberCommand(), holderCommand(), probeCommand(), stepCommand(), sendCommand(), retireCommand(), onHostCommand(),
			fenceCommand(),

			files.Command(func() *cobra.Command { return zsha.New(command.Env{}) }),
		},
		Store:         []*cobra.Command{usageCommand(), cleanCommand(), restoreCommand(), joinCommand()},
		HostFiles:     hostFiles,
		Facts:         onhost.Gather,
		Probe:         measure.Run,
		Pin:           bridge.Pin,
		Unpin:         bridge.Unpin,
		Features:      guests.Run,
		CloudFeatures: openstack.Run,
		Collect:       collect.Collect,
		HostPorts:     hostports.Look,
		DRBD:          drbd.Overview,
	}
}

// hostFiles are what an installation puts on a host.
func hostFiles(root *cobra.Command, ofPair bool) ([]install.File, error) {
	out := []install.File{
		{Path: install.Program, Mode: 0o755, Self: true},
		{Path: "/usr/bin/" + zsha.Name, Link: install.Program, Once: true},
	}
	all, err := files.All(root, zsha.New(command.Env{}))
	for _, f := range all {
		out = append(out, install.File{Path: f.Path, Mode: f.Mode, Data: f.Content, Link: f.Target})
	}
	if ofPair {
		out = append(out, zsha.PairLinks()...)
	}
	return out, err
}

// onHostCommand is what an installation runs on a host.
func onHostCommand() *cobra.Command {
	return &cobra.Command{
		Use: "on-host DIR", Short: "Answer the requests of an installation", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return onhost.Serve(c.Context(), c.InOrStdin(), c.OutOrStdout(), args[0])
		},
	}
}

// agentCommand is the daemon.
func agentCommand() *cobra.Command {
	var file, level, dir string
	var total int64
	var check, insecure bool
	c := &cobra.Command{
		Use: "agent", Short: "Run the agent of this host (the daemon)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if check {
				dir = ""
			}
			recent := aid.NewRing()
			log, end, err := fileLogger(level, dir, total, recent)
			if err != nil {
				return badInput(err)
			}
			defer end()
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			if err := proc.Prioritize(); err != nil && !check {
				log.Warn("this agent runs at ordinary priority: on a busy host it may be taken for dead", "err", err)
			}
			opt := agent.Options{NodeFile: file, Exe: exe, Version: version, Log: log, Insecure: insecure, Recent: recent,
				Fits: func(f *transition.File) []strictyaml.Fault { return commands.Fits(cli.Bare, f) }}
			if check {
				if err := agent.CheckNode(opt); err != nil {
					return badInput(err)
				}
				_, err := fmt.Fprintln(c.OutOrStdout(), "agent settings check pass")
				return err
			}
			stop, err := startTraces(file, log)
			if err != nil {
				return badInput(err)
			}
			defer stop()
			err = agent.RunNode(c.Context(), opt)
			var bad agent.BadInput
			if errors.As(err, &bad) || errors.Is(err, loop.ErrConflict) {
				return badInput(err)
			}
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&check, "check", false, "check the settings and change nothing; do so before a restart")
	c.Flags().BoolVar(&insecure, "insecure", false, "accept a store without TLS at addresses that other hosts reach: "+
		"in a closed laboratory only")
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&dir, "log-dir", os.Getenv("LOGS_DIRECTORY"),
		"`directory` for files of the log, which stderr has, too (default $LOGS_DIRECTORY, which systemd\nsets; else none)")
	c.Flags().Int64Var(&total, "log-total", 1024, "`MiB` of all files in the log's directory; the oldest are removed")
	return c
}

// startTraces tells a collector what requests and jobs take, where the settings of this host name one. What is wrong with
// the settings themselves the agent says.
func startTraces(file string, log *slog.Logger) (stop func(), err error) {
	n, err := config.LoadNode(file)
	if err != nil || n.Traces == nil {
		return func() {}, nil
	}
	stop, err = traces.Start(traces.Options{Endpoint: n.Traces.Endpoint, CA: n.Traces.CA, TokenFile: n.Traces.TokenFile,
		Sample: n.Traces.Share(), Host: n.Host, Cluster: n.Cluster, Version: version, Log: log})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	log.Info("traces go to a collector", "endpoint", n.Traces.Endpoint)
	return stop, nil
}

// badInput makes the exit code 2.
func badInput(err error) error { return fail.Errorf(fail.Invalid, "%w", err) }

func logger(level string) (*slog.Logger, error) { return loggerTo(os.Stderr, level) }

func loggerTo(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: value %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// logFile is the greatest size of a file of the log in bytes; less when the total is small.
const logFile = 64 << 20

// fileLogger also writes to files in a directory, unless that is empty. Their total is in
// MiB. Files that can not be written are told of on stderr, and keep no agent from its work. recent keeps the last lines,
// also those that an agent before this one has written.
func fileLogger(level, dir string, total int64, recent *aid.Ring) (log *slog.Logger, end func(), err error) {
	if total < 1 || total > 1<<20 {
		return nil, nil, fmt.Errorf("--log-total: value %d: want 1 to %d MiB", total, 1<<20)
	}
	stderrToo := io.MultiWriter(recent, os.Stderr)
	log, err = loggerTo(stderrToo, level)
	if err != nil || dir == "" {
		return log, func() {}, err
	}
	stderr := log
	trouble := func(err error) { stderr.Warn("the files of the log are not complete", "err", err) }
	if err := recent.Fill(filepath.Join(dir, "agent.log")); err != nil {
		trouble(err)
	}
	f, err := logfile.Open(logfile.Options{
		Dir: dir, Name: "agent", Size: min(logFile, total<<20/8), Total: total << 20, Now: time.Now, Trouble: trouble,
	})
	if err != nil {
		trouble(err)
		return log, func() {}, nil
	}
	end = func() {
		if err := f.Close(); err != nil {
			trouble(err)
		}
	}
	log, err = loggerTo(io.MultiWriter(stderrToo, f), level)
	return log, end, err
}

// restoreCommand and joinCommand work on a host whose agent is stopped.
func restoreCommand() *cobra.Command {
	var file string
	var aside bool
	c := &cobra.Command{
		Use: "restore FILE", Short: "Make a new store from a backup, on this host",
		Long: `Makes a new store of one member, this host's, from a backup. Only for a store
that has lost the majority of its members for good: everything that was written
after the backup is forgotten, also what was asked for: the command shows what
the backup has. Jobs that had not ended then are paused. Of a pair with two
copies a person chooses one: holdfast pair resolve.

Stop the agents of all hosts first, and see that no member of the old store runs
or will come back. Then: restore on one host, start its agent, and on each of
the others "holdfast store join --move-aside" and start its agent. The guest is
started when every member has said that it has nothing of it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := isFile(args[0]); err != nil {
				return err
			}
			opt, err := offlineOptions(file)
			if err != nil {
				return err
			}
			got, err := agent.RestoreStore(c.Context(), opt, args[0], aside)
			if err != nil {
				return offlineError(err)
			}
			return tellRestored(c.OutOrStdout(), got)
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&aside, "move-aside", false, "keep the member's data that are there beside the new ones")
	return c
}

// tellRestored says what the next start will do by the backup.
func tellRestored(w io.Writer, r agent.Restored) error {
	asked := []string{"to be off"}
	if r.Want.Run {
		asked[0] = "to run"
	}
	if r.Want.HandsOff {
		asked = append(asked, "hands off")
	}
	if r.Want.MoveTo != "" {
		asked = append(asked, "to move to "+string(r.Want.MoveTo))
	}
	for _, h := range r.Want.Maintenance {
		asked = append(asked, string(h)+" in maintenance")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the store is restored, generation %d; start the agent of this host now, then join the others\n", r.Generation)
	fmt.Fprintf(&b, "asked for in the backup, of the management VM: %s\n", strings.Join(asked, ", "))
	if len(r.Jobs) > 0 {
		fmt.Fprintf(&b, "paused, because they may have ended since the backup: %s; see: holdfast jobs list\n", strings.Join(r.Jobs, ", "))
	}
	if len(r.Guests) > 0 {
		fmt.Fprintf(&b, "moved when the backup was made, and no host starts or resumes them by that any more: %s; "+
			"look at them yourself\n", strings.Join(r.Guests, ", "))
	}
	if r.Copies {
		b.WriteString("no copy of the pair counts as complete, because a backup does not know what was written since: " +
			"when all agents run, choose one with holdfast pair resolve --keep NODE\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// isFile says whether a backup may be in what is named.
func isFile(backup string) error {
	info, err := os.Stat(backup)
	if err != nil {
		return fail.Errorf(fail.Invalid, "read the backup: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fail.Errorf(fail.Invalid, "read the backup: %s is no file", backup).With("name one of those that \"holdfast store status\" lists")
	}
	return nil
}

func joinCommand() *cobra.Command {
	var file, left string
	var aside bool
	c := &cobra.Command{
		Use: "join", Short: "Make this host's member a new one of the store",
		Long: `Makes this host's member, whose data are lost, damaged or from before a restore,
a new member of the store that the other hosts run: the old one is removed, and
the new one follows without a vote until it has caught up. The agent of this
host must be stopped.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt, err := offlineOptions(file)
			if err != nil {
				return err
			}
			if err := agent.JoinStore(c.Context(), opt, left, aside); err != nil {
				return offlineError(err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "this host's member may join; start the agent of this host now")
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().BoolVar(&aside, "move-aside", false, "keep the member's data that are there beside the new ones")
	c.Flags().StringVar(&left, "in-place-of", "", "take the place of the `member` with this name, which has left")
	return c
}

// offlineOptions does not ask for TLS: these commands serve nobody, and the agent
// that is started next does.
func offlineOptions(file string) (agent.Options, error) {
	log, err := logger("warn")
	return agent.Options{NodeFile: file, Version: version, Log: log, Insecure: true}, err
}

// offlineError sorts the errors of the offline commands.
func offlineError(err error) error {
	var bad agent.BadInput
	switch {
	case errors.As(err, &bad), errors.Is(err, etcdstore.ErrBadSnapshot), errors.Is(err, etcdstore.ErrForeignSnapshot),
		errors.Is(err, fs.ErrNotExist):
		return badInput(err)
	case errors.Is(err, etcdstore.ErrNotEmpty):
		return fail.Errorf(fail.Refused, "%w", err).With("look at what is there; --move-aside keeps it beside the new data")
	case errors.Is(err, etcdstore.ErrStillAlive):
		return fail.Errorf(fail.Refused, "%w", err).With("two stores would be two clusters: stop what answers first")
	case errors.Is(err, etcdstore.ErrUnhealthy):
		return fail.Errorf(fail.Refused, "%w", err)
	}
	return err
}

// memberCommand is the store's member, a process of its own: its end must not
// be the agent's.
func memberCommand() *cobra.Command {
	var file string
	var again bool
	var also, second []string
	var every time.Duration
	c := &cobra.Command{
		Use: "store-member", Short: "Run the member of the store on this host", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if again {
				return agent.RestartMember(c.Context(), file, also)
			}
			debug.SetGCPercent(30) // under attack the log of raft is large: what is over must not add half of it
			m, err := agent.MemberConfig(file)
			if err == nil {
				m.Also, err = agent.Also(file)
			}
			if err == nil {
				m.Second, err = agent.SecondPath(second)
			}
			if err != nil {
				return badInput(err)
			}
			m.HeartbeatMS = uint(every.Milliseconds())
			return etcdstore.RunMember(c.Context(), m)
		},
	}
	c.Flags().StringVar(&file, "config", "/etc/holdfast/agent.json", "the settings of this host")
	c.Flags().StringSliceVar(&also, "also", nil, "with --restart: `names` that count as members', too")
	c.Flags().StringSliceVar(&second, "second-path", nil, "own `address` there, the other node's, and the other node's there")
	c.Flags().DurationVar(&every, "heartbeat", etcdstore.Heartbeat, "`time` between two heartbeats of members")
	c.Flags().BoolVar(&again, "restart", false, "have the agent start it anew, with the settings of now")
	return c
}

// probeCommand probes the shared storage, once and again for each line that it reads: a process
// that may be left behind when the storage hangs.
func probeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "storage-probe DIR HOST", Short: "Write and read back a file in DIR", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return storage.Serve(c.InOrStdin(), c.OutOrStdout(), args[0], args[1])
		},
	}
}

// stepCommand is the process that stands between the agent and a program of an
// upgrade, which goes on when the agent ends.
func stepCommand() *cobra.Command {
	return &cobra.Command{
		Use: "step-helper start|run DIR", Short: "Run a program of an upgrade", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return program.Main(args) },
	}
}

// sendCommand is the process that hands a message to a service, which may hang or answer nonsense.
func sendCommand() *cobra.Command {
	return &cobra.Command{
		Use: send.Command, Short: "Send the message that standard input has", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return send.Serve(c.InOrStdin(), c.OutOrStdout()) },
	}
}

// fenceCommand is what the kernel's DRBD runs when a peer is lost.
func fenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "drbd-fence DIR", Short: "Answer what is proved about a lost peer", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			code, err := drbd.Handle(args[0], os.Getenv("DRBD_RESOURCE"))
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), err)
			}
			os.Exit(code)
			return nil
		},
	}
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
