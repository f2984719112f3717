package transition

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/lib/fail"
	align "holdfast/internal/transition/db"
)

// dbRun are the flags of a run.
type dbRun struct {
	dbMapping
	parallel, threads int
	follow            bool
	catchUp, cutOver  bool
	quiet, lag        time.Duration
}

func dbRunCmd(a *command.App) *cobra.Command {
	var r dbRun
	cmd := &cobra.Command{
		Use:   "run --mapping FILE --source DSN --target DSN",
		Short: "Copy the rows, or go on with a copy that was interrupted",
		Long: `Plans first, and begins only when nothing stands in the way. Then copies the
rows in chunks of their keys, each with its line in the journal (database
migrate_journal on the target) in one transaction: whatever is killed at
whatever moment, the same command goes on where it was. Ctrl-C stops it.

With --follow, what the old platform writes meanwhile is carried over from its
binary log after the copy, until the cut-over: stop the old platform's writers,
then press Ctrl-C once, and it ends when all that was written until then is
there. Pressed twice it aborts, as it does at once when it is terminated in
another way, and the same command goes on. After the cut-over it does not.

For scripts: with --catch-up it ends when all is there that was written when the
copy was done or when it was begun; the same command goes on later. With
--cut-over it ends so, too, and that is the cut-over.

Exit codes: 0 done, 1 failed or interrupted, 2 bad input or a plan with errors,
3 refused, because the target has rows, another run is under way or was begun
otherwise or has had its cut-over, 4 a server is not reachable.`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return r.check(cmd) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return runDB(a, cmd, &r) },
	}
	r.flags(cmd)
	f := cmd.Flags()
	parallelFlag(cmd, &r.parallel)
	f.BoolVar(&r.follow, "follow", false, "carry over what is written meanwhile,\nuntil Ctrl-C")
	f.BoolVar(&r.catchUp, "catch-up", false, "with --follow: end when it is not behind,\nwithout a cut-over")
	f.BoolVar(&r.cutOver, "cut-over", false, "with --follow: the old platform's writers have\nstopped; carry over the rest, and end")
	f.DurationVar(&r.quiet, "quiet", 0, "with --follow: end when nothing has come for\nthis `time`")
	f.IntVar(&r.threads, "max-threads-running", 0, "wait while more than `N` threads run on a server")
	f.StringVar(&r.Replica, "replica", "", "`DSN` of a replica of the target; wait while it is\nfurther behind than --max-lag")
	f.DurationVar(&r.lag, "max-lag", 10*time.Second, "`time` that it may be behind")
	return cmd
}

// maxParallel is what the copier and the comparison take at most.
const maxParallel = 64

func parallelFlag(cmd *cobra.Command, n *int) {
	cmd.Flags().IntVar(n, "parallel", 0, "`N` chunks of rows at a time, 1 to 64\n(default 2 to 4)")
}

// inRange checks --parallel.
func inRange(cmd *cobra.Command, n int) error {
	if cmd.Flags().Changed("parallel") && (n < 1 || n > maxParallel) {
		return command.Usage(cmd, fmt.Errorf("--parallel %d: want 1 to %d", n, maxParallel))
	}
	return nil
}

// check looks for flags that can not be meant.
func (r *dbRun) check(cmd *cobra.Command) error {
	f := cmd.Flags()
	switch {
	case r.threads < 0 || r.threads == 0 && f.Changed("max-threads-running"):
		return command.Usage(cmd, fmt.Errorf("--max-threads-running %d: want a number from 1", r.threads))
	case r.quiet < 0 || r.quiet == 0 && f.Changed("quiet"):
		return command.Usage(cmd, fmt.Errorf("--quiet %s: want a time, such as 30s", r.quiet))
	case (r.quiet > 0 || r.catchUp || r.cutOver) && !r.follow:
		return command.Usage(cmd, errors.New("--quiet, --catch-up and --cut-over are for --follow, which is not given"))
	case r.catchUp && r.cutOver || r.quiet > 0 && (r.catchUp || r.cutOver):
		return command.Usage(cmd, errors.New("--quiet, --catch-up, --cut-over: want one of them, as each says when it ends"))
	case r.lag < time.Second:
		return command.Usage(cmd, fmt.Errorf("--max-lag %s: want a time from 1s: servers tell whole seconds", r.lag))
	case f.Changed("max-lag") && r.Replica == "":
		return command.Usage(cmd, errors.New("--max-lag is for --replica, which is not given"))
	}
	if err := inRange(cmd, r.parallel); err != nil {
		return err
	}
	return r.dbMapping.check(cmd)
}

func runDB(a *command.App, cmd *cobra.Command, r *dbRun) (err error) {
	js, err := a.AsJSON(cmd)
	if err != nil {
		return err
	}
	x, err := r.open(cmd, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	w := &running{progress.NewTicker(a.Env.Stderr)}
	o := &align.Options{Tell: tellOn(w.shows), Parallel: r.parallel, MaxThreadsRunning: r.threads, MaxLag: r.lag,
		Quiet: r.quiet, CatchUp: r.catchUp, CutOver: r.cutOver}
	switch {
	case r.catchUp || r.cutOver:
		o.Follow = toTheEnd
	case r.follow:
		o.Follow = w.carry
	}
	if out, err := x.Complete(cmd.Context(), o); out != nil || err != nil {
		return showRan(a, out, js, runError(err))
	}
	found, err := x.Begin(cmd.Context(), o)
	if err = errors.Join(runError(err), w.shows.End()); err != nil {
		return err
	}
	if len(found.Errors) > 0 {
		if !js {
			found.Tables = nil // the errors are what must be seen; plan shows the statements
		}
		err := showSurvey(a, found, js)
		if e := new(fail.Error); found.Full && errors.As(err, &e) && e.Kind == fail.Invalid {
			return fail.Errorf(fail.Refused, "") // somebody's rows are there; how many was said
		}
		return err
	}
	out, err := x.Run(cmd.Context(), o)
	if err == nil && out.Follow != nil {
		followed(w.shows, out)
	}
	return showRan(a, out, js, errors.Join(runError(faults(a, err)), w.shows.End()))
}

// showRan writes what a run did, unless it has failed.
func showRan(a *command.App, out *align.Ran, js bool, err error) error {
	switch {
	case err != nil:
		return err
	case js:
		return output.JSON(a.Env.Stdout, out, false)
	}
	return output.Text(a.Env.Stdout, ranText(out, output.PainterFor(a.Env.Stdout)))
}

// running is a run on its way.
type running struct{ shows *progress.Ticker }

// carry follows the source until the cut-over, which is the first SIGINT. A second one
// aborts, and so does at once all else that ends a process: who stops a machine or closes
// a terminal has not stopped the old platform's writers.
func (w *running) carry(ctx context.Context, follow func(work context.Context, stop <-chan struct{}) error) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it stays so
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	if ctx.Err() != nil {
		return context.Cause(ctx) // it was for the copy
	}
	work, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	w.shows.Say("the rows are copied; what is written from now on is carried over. For the cut-over stop the old " +
		"platform's writers, then press Ctrl-C once")
	stop, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		w.heed(ctx, signals, done, stop, abort)
	}()
	err := follow(work, stop)
	close(done)
	<-ended
	return err
}

// toTheEnd carries over what the source's log has when following begins.
func toTheEnd(ctx context.Context, follow func(work context.Context, stop <-chan struct{}) error) error {
	stop := make(chan struct{})
	close(stop)
	return follow(ctx, stop)
}

// heed closes stop at the cut-over, and aborts, until done. A signal ends ctx, too, a
// moment before or after it comes here; a ctx that ends without one was to end the copy, at
// once where it says why: another has the source's lock.
func (w *running) heed(ctx context.Context, signals <-chan os.Signal, done <-chan struct{}, stop chan<- struct{},
	abort context.CancelCauseFunc) {
	without := ctx.Done()
	var late <-chan time.Time
	for first := true; ; {
		select {
		case <-done:
			return
		case s := <-signals:
			without, late = nil, nil
			if first && s == syscall.SIGINT {
				w.shows.Say("cut-over: carrying over what is written up to now; Ctrl-C again aborts")
				close(stop)
			} else {
				abort(nil)
			}
			first = false
		case <-without:
			without, late = nil, time.After(time.Second)
			if why := context.Cause(ctx); !errors.Is(why, context.Canceled) { // a signal's is
				late, first = nil, false
				abort(why)
			}
		case <-late:
			abort(nil)
			first = false
		}
	}
}

// ranText says what was done, and what is to be done now.
func ranText(out *align.Ran, p output.Painter) string {
	var b strings.Builder
	var rows [][]output.Cell
	for _, t := range out.Tables {
		rows = append(rows,
			[]output.Cell{{Text: output.Clean(t.Target)}, {Text: output.Thousands(t.Rows)},
				{Text: fmt.Sprintf("%.1f", t.Seconds)}})
	}
	output.Table(&b, p, []output.Column{{Head: "TABLE", Cut: 1, Least: 20}, {Head: "ROWS"}, {Head: "SECONDS"}}, rows)
	b.WriteByte('\n')
	label, did := "copied", fmt.Sprintf("%s rows/s", output.Thousands(int64(out.RowsPerSecond)))
	switch {
	case out.Complete:
		label, did = "complete", "already complete: all rows were copied before, and nothing was changed now"
	case out.Resumed && out.RowsPerSecond == 0:
		did = "all rows were there already"
	case out.Resumed:
		did += ", gone on with a run that was interrupted"
	}
	output.Say(&b, p, label, output.Green, did)
	if f := out.Follow; f != nil {
		output.Say(&b, p, "followed", output.Green, output.Clean(followedText(f)))
	}
	if out.GoesOn {
		output.Say(&b, p, "next", output.Plain, "the same command again, and at last with --cut-over")
		return b.String()
	}
	output.Say(&b, p, "next", output.Plain, "holdfast transition db verify, with the same mapping, IDs and servers")
	label = "then"
	for _, adv := range out.Advice {
		if !strings.HasPrefix(adv, beforeRun) {
			output.Say(&b, p, label, output.Plain, "- "+output.Clean(adv))
			label = ""
		}
	}
	return b.String()
}
