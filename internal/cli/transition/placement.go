package transition

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/platform"
)

// manageStep is a command of nova-manage, and what its exit codes mean (nova/cmd/manage.py). 0 is done.
type manageStep struct {
	args  []string
	also  []int  // codes that are done, too
	more  string // how its last line begins where it ends with 1 and has to be run again
	means map[int]string
}

// manageSteps are given in this order: each needs what the one before it has made.
var manageSteps = []manageStep{
	{args: []string{"cell_v2", "discover_hosts"}},
	// It ends at 50 allocations in a cell, too, as if that number had been asked for.
	{args: []string{"placement", "heal_allocations", "--verbose"}, also: []int{4}, more: "Max count reached", means: map[int]string{
		2: "a guest's host has no compute node: its nova-compute has not reported, or reports another name",
		3: "Placement refused allocations, or was not reached",
		5: "the ports of a guest could not be asked of Neutron", 6: "ports could not be changed in Neutron",
		7: "ports were changed in Neutron and could not be put back: see what it said",
		8: "a guest with a vGPU or an accelerator has to be healed by hand",
	}},
	{args: []string{"placement", "sync_aggregates", "--verbose"}, means: map[int]string{
		1: "a host has several compute nodes", 2: "Placement did not answer as it should", 3: "Placement refused the aggregates of a host",
		4: "hosts of aggregates are not mapped to a cell", 5: "hosts of aggregates have no compute node: their nova-compute has not reported",
		6: "hosts of aggregates have no provider in Placement: their nova-compute has not reported",
	}},
}

func placementCmd(a *command.App) *cobra.Command {
	var openrc string
	cmd := &cobra.Command{
		Use:   "placement [-- NOVA-MANAGE [ARG...]]",
		Short: "Tell Placement of hosts and guests that were carried over",
		Long: `Runs nova-manage cell_v2 discover_hosts, placement heal_allocations and placement
sync_aggregates, and reads back by the API whether Placement has each host, an
allocation of each guest, and each host in the aggregates of Nova. Without them
hosts look empty to the scheduler, or are in no zone. Run it when the
nova-computes of the new release have reported; again, it goes on.

NOVA-MANAGE is the program, or one that runs it, such as
/usr/bin/docker exec nova_api nova-manage. What it says is on standard error.
The login is that of "transition collect".

Exit codes: 0 Placement has all. 1 it lacks something, or nova-manage failed. 2
bad input. 3 refused: there is no Placement. 4 an API is not reachable.`,
		Args: cobra.ArbitraryArgs, // a program's
		RunE: func(cmd *cobra.Command, args []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"nova-manage"}
			}
			return placement(cmd.Context(), a, openrc, args, js)
		},
	}
	openrcFlag(cmd, &openrc)
	return cmd
}

// placed is what the command prints with -o json.
type placed struct {
	Steps    []manageRan        `json:"steps"`
	Findings []platform.Finding `json:"findings"` // of Placement, afterwards
}

type manageRan struct {
	Run   []string `json:"run"`
	Exit  int      `json:"exit"`
	Fault string   `json:"fault"` // what the code means, and the last line that was said; "": it is done

	goesOn bool // it has to be run again
}

func placement(ctx context.Context, a *command.App, openrc string, manage []string, js bool) error {
	getenv, err := loginFrom(openrc)
	if err != nil {
		return err
	}
	p, err := a.Env.Collect(ctx, getenv, time.Now())
	if err != nil {
		return err
	}
	switch {
	case p.Providers != nil:
	case slices.ContainsFunc(p.Endpoints, func(e platform.Endpoint) bool { return e.Service == "placement" }):
		return fail.Errorf(fail.Refused, "Nova's API at %s ends at version %s: want 2.53 or later, by which what "+
			"Placement has is compared", p.Auth, p.Nova)
	default:
		return fail.Errorf(fail.Refused, "Keystone's catalog of %s has no endpoint of placement",
			p.Auth).With("openstack endpoint create, for this region and interface")
	}
	var r placed
	for _, s := range manageSteps {
		ran, err := runManage(ctx, a, slices.Concat(manage, s.args), s)
		for err == nil && ran.goesOn {
			ran, err = runManage(ctx, a, ran.Run, s)
		}
		if err != nil {
			return err
		}
		r.Steps = append(r.Steps, ran)
	}
	if p, err = a.Env.Collect(ctx, getenv, time.Now()); err != nil {
		return err
	}
	for _, f := range p.Check(false) {
		if f.Check == platform.Placement {
			r.Findings = append(r.Findings, f)
		}
	}
	if js {
		err = output.JSON(a.Env.Stdout, r, false)
	} else {
		err = output.Text(a.Env.Stdout, placedText(r, output.PainterFor(a.Env.Stdout)))
	}
	bad := func(s manageRan) bool { return s.Fault != "" }
	if err == nil && (slices.ContainsFunc(r.Steps, bad) || platform.Failed(r.Findings)) {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// runManage runs one command. What it says goes to standard error as it comes.
func runManage(ctx context.Context, a *command.App, run []string, s manageStep) (manageRan, error) {
	ran := manageRan{Run: run}
	cmd := exec.CommandContext(ctx, run[0], run[1:]...)
	cmd.WaitDelay = 5 * time.Second
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	said := make(chan string, 1)
	wrote := make(chan error, 1)
	go func() {
		last, err := pass(a, out)
		said <- last
		wrote <- err
	}()
	err := cmd.Run()
	err = errors.Join(err, in.Close())
	last := <-said
	var ended *exec.ExitError
	switch wrong := <-wrote; {
	case ctx.Err() != nil:
		return ran, context.Cause(ctx)
	case wrong != nil:
		return ran, wrong
	case errors.As(err, &ended) && ended.Exited():
		ran.Exit = ended.ExitCode()
	case errors.As(err, &ended):
		return ran, fail.Errorf(fail.Failed, "%s: %w", strings.Join(run, " "), err)
	case err != nil:
		return ran, fail.Errorf(fail.Invalid, "nova-manage can not be run: %w",
			err).With("give what runs it here after --, such as: -- docker exec nova_api nova-manage")
	}
	ran.goesOn = ran.Exit == 1 && s.more != "" && strings.HasPrefix(last, s.more)
	if ran.Exit != 0 && !slices.Contains(s.also, ran.Exit) {
		ran.Fault = fmt.Sprintf("exit code %d", ran.Exit)
		for _, more := range []string{s.means[ran.Exit], last} {
			if more != "" {
				ran.Fault += ": " + more
			}
		}
	}
	return ran, nil
}

// pass writes lines to standard error, to their end, and returns the last one that is not empty.
func pass(a *command.App, from io.Reader) (last string, err error) {
	lines := bufio.NewReader(from)
	for {
		line, end := lines.ReadString('\n')
		if text := strings.TrimSpace(line); text != "" {
			last = output.Clean(text)
			if err == nil {
				err = output.Text(a.Env.Stderr, last+"\n")
			}
		}
		if errors.Is(end, io.EOF) {
			return last, err
		}
		if end != nil {
			return last, errors.Join(err, end)
		}
	}
}

func placedText(r placed, p output.Painter) string {
	var b strings.Builder
	for _, s := range r.Steps {
		label, c, text := "done", output.Green, strings.Join(s.Run, " ")
		if s.Fault != "" {
			label, c, text = "failed", output.Red, text+": "+s.Fault
		}
		output.Say(&b, p, label, c, output.Clean(text))
	}
	sayFindings(&b, p, r.Findings)
	return b.String()
}
