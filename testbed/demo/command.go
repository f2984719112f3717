package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/film"
	"holdfast/testbed/lab"
)

// guestCommand is the hidden command that runs Guest.
const guestCommand = "demo-guest"

// flags are the command's.
type flags struct {
	fault, output, dir, record, program string
	real, auto                          bool
	hold                                time.Duration
}

// Command returns `holdfast-lab demo`.
func Command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a cluster on this machine, with a failure and a recovery to watch",
		Long: "Run three agents with their store on this machine, break something, and watch\n" +
			"the recovery. The VM is played by a small HTTP service, so that neither root nor\n" +
			"a hypervisor is needed; --real has a VM in QEMU on three hosts with libvirt\n" +
			"instead, and --auto takes the best that the machine can do. It takes less than a\n" +
			"minute (--real: 90 seconds) on a machine with nothing else to do, and leaves\n" +
			"nothing behind.\n\nFaults:\n" +
			"  power-loss   the host that runs the VM loses power, and gets it back later\n" +
			"  isolate      the host that runs the VM loses its network, and gets it back later\n" +
			"  agent-kill   the agent on the VM's host is killed; the VM must not notice\n" +
			"  vm-crash     the VM crashes, its host does not\n" +
			"  quorum-loss  both other hosts lose power: the VM must stop, and return with them\n" +
			"  none         nothing is broken\n",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt, err := f.options(c)
			if err != nil {
				return err
			}
			err = f.run(c.Context(), opt, lookAround())
			if opt.film != nil && c.Context().Err() == nil {
				err = errors.Join(err, record(opt.film, f.record))
			}
			return err
		},
	}
	c.Flags().StringVar(&f.fault, "fault", string(PowerLoss), "what to break: power-loss, isolate, agent-kill, vm-crash, quorum-loss, none")
	c.Flags().StringVarP(&f.output, "output", "o", "text", "text, or json for one JSON object on the last line")
	c.Flags().StringVar(&f.dir, "dir", "", "keep all files in a new folder of this directory; not with --real and --auto")
	c.Flags().StringVar(&f.record, "record", "", "also record what a terminal shows, as a moving picture `file.svg`")
	lab.ProgramFlag(c, &f.program)
	c.Flags().DurationVar(&f.hold, "hold", 0, "let the cluster stand at the end for so long, with its console, whose address and login are told as\nsoon as it is there (default: on a terminal until Enter, else not at all)")
	c.Flags().BoolVar(&f.real, "real", false, "use a real VM (needs root, libvirt and QEMU)")
	c.Flags().BoolVar(&f.auto, "auto", false, "use a real VM if this is root, after installing what is missing with apt-get; else do without")
	return c
}

func (f flags) run(ctx context.Context, opt Options, found facts) error {
	once := func(ctx context.Context, real bool) error {
		opt := opt
		opt.Real = real
		result, err := Run(ctx, opt)
		if err != nil {
			return err
		}
		return result.Err()
	}
	if f.auto {
		s := newScreen(opt.Out, opt.JSON, time.Now())
		s.beside, s.film = opt.Err, opt.film
		return auto{facts: found, say: s.Note, install: func(ctx context.Context) error { return lab.Install(ctx, "") }, run: once}.Run(ctx)
	}
	if f.real {
		if err := found.refuse(); err != nil {
			return err
		}
	}
	return once(ctx, f.real)
}

func (f flags) options(c *cobra.Command) (Options, error) {
	fault := Fault(f.fault)
	if err := fault.check(); err != nil {
		return Options{}, fail.Errorf(fail.Invalid, "--fault: %w", err)
	}
	if f.output != "text" && f.output != "json" {
		return Options{}, fail.Errorf(fail.Invalid, "--output: value %q: want text or json", f.output)
	}
	if f.real && f.auto {
		return Options{}, fail.Errorf(fail.Invalid, "--real and --auto: want one of them")
	}
	if f.hold < 0 || f.hold > maxHold {
		return Options{}, fail.Errorf(fail.Invalid, "--hold: value %s: want 0s to %s", f.hold, maxHold)
	}
	if f.dir != "" && (f.real || f.auto) {
		return Options{}, fail.Errorf(fail.Invalid, "--dir: not with --real and --auto, whose files are removed with the hosts")
	}
	var recorded *film.Film
	if c.Flags().Changed("record") {
		if err := checkRecord(f.record); err != nil {
			return Options{}, err
		}
		recorded = film.New(f.typed(), time.Now())
	}
	exe, err := lab.Program(c.Context(), f.program)
	if err != nil {
		return Options{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return Options{}, fmt.Errorf("find this program: %w", err)
	}
	hold, in := f.hold, io.Reader(nil)
	if !c.Flags().Changed("hold") && recorded == nil && f.output == "text" && isTerminal(c.InOrStdin()) && isTerminal(c.OutOrStdout()) {
		hold, in = maxHold, c.InOrStdin()
	}
	return Options{
		Fault: fault, Hold: hold, In: in, JSON: f.output == "json", Dir: f.dir, Keep: f.dir != "",
		Out: c.OutOrStdout(), Err: c.ErrOrStderr(), Exe: exe, Self: self, Dial: dialAgent, film: recorded,
	}, nil
}

// dialAgent reaches an agent by its unix socket.
func dialAgent(socket string) (Agent, error) {
	client, err := api.Dial("unix:"+socket, nil)
	if err != nil {
		return nil, err
	}
	return client, nil
}

// GuestCommand returns the hidden command that plays the VM.
func GuestCommand() *cobra.Command {
	return &cobra.Command{
		Use: guestCommand, Short: "Play the VM of the demo", Hidden: true,
		DisableFlagParsing: true, // Guest reads them
		RunE: func(c *cobra.Command, args []string) error {
			return Guest(c.Context(), args)
		},
	}
}
