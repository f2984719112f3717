package pair

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/setup"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/precheck"
)

// pairSetup is a set-up under way.
type pairSetup struct {
	pairInput
	yes string
	placeFlags
	stages stages
}

func setupCmd(a *command.App) *cobra.Command {
	var s pairSetup
	cmd := &cobra.Command{
		Use:   "setup --vip ADDRESS/LENGTH --peer IP --arbiter WHO",
		Short: "Make a pair of this node and another one",
		Long: `Makes a pair: runs all checks of "pair check", asks for the word CONFIRM,
installs Holdfast on both nodes and on the third host of --arbiter quorum:IP,
begins with the data of this node, and waits until the other node has all of
them and could take over. What the other node had in its database is moved
aside there. With --arbiter fence there is no third host: a node that loses the
other one goes on alone when the other's fence device has shown it off; with
--arbiter disk:/dev/DEVICE, which both can write, when the disk names it; with
--arbiter ping:IP,IP, best effort, when one of these addresses answers it.

The group is MariaDB, tomcat.service (or the units of --service) and the virtual
address. --group takes a file with Database, Group, Device, SplitBrain, Patience
and HangTimeout, as in Pair of a configuration, and with its Timings.

With --device /dev/DISK the pair begins with an empty database instead, on a
DRBD device that lies on this empty disk of both nodes, mounted at /srv/pair.

With --second-path there are two networks between the nodes: a cut of one of
them does not part the pair. Data are copied over the first one only.

A set-up that was interrupted goes on when it is run again with the same values.
--hosts and --vms are needed, too. On a terminal what is missing is asked for.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return setupPair(a, cmd, &s) },
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&s.yes, "yes", "", "the `word` CONFIRM: do not ask for it")
	s.add(cmd)
	s.waits(cmd)
	return cmd
}

func setupPair(a *command.App, cmd *cobra.Command, s *pairSetup) (err error) {
	if s.yes != "" && s.yes != setup.Word {
		return fail.Errorf(fail.Invalid, "--yes: value %q: want the word %s", output.Clean(s.yes), setup.Word)
	}
	if err := form(a, cmd, s, install.SetupFile); err != nil {
		return err
	}
	o, err := s.options(cmd)
	var v setup.Values
	if err == nil {
		v, err = s.planned(s.placeFlags, &o)
	}
	if err != nil {
		return err
	}
	s.stages = stages{a: a, begun: time.Now(), of: 4}
	free, err := setup.Lock(install.SetupLock, "set-up")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, free()) }()
	if err := reachPair(cmd.Context(), a, &s.pairInput, &o); err != nil {
		return err
	}
	note, err := setup.ReadNote(install.SetupFile)
	if err != nil {
		return err
	}
	if note == nil {
		note, err = planPair(a, cmd, s, o, v)
	} else if err = note.Same(v); err == nil {
		err = output.Text(a.Env.Stderr,
			fmt.Sprintf("goes on with the set-up of %s\n", note.Begun.Local().Format(time.DateTime)))
	}
	if err != nil {
		return err
	}
	s.stages.n = 1 // also when they were made before
	err = carryOut(a, cmd, s, o, note)
	if cmd.Context().Err() != nil {
		return fail.Errorf(fail.Canceled, "pair setup: interrupted").With("run it again with the same values: it goes on")
	}
	return err
}

// planPair checks, asks, and notes what will be done.
func planPair(a *command.App, cmd *cobra.Command, s *pairSetup, o survey.Options, v setup.Values) (*setup.Note, error) {
	if err := s.stages.next("checks"); err != nil {
		return nil, err
	}
	in, err := survey.Ask(cmd.Context(), o)
	if err != nil {
		return nil, err
	}
	found := precheck.Judge(in)
	if err := output.Text(a.Env.Stdout, pairCheckText(found, output.PainterFor(a.Env.Stdout))); err != nil {
		return nil, err
	}
	if precheck.Worst(found) == precheck.Fail {
		kind := fail.Failed
		if precheck.Busy(found) {
			kind = fail.Refused // as by the lock of this node
		}
		return nil, fail.Errorf(kind, "a check has failed; nothing was changed")
	}
	cl, err := s.Cluster(in)
	if err != nil {
		return nil, err
	}
	if err := confirmPair(cmd.Context(), a, s, cl); err != nil {
		return nil, err
	}
	return setup.Begin(v, cl)
}

// confirmPair says what will be done, and asks for the word.
func confirmPair(ctx context.Context, a *command.App, s *pairSetup, cl config.Cluster) error {
	if err := output.Text(a.Env.Stderr, strings.Join(setup.Consequences(cl), "\n")+"\n"); err != nil {
		return err
	}
	if s.yes == setup.Word {
		return nil
	}
	in, ok := a.Env.Stdin.(*os.File)
	if !ok || !output.IsTerminal(in) {
		return fail.Errorf(fail.Refused, "nobody can be asked without a terminal; nothing was changed").With("give --yes " + setup.Word)
	}
	typed, err := a.Ask(ctx, "Type "+setup.Word+" to go on: ")
	if err != nil {
		return err
	}
	if typed != setup.Word {
		return command.NotConfirmed("type " + setup.Word + ", or give --yes " + setup.Word)
	}
	return nil
}

// carryOut does what was noted. Each part can be done again.
func carryOut(a *command.App, cmd *cobra.Command, s *pairSetup, so survey.Options, note *setup.Note) error {
	if err := s.stages.next("installation"); err != nil {
		return err
	}
	if err := placePair(a, cmd, string(note.Config.Nodes()[0].Host), &s.pairInput, s.placeFlags, so, note); err != nil {
		return err
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	wait, cancel := context.WithTimeout(cmd.Context(), s.limit)
	defer cancel()
	begins := "the pair begins with the data of this node"
	if note.Config.Pair.Device != nil {
		begins = "the pair begins with an empty database"
	}
	err = s.stages.next(begins)
	if err == nil {
		err = beginPair(wait, a, c)
	}
	if err == nil {
		err = s.stages.next("the copy of all data")
	}
	if err != nil {
		return err
	}
	p, err := untilPair(wait, a, c, "setup", whyNotHealthy)
	if err != nil {
		return err
	}
	if err := errors.Join(output.Text(a.Env.Stderr, copiedText(p)), os.Remove(install.SetupFile)); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, ViewOf(p).text(output.PainterFor(a.Env.Stdout)))
}

// beginPair begins with this node's data, unless that was done. The agent may need a while.
func beginPair(ctx context.Context, a *command.App, c *api.Client) error {
	_, err := untilPair(ctx, a, c, "setup", func(p cluster.PairStatus) string {
		if p.Set {
			return ""
		}
		if err := c.BeginPair(ctx); err != nil {
			return err.Error()
		}
		return "the pair to begin"
	})
	return err
}
