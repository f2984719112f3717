package survey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/check/faults"
)

// Check makes the checks of a run: the Executor of upgrade.KindCheck. A step of a host
// looks at that host only; one of no host looks at all, and writes a report.
type Check struct {
	Survey   *Survey
	Manifest func(ctx context.Context, sha string) (*manifest.Manifest, error) // of a bundle, by the SHA-256 of its file
	Run      func(ctx context.Context, job string) (Run, error)
	Verify   func(ctx context.Context, run, module string) error // that the backup of a module in a run is whole
	Reports  string                                              // directory
	Faults   *faults.Catalogue                                   // nil: those that are built in
	// Settle is how long after a change a failure is looked at again before it
	// counts: services take a while, and what hosts report is some seconds old. 0: a
	// minute.
	Settle time.Duration
}

const (
	settle = time.Minute
	looks  = 12 // in this time
)

// Probe answers that nothing was done: a check changes nothing, and is made anew.
func (c *Check) Probe(context.Context, engine.Task) (engine.Probed, error) {
	return engine.NotDone, nil
}

// Do makes the checks of a step. It fails when one of them does.
func (c *Check) Do(ctx context.Context, t engine.Task) error {
	var args upgrade.CheckArgs
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	switch {
	case t.Step.Host != "" && t.Step.Host != c.Survey.Host:
		return fmt.Errorf("check %s: this is host %s", t.Step.Host, c.Survey.Host)
	case args.When == upgrade.BeforeRollback:
		return c.backups(ctx, t, args)
	case args.When != upgrade.Before && args.When != upgrade.Between && args.When != upgrade.After:
		return fmt.Errorf("check: a point of the run %q is not known", args.When)
	case args.SHA256 == "":
		return errors.New("check: the step does not say of which bundle")
	}
	m, err := c.Manifest(ctx, args.SHA256)
	if err != nil {
		return fmt.Errorf("check: read what the bundle requires: %w", err)
	}
	if t.Step.Host == "" {
		return c.all(ctx, t, args, m)
	}
	return c.own(ctx, t, args, m)
}

// backups wants all backups whole that a rollback needs of this host.
func (c *Check) backups(ctx context.Context, t engine.Task, args upgrade.CheckArgs) error {
	var bad []error
	for i, module := range args.Backups {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.Note("verifies the backup of "+module, 100*i/len(args.Backups))
		err := c.Verify(ctx, args.Run, module)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("the backup of %s can not be used: %w", module, err)
			bad = append(bad, err)
			say(t.Log, "[FAIL] %v", err)
			continue
		}
		say(t.Log, "[ -OK- ] the backup of %s is whole", module)
	}
	return errors.Join(bad...)
}

// own checks this host. The others are in the inventory, for the room that guests
// need, and are not asked: what is found about them, or about all, is theirs to say.
func (c *Check) own(ctx context.Context, t engine.Task, args upgrade.CheckArgs, m *manifest.Manifest) error {
	host := c.Survey.Host
	q := Question{
		When: check.When(args.When), SHA256: args.SHA256, Manifest: m, Mode: args.Mode, Staged: true, Only: []cluster.HostID{host}, Pin: args.Pin,
		// The job that runs is the upgrade itself, or a rollback of it.
		Back: args.Run != "" && args.Run != t.Job,
	}
	if args.When == upgrade.Between {
		q.Done = q.Only
	}
	read := false
	readPlan := func() error {
		run, err := c.Run(ctx, t.Job)
		if err == nil {
			read = true
			run.options(&q)
		}
		return err
	}
	if m.Engine() != "" { // what an operator has said of its scripts' questions is a part of what the host is asked
		if err := readPlan(); err != nil {
			return fmt.Errorf("check: read the journal of the run: %w", err)
		}
	}
	in, fs, err := c.look(ctx, t, &q, func(in check.Input) ([]check.Finding, error) {
		fs := check.About(check.Run(in), host)
		if check.Worst(fs) != check.Fail {
			return fs, nil
		}
		if !read {
			// The operator may have decided what becomes of a guest, or confirmed what
			// fails. That is in the plan, which is large: hosts do not read it without need.
			if err := readPlan(); err != nil {
				return nil, fmt.Errorf("check: something fails (%s), and what was decided of it is not known: %w", brief(fs, check.Fail), err)
			}
			in.Mode, in.Stay, in.Policy, in.Policies, in.Confirmed = q.Mode, q.Stay, q.Policy, q.Policies, q.Confirmed
			fs = check.About(check.Run(in), host)
		}
		return Accept(fs, q.Confirmed), nil
	})
	if err != nil {
		return err
	}
	rep := check.Report{
		Title: "Check of " + string(host), When: in.When, Cluster: in.Inventory.Cluster, From: in.Inventory.Version,
		To: m.Version, Bundle: m.Name,
		Began: in.Now, Ended: c.Survey.Now(), Hosts: check.Rows(in, host), Findings: fs,
	}
	rep.Hosts = slices.DeleteFunc(rep.Hosts, func(r check.HostRow) bool { return r.Name != host })
	if err := check.WriteText(t.Log, rep); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return c.verdict(t, fs, "")
}

// Accept makes warnings of failures that an operator has confirmed, by the ids of
// the checks.
func Accept(fs []check.Finding, confirmed []string) []check.Finding {
	fs = slices.Clone(fs)
	for i := range fs {
		if f := &fs[i]; f.Level == check.Fail && slices.Contains(confirmed, f.Check) {
			f.Level, f.Text = check.Warn, f.Text+" (confirmed by an operator)"
		}
	}
	check.Sort(fs)
	return fs
}

// all checks all hosts and writes a report.
func (c *Check) all(ctx context.Context, t engine.Task, args upgrade.CheckArgs, m *manifest.Manifest) error {
	began := c.Survey.Now()
	run, err := c.Run(ctx, t.Job)
	if err != nil {
		return fmt.Errorf("check: read the journal of the run: %w", err)
	}
	q, err := run.Question(check.When(args.When), m)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	in, fs, err := c.look(ctx, t, &q, func(in check.Input) ([]check.Finding, error) { return Accept(check.Run(in), q.Confirmed), nil })
	if err != nil {
		return err
	}
	rep := Report(in, c.Survey.Host)
	rep.Findings, rep.Began, rep.Ended = fs, began, c.Survey.Now()
	known := c.Faults
	if known == nil {
		if known, err = faults.Builtin(); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	if err := run.Fill(&rep, known, t.Step.ID); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if err := check.WriteText(t.Log, rep); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	files, err := check.WriteAll(c.Reports, rep)
	if err != nil {
		return errors.Join(fmt.Errorf("check: %w", err), c.verdict(t, fs, ""))
	}
	for _, f := range []string{files.Text, files.JSON, files.HTML} {
		say(t.Log, "report: %s", f)
	}
	return c.verdict(t, fs, strings.TrimSuffix(files.Text, filepath.Ext(files.Text)))
}

// look asks and judges, after a change again while something fails that may still
// settle.
func (c *Check) look(ctx context.Context, t engine.Task, q *Question,
	judge func(check.Input) ([]check.Finding, error)) (check.Input, []check.Finding, error) {
	limit := c.Settle
	if limit == 0 {
		limit = settle
	}
	over := time.NewTimer(limit)
	defer over.Stop()
	for last := q.When == check.Before; ; {
		in, err := c.Survey.Look(ctx, *q)
		if err != nil {
			return in, nil, fmt.Errorf("check: %w", err)
		}
		fs, err := judge(in)
		if err != nil || last || check.Worst(fs) != check.Fail {
			return in, fs, err
		}
		t.Note("looks again: "+brief(fs, check.Fail), -1)
		select {
		case <-ctx.Done():
			return in, nil, context.Cause(ctx)
		case <-over.C:
			last = true // what was found may be some time old
		case <-time.After(limit / looks):
		}
	}
}

// verdict is the error of a check: all that fails, with what to do about it.
func (c *Check) verdict(t engine.Task, fs []check.Finding, report string) error {
	n := check.Count(fs)
	note := fmt.Sprintf("%d failed, %d warnings", n[check.Fail], n[check.Warn])
	if n[check.Warn] > 0 {
		note += ": " + brief(fs, check.Warn)
	}
	if report != "" {
		note += "; report " + report + ".*"
	}
	t.Note(note, 100)
	if n[check.Fail] == 0 {
		return nil
	}
	var lines []string
	for _, f := range fs {
		if f.Level == check.Fail {
			line := f.Check + ": " + where(f) + f.Text
			if f.Remedy != "" {
				line += " (what to do: " + f.Remedy + ")"
			}
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "; ")
	if report != "" {
		text += "; report " + report + ".*"
	}
	return fmt.Errorf("%d faults found: %s", n[check.Fail], text)
}

// where names what a finding is about.
func where(f check.Finding) string {
	if f.Where == "" {
		return ""
	}
	return f.Where + ": "
}

// brief gives the first texts of a level.
func brief(fs []check.Finding, l check.Level) string {
	const shown = 3
	var out []string
	more := 0
	for _, f := range fs {
		switch {
		case f.Level != l:
		case len(out) == shown:
			more++
		default:
			out = append(out, where(f)+f.Text)
		}
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, "; ")
}

// say writes a line of a step's log, which never fails.
func say(log io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintln(log, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}
