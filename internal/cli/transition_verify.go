package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/verify"
)

func (a *app) dbVerifyCmd() *cobra.Command {
	var m dbMapping
	var parallel int
	var nova novaReader
	cmd := &cobra.Command{
		Use:   "verify --mapping FILE --source DSN --target DSN",
		Short: "Compare every row of the target with the source's, mapped",
		Long: `Compares the rows of the target with the rows that the mapping makes of the
source: how many there are, and a checksum of every range of them. Then asks
whether what the mapping's checks want holds, and whether rows have what they
refer to. The source must stand still meanwhile. With --nova-conf, Nova's own
code reads some of the guests, on a machine that has it (Xena or later).

Exit codes: 0 all is equal and holds, 1 it is not, 2 bad input, 3 refused,
because a run is under way or has not ended, or was begun otherwise, 4 a server
is not reachable.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			js, err := a.asJSON(cmd)
			if err == nil {
				err = inRange(cmd, parallel)
			}
			if err == nil {
				err = nova.check(cmd)
			}
			if err != nil {
				return err
			}
			x, err := m.open(cmd, a)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, x.Close()) }()
			return a.verify(cmd.Context(), x, parallel, nova, js)
		},
	}
	m.flags(cmd)
	parallelFlag(cmd, &parallel)
	nova.flags(cmd)
	return cmd
}

func (a *app) verify(ctx context.Context, x *alignment, parallel int, nova novaReader, js bool) error {
	shows := newTicker(a.env.Stderr)
	if err := nova.fits(x.mapping); err != nil {
		return err
	}
	j, err := x.journal(ctx)
	if err == nil {
		err = x.complete(ctx, j, shows.say)
	}
	if err != nil {
		return runError(err)
	}
	if j == nil {
		shows.say("the target has no journal of a copy: its rows are compared as they are")
	}
	plan, err := x.bare(ctx)
	if err != nil {
		return planError(err)
	}
	if len(plan.Errors) > 0 {
		return a.faults("plan", faultsOf(plan.Errors))
	}
	// The locks keep a run out, whose rows would come in between, and other copies' IDs.
	ctx, unlock, err := x.lock(ctx)
	if err != nil {
		return runError(err)
	}
	defer unlock()
	if err := x.copied(ctx); err != nil {
		return runError(err)
	}
	if nova.conf != "" {
		if err := nova.leads(ctx, x, plan); err != nil {
			return runError(err)
		}
	}
	r, err := verify.Run(ctx, x.mapping, plan, x.source, x.target, x.targetSide, verify.Options{
		Parallel: parallel, Progress: func(p verify.Progress) { shows.show(fmt.Sprintf("%s  %s rows compared", p.Table, thousands(p.Rows))) },
	})
	if err == nil && nova.conf != "" {
		shows.show("Nova's own code reads guests")
		var c verify.CheckResult
		c, err = nova.read(ctx, x, plan)
		r.Checks, r.Equal = append(r.Checks, c), r.Equal && c.Holds
	}
	if err = errors.Join(runError(err), shows.end()); err != nil {
		return err
	}
	if js {
		err = writeJSON(a.env.Stdout, r, false)
	} else {
		err = writeText(a.env.Stdout, verifyText(r, painterFor(a.env.Stdout)))
	}
	if err == nil && !r.Equal {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return err
}

// lock takes the locks of both servers.
func (x *alignment) lock(ctx context.Context) (locked context.Context, unlock func(), err error) {
	ctx, ours, err := copier.Lock(ctx, x.target)
	if err != nil {
		return nil, nil, err
	}
	ctx, theirs, err := copier.Lock(ctx, x.source)
	if err != nil {
		ours()
		return nil, nil, err
	}
	return ctx, func() { theirs(); ours() }, nil
}

// bare is the plan without a look at the rows.
func (x *alignment) bare(ctx context.Context) (*mapping.Plan, error) {
	side, err := x.source.Side(ctx, x.sourceDBs)
	if err != nil {
		return nil, err
	}
	p := mapping.MakePlan(x.mapping, side, x.targetSide, ids.Known(x.sets))
	return &p, nil
}

// faultsOf is an error with a line for each finding.
func faultsOf(list []mapping.Finding) error {
	var all []error
	for _, f := range list {
		all = append(all, errors.New(findingText(f)))
	}
	return errors.Join(all...)
}

// copied looks whether there is a whole copy to be compared, and stages the IDs.
func (x *alignment) copied(ctx context.Context) error {
	j, err := x.journal(ctx)
	if err == nil {
		err = x.complete(ctx, j, func(string) {}) // it was said
	}
	if err != nil {
		return err
	}
	switch {
	case j != nil && j.Follows && j.State != copier.Done:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not had its cut-over: what was written since is not in the target", j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run --follow")
	case j != nil && j.State == copier.Copying:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not ended", j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run")
	}
	return x.stage(ctx)
}

// verifyText shows what differs after what does not.
func verifyText(r *verify.Result, p painter) string {
	var b strings.Builder
	var rows [][]cell
	for _, t := range r.Tables {
		is := cell{"equal", green}
		if !t.ChecksumEqual {
			is = cell{"differs", red}
		}
		rows = append(rows, []cell{{clean(t.Target), plain}, {thousands(t.SourceRows), plain}, {thousands(t.TargetRows), plain}, is})
	}
	table(&b, p, []column{{head: "TABLE", cut: 1, least: 20}, {head: "SOURCE"}, {head: "TARGET"}, {head: "ROWS ARE"}}, rows)
	b.WriteByte('\n')
	for _, t := range r.Tables {
		for _, d := range t.Differences {
			say(&b, p, "differs", red, clean(fmt.Sprintf("%s %s: %s", t.Target, strings.Join(d.Key, ", "), d.What)))
		}
	}
	broken := 0
	for _, c := range r.Checks {
		if !c.Holds {
			broken++
			say(&b, p, "broken", red, clean(brokenText(c)))
		}
	}
	say(&b, p, "checks", plain, fmt.Sprintf("%d of %d hold", len(r.Checks)-broken, len(r.Checks)))
	if r.Equal {
		say(&b, p, "equal", green, "all rows are as the mapping makes them, and all checks hold")
	} else {
		say(&b, p, "not equal", red, "the target is not as it is to be: do not start the new platform on it")
	}
	return b.String()
}

func brokenText(c verify.CheckResult) string {
	if c.Error != "" {
		return c.Name + ": " + c.Error
	}
	return fmt.Sprintf("%s: %s rows break it", c.Name, thousands(c.Broken))
}
