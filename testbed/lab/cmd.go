package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/lib/fail"
)

// Hidden commands: the laboratory's own processes.
const (
	initCommand      = "__init"
	watchdogsCommand = "__watchdogs"
	bmcsCommand      = "__bmcs"
	bmcCommand       = "__bmc"
	diskCommand      = "__disk"
	monCommand       = "__mon"
	osdCommand       = "__osd"
	hangCommand      = "__hang"
	powerCommand     = "__power"
	rebootCommand    = "__reboot"
	addressCommand   = "__address"
)

// Command is the program of laboratories, holdfast-lab. Programs that make laboratories
// are it or name one (Options.Self), since hosts are this program run again.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "holdfast-lab",
		Short: "Simulated hypervisor hosts with real libvirt and QEMU on this machine",
		Long: `Makes hosts from network namespaces on this machine, each with a libvirtd and
QEMU of its own, and breaks them. It needs root, and no /dev/kvm. The agents are
the program holdfast, which lies beside this one.

HOST is a name, such as h1, or, where agents run, one of two words:
  holder  the host that has the management VM
  other   another host, which could take it
A word waits until there is such a host, for two minutes at most: after "crash
holder" it waits for the takeover. Where nobody is to have it, it ends within
seconds. Commands that take several hosts also know the word all.`,
		Example: `  holdfast-lab up --agents --install
  holdfast-lab exec holder holdfast status
  holdfast-lab crash holder
  holdfast-lab exec holder holdfast events
  holdfast-lab on all
  holdfast-lab down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var dir string
	c.AddCommand(upCommand(&dir), downCommand(&dir), statusCommand(&dir), guestCommand(&dir), execCommand(&dir))
	c.AddCommand(hostCommands(&dir)...)
	c.AddCommand(processCommands(&dir)...)
	for _, sub := range c.Commands() {
		sub.Flags().StringVar(&dir, "dir", DefaultDir, "folder of the laboratory")
	}
	c.AddCommand(hiddenCommands()...)
	return c
}

func upCommand(dir *string) *cobra.Command {
	var o Options
	var install, bare bool
	var program string
	c := &cobra.Command{
		Use:   "up",
		Short: "Make the laboratory and power all hosts on",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Dir = *dir
			if o.Hosts == 0 { // as an option it means the default
				return fail.Errorf(fail.Invalid, "--hosts 0: want 1 to %d", MaxHosts)
			}
			if bare {
				o.Bare = BarePassword
			}
			o.Exe = cmp.Or(program, ProgramName)
			if _, err := o.check(); err != nil {
				return err
			}
			var err error
			if o.Exe, err = Program(cmd.Context(), program); err != nil {
				return err
			}
			if install {
				if err := Install(cmd.Context(), o.Work); err != nil {
					return err
				}
			}
			start := time.Now()
			l, err := Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d hosts are up after %.1f s in %s\n", len(l.Hosts()), time.Since(start).Seconds(), l.Dir())
			if err := printStatus(cmd, l, "text"); err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			if bare {
				fmt.Fprintf(cmd.OutOrStdout(), "login: root, password %s: %sexec h1 ssh -o "+
					"UserKnownHostsFile=%s/hosts.keys root@%s\n", BarePassword, typed(exe, *dir), HostDir, l.Addr(l.Hosts()[len(l.Hosts())-1]))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "next: "+nextAfterUp(exe, *dir, o))
			return err
		},
	}
	f := c.Flags()
	ProgramFlag(c, &program)
	f.IntVar(&o.Hosts, "hosts", 3, "number of hosts, 1 to 9")
	f.IntVar(&o.Subnet, "subnet", 0, "third number of the network 10.98.K.0/24, 1 to 250; 0 takes the first free one")
	f.BoolVar(&o.Agents, "agents", false, "run a Holdfast agent on every host")
	f.IntVar(&o.Members, "members", 0, "with --agents: how many hosts run the store, an odd number; the others run guests only; 0 means all")
	f.BoolVar(&o.Watchdogs, "watchdogs", false, "simulate a hardware watchdog for every host (always with --agents)")
	f.BoolVar(&o.BMCs, "bmcs", false, "simulate a management controller (IPMI) for every host")
	f.StringVar(&o.Profile, "profile", "", "timings of the agents: fast, or none for the defaults")
	f.StringVar(&o.Disk, "disk", DiskFile, "the guest's disk: file; nbd for one without locks that a server gives to "+
		"all hosts; or, with --agents, own for two in a domain of the operator's (DomainXML), or ceph")
	f.BoolVar(&o.Locks, "locks", false, "run libvirt's lock daemon on every host; the agents' guest holds a lease in the shared folder")
	f.StringVar(&o.Work, "work", WorkGuest, "what the agents keep up: guest, address for an IP address alone, or, "+
		"with --agents, pair for a two-node pair")
	f.BoolVar(&o.StayOff, "stay-off", false, "leave a host off after its watchdog reset it")
	f.IntVar(&o.Guests, "guests", 0, "number of business guests, 0 to 64, spread over the hosts")
	f.BoolVar(&o.Pools, "pools", false, "define storage pools on every host (always with --guests)")
	f.BoolVar(&o.OwnSystem, "own-system", false, "give each host its own view of /usr, /etc, /opt and /var: a "+
		"package installed on a host is on that host only")
	f.BoolVar(&bare, "bare", false, "make hosts with sshd and nothing of Holdfast, to try its installation on (with --own-system)")
	f.BoolVar(&install, "install", false, "install missing packages first (apt-get)")
	return c
}

// nextAfterUp is the command that makes sense when a laboratory is up.
func nextAfterUp(exe, dir string, o Options) string {
	next := typed(exe, dir)
	switch {
	case o.Agents && o.Work == WorkPair:
		return next + "exec h1 holdfast pair begin"
	case o.Agents:
		return next + "exec holder holdfast status"
	case o.Bare != "":
		return next + "exec h1 sh -c 'cd " + HostDir + " && holdfast install -c cluster.json --settings " +
			"settings.json --known-hosts hosts.keys --password-file password --allow-undersized --check'"
	}
	return next + "status"
}

// typed is how commands of a laboratory begin where a program is called by its path.
func typed(exe, dir string) string {
	lab := FromHere(exe) + " "
	if dir != DefaultDir {
		lab += "--dir " + dir + " "
	}
	return lab
}

// FromHere is a program's path as it may be typed here: a short one below this directory.
func FromHere(exe string) string {
	here, err := os.Getwd()
	if err != nil {
		return exe
	}
	if rel, err := filepath.Rel(here, exe); err == nil && strings.Contains(rel, "/") && filepath.IsLocal(rel) {
		return rel
	}
	return exe
}

func downCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the laboratory with everything in it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			l, err := Open(*dir)
			if isNotExist(err) { // scripts remove what may be removed already
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "there is no laboratory in %s: nothing to remove\n", *dir)
				return err
			}
			if err != nil {
				return err
			}
			return l.Down(cmd.Context())
		},
	}
}

func statusCommand(dir *string) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show hosts, cables, daemons and guests",
		Args:  cobra.NoArgs,
		RunE:  withLab(dir, func(cmd *cobra.Command, l *Lab, _ []string) error { return printStatus(cmd, l, output) }),
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "output `format`, text or json")
	return c
}

func guestCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "guest [HOST]",
		Short: "Ask the guest for its status; with a host, start it there first",
		Args:  cobra.MaximumNArgs(1),
		RunE: withLab(dir, func(cmd *cobra.Command, l *Lab, args []string) error {
			ask := l.Ask
			if len(args) == 1 {
				ask = func(ctx context.Context) (Answer, error) { return l.StartGuest(ctx, args[0]) }
			}
			a, err := ask(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "guest %s: boot %s, counter %d, up %s, previous [%s]\n",
				l.GuestAddr(), a.Boot, a.N, a.Up, a.Prev)
			return err
		}),
	}
}

func execCommand(dir *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec HOST COMMAND [ARGUMENT...]",
		Short: "Run a command inside a host",
		Long: "Runs a command inside a host, with the environment of its caller but for the\nhost's " +
			"own PATH and HOME. The exit code is that of the command, or 128 and the\nnumber of the signal that has ended it.",
		Args:                  cobra.MinimumNArgs(2),
		DisableFlagsInUseLine: true,
		RunE: withHost(dir, func(cmd *cobra.Command, l *Lab, args []string) error {
			if args[1] == "--" {
				args = slices.Delete(args, 1, 2)
			}
			if len(args) < 2 {
				return fail.Errorf(fail.Invalid, "want a command after the host")
			}
			run, err := l.Command(cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			run.Env = inheriting(run.Env, os.Environ())
			err = run.Run()
			if code, ended := exitCode(err); ended && cmd.Context().Err() == nil {
				return &fail.Ran{Code: code}
			}
			if err != nil {
				return fmt.Errorf("on %s: run %s: %w", args[0], strings.Join(args[1:], " "), err)
			}
			return nil
		}),
	}
	// What follows the host belongs to the command.
	c.Flags().SetInterspersed(false)
	return c
}

// inheriting is the environment of a command on a host: that of its caller, but for what is the host's own.
func inheriting(host, caller []string) []string {
	own := []string{"PATH", "HOME", "PWD", "OLDPWD", "TMPDIR", "XDG_RUNTIME_DIR"}
	language := slices.ContainsFunc(caller, func(v string) bool {
		return strings.HasPrefix(v, "LANG=") || strings.HasPrefix(v, "LC_ALL=")
	})
	var out []string
	for _, v := range host {
		if !language || !strings.HasPrefix(v, "LC_ALL=") {
			out = append(out, v)
		}
	}
	for _, v := range caller {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(own, name) {
			out = append(out, v) // the last one of a name counts
		}
	}
	return out
}

// exitCode is the exit code of a command that has ended, as shells tell it.
func exitCode(err error) (code int, ended bool) {
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) {
		return 0, false
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), true
	}
	return exit.ExitCode(), true
}

// hostCommands are the commands with a host as their argument.
func hostCommands(dir *string) []*cobra.Command {
	one := func(name, short string, fn func(*Lab, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: name + " HOST...", Short: short, Args: cobra.MinimumNArgs(1),
			RunE: withLab(dir, func(cmd *cobra.Command, l *Lab, args []string) error {
				hosts, err := l.namedAll(cmd.Context(), cmd.ErrOrStderr(), args)
				if err != nil {
					return err
				}
				for _, h := range hosts {
					if err := fn(l, cmd.Context(), h); err != nil {
						return err
					}
				}
				return nil
			}),
		}
	}
	return []*cobra.Command{
		one("on", "Power hosts on", (*Lab).On),
		one("off", "Power hosts off in order", (*Lab).Off),
		one("reboot", "Shut hosts down and power them on again", (*Lab).Reboot),
		one("crash", "Loss of power: cable out, then everything dies at once", (*Lab).Crash),
		one("crash-bmc", "Loss of the whole power supply: as crash, and the management controller goes, too", (*Lab).CrashWithBMC),
		one("isolate", "Switch the hosts' network ports off", (*Lab).Isolate),
		one("heal", "End isolate, cut-store and every cut of the hosts", (*Lab).Heal),
		one("cut-store", "Drop the store's traffic between the hosts and all others", (*Lab).CutStore),
		one("hang-storage", "Make the shared storage hang for the hosts only", (*Lab).HangStorage),
		one("unhang-storage", "End hang-storage and hang-disk", (*Lab).UnhangStorage),
		one("hang-disk", "With a disk on NBD: drop what goes between the hosts and its server", (*Lab).HangDisk),
		one("unhang-disk", "End hang-disk", (*Lab).UnhangDisk),
		one("freeze", "Stop every process of the hosts, as a hang", (*Lab).Freeze),
		one("thaw", "End freeze", (*Lab).Thaw),
	}
}

// processCommands are the commands with a host and something of it.
func processCommands(dir *string) []*cobra.Command {
	two := func(use, short string, fn func(*Lab, context.Context, string, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(2),
			RunE: withHost(dir, func(cmd *cobra.Command, l *Lab, args []string) error {
				return fn(l, cmd.Context(), args[0], args[1])
			}),
		}
	}
	return []*cobra.Command{
		two("bmc HOST MODE", "Make a management controller behave: ok, dead, lie, refuse or slow:DURATION", (*Lab).BMCMode),
		two("step-clock HOST DURATION", "Step the wall clock that Holdfast on a host sees, such as by 1h or -30s", (*Lab).stepClock),
		two("move VM HOST", "Move a business guest live to another host", (*Lab).MoveVM),
		two("cut FROM TO", "Drop what goes from one end (host, guest or switch) to another, one way", (*Lab).Cut),
		two("pause HOST PROCESS", "Stop a daemon, or cmd:TEXT for processes with TEXT in their command line", (*Lab).Pause),
		two("resume HOST PROCESS", "End pause", (*Lab).Resume),
		two("kill HOST PROCESS", "Kill a daemon, or cmd:TEXT; daemons are started again", (*Lab).Kill),
	}
}

func (l *Lab) stepClock(ctx context.Context, host, by string) error {
	d, err := time.ParseDuration(by)
	if err != nil {
		return fail.Errorf(fail.Invalid, "step %q: want a duration such as 1h or -30s", by)
	}
	return l.StepClock(ctx, host, d)
}

func hiddenCommands() []*cobra.Command {
	hidden := func(name string, fn func(context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: name + " PATH", Hidden: true, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return fn(cmd.Context(), args[0]) },
		}
	}
	// Its arguments are followed by those of the process driver, which mark the process.
	address := &cobra.Command{
		Use: addressCommand + " ADDRESS INTERFACE", Hidden: true, Args: cobra.MinimumNArgs(2), DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return holdAddress(cmd.Context(), args[0], args[1]) },
	}
	return []*cobra.Command{address, hidden(initCommand, hostInit), hidden(watchdogsCommand, watchdogsMain),
		hidden(bmcsCommand, bmcsMain), hidden(bmcCommand, bmcMain), hidden(diskCommand, diskMain),
		hidden(monCommand, monMain), hidden(osdCommand, osdMain), hidden(hangCommand, hangMain),
		hidden(powerCommand, powerMain), hidden(rebootCommand, askReboot)}
}

// withLab opens the laboratory for a command.
func withLab(dir *string, fn func(*cobra.Command, *Lab, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := asRoot(); err != nil {
			return err
		}
		l, err := Open(*dir)
		if isNotExist(err) {
			return fail.Errorf(fail.Invalid, "there is no laboratory in %s", *dir).With("make it with: holdfast-lab up")
		}
		if err != nil {
			return err
		}
		return fn(cmd, l, args)
	}
}

func printStatus(cmd *cobra.Command, l *Lab, output string) error {
	if output != "text" && output != "json" {
		return fail.Errorf(fail.Invalid, "--output: value %q: want text or json", output)
	}
	s, err := l.Status(cmd.Context())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return s.print(out)
}

// print writes the status as a table.
func (s Status) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tADDRESS\tPOWER\tCABLE\tGUESTS\tDAEMONS")
	for _, h := range s.Hosts {
		power, cable := "off", "out"
		if h.On {
			power = "on"
		}
		if h.Frozen {
			power = "frozen"
		}
		if h.Cable {
			cable = "in"
		}
		var daemons []string
		for name, pid := range h.Daemons {
			if pid == 0 {
				name += " (ended)"
			}
			daemons = append(daemons, name)
		}
		slices.Sort(daemons)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", h.Name, h.Addr, power, cable, h.Guests, strings.Join(daemons, " "))
	}
	if len(s.VMs) > 0 {
		fmt.Fprintln(w, "\nVM\tADDRESS\tHOST\tMOVES TO\tDISK")
	}
	for _, g := range s.VMs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", g.Name, g.Addr, cmp.Or(g.Host, "off"), cmp.Or(g.To, "-"), cmp.Or(g.Disk, "-"))
	}
	err := w.Flush()
	_, err2 := fmt.Fprintf(out, "network %s, guest %s, folder %s\n", s.Subnet, s.Guest, s.Dir)
	return errors.Join(err, err2)
}
