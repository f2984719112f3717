package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/inventory/invfile"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/request"
)

// upgradeInput are the flags of a command that looks at a bundle and at the hosts.
type upgradeInput struct {
	file, version, platform string
	trust                   checkFlags
}

func (in *upgradeInput) flags(a *command.App, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&a.Key, command.TLSKeyFlag, "", "PEM `file` with the client's key, for --server")
	fl.StringVar(&in.file, "bundle", "", "`file` with the bundle")
	fl.StringArrayVar(&in.trust.keys, "key", nil, "`file` with a minisign public key;\nmay be repeated")
	fl.StringVar(&in.trust.signature, "signature", "", "`file` with the signature over a package of\nanother layout")
	fl.BoolVar(&in.trust.unsigned, "allow-unsigned", false, "accept a bundle that is not signed")
	fl.StringVar(&in.version, "version", "", "`version` that is installed, when the cluster\ndoes not know it yet")
	fl.StringVar(&in.platform, "platform", "", "YAML `file` with facts that agents can not\nreport: roles, groups, policies")
}

// check looks at what the flags say.
func (in *upgradeInput) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("version") && in.version == "" {
		return command.Usage(cmd, errors.New("--version \"\": want the version that is installed"))
	}
	return nil
}

// request reads what the flags name, but for the bundle.
func (in *upgradeInput) request(o upgrade.Options) (request.Request, error) {
	r := request.Request{Purpose: upgrade.ForUpgrade, Version: in.version, Options: o}
	if in.platform == "" {
		return r, nil
	}
	inv, err := invfile.LoadOverlay(in.platform)
	if err != nil {
		return r, fail.Errorf(fail.Invalid, "%w", err)
	}
	r.Inventory = &inv
	return r, nil
}

// bundleFile opens a bundle and checks as much of it as can be seen at once, so
// that nothing large is sent in vain.
func bundleFile(ctx context.Context, a *command.App, in *upgradeInput) (*os.File, request.Trust, error) {
	trust := request.Trust{AllowUnsigned: in.trust.unsigned}
	o, err := in.trust.options()
	if err != nil {
		return nil, trust, err
	}
	for _, k := range o.Keys {
		trust.Keys = append(trust.Keys, k.String())
	}
	trust.Signature = o.Signature
	f, err := os.OpenFile(in.file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe without a writer must not hang
	if err != nil {
		return nil, trust, fail.Errorf(fail.Invalid, "%w", err)
	}
	if err := lookAtBundle(ctx, a, f, in.file, o); err != nil {
		return nil, trust, errors.Join(err, f.Close())
	}
	return f, trust, nil
}

func lookAtBundle(ctx context.Context, a *command.App, f *os.File, file string, o bundle.Options) error {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return fail.Errorf(fail.Invalid, "%s: it is no regular file, want a bundle", file)
	}
	rep, err := bundle.Head(ctx, f, o)
	if err != nil {
		return bundleError(a, "check the bundle", file, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	return warnUnsigned(a, file, rep)
}

// bring brings a bundle to the agent.
func bring(ctx context.Context, a *command.App, c *api.Client, f *os.File,
	trust request.Trust) (request.BundleInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return request.BundleInfo{}, fmt.Errorf("read the bundle: %w", err)
	}
	m := &meter{r: f, size: info.Size(), name: output.Clean(info.Name()), said: -1}
	if output.IsTerminal(a.Env.Stderr) {
		m.w = a.Env.Stderr
	}
	b, err := c.PutBundle(ctx, m, trust)
	return b, errors.Join(err, m.end())
}

// meter reads a file and shows how far it is.
type meter struct {
	r    io.Reader
	w    io.Writer // nil: shows nothing
	name string
	size int64
	done int64
	said int // percent, -1 for nothing
	most text.Percent[int]
}

// Read passes on.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.done += int64(n)
	percent := m.most.Of(m.done, m.size)
	if m.w == nil || percent == m.said {
		return n, err
	}
	m.said = percent
	if werr := output.Text(m.w,
		"\r\x1b[K"+output.Fit(m.w, fmt.Sprintf("%s %3d %% of %s", output.Bar(percent), percent, m.name))); werr != nil {
		return n, werr
	}
	return n, err
}

// end closes the line.
func (m *meter) end() error {
	if m.said < 0 {
		return nil
	}
	return output.Text(m.w, "\n")
}

// upgradeBeginning says how a run of an upgrade is begun.
type upgradeBeginning struct {
	progress.Beginning
	dryRun bool
	join   bool // an upgrade to the same bundle counts
	show   detail
}

func runCmd(a *command.App) *cobra.Command {
	var f planFlags
	var in upgradeInput
	var b upgradeBeginning
	cmd := &cobra.Command{
		Use:   "run --bundle FILE",
		Short: told.Meaning(request.Run),
		Long: `Sends the bundle to the agent. The agent checks the bundle and all hosts, makes
a plan, and begins the upgrade. Without --yes the command first shows a summary
of the plan and asks. When the command is interrupted, the upgrade continues:
see "upgrade status".

With --dry-run it only shows the plan, and begins nothing.

Modes: rolling changes one host after the other while the service goes on;
offline stops the service on all hosts; reboot changes the software of all hosts
with guests running, and reboots them one after the other.

Exit codes: 0 the upgrade has begun, or with --wait is done; 1 a rule or a check
blocks it, it has failed, or it is paused after a failure; 2 bad input; 3
refused, for example because another upgrade runs; 4 agent not reachable.`,
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if in.file == "" {
				return command.Usage(cmd, errors.New("no --bundle given; want the path of a bundle"))
			}
			if err := in.check(cmd); err != nil {
				return err
			}
			_, err := f.options()
			return command.Usage(cmd, err)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return command.Usage(cmd, err)
			}
			return upgradeRun(a, cmd, &in, o, b)
		},
	}
	in.flags(a, cmd)
	cmd.Flags().BoolVar(&b.dryRun, "dry-run", false, "show the plan only")
	cmd.Flags().BoolVar(&b.join, "join", false, "where an upgrade to this bundle is under way or\ndone, begin none, and count that one")
	b.show.flags(cmd, "with --dry-run: ")
	b.Flags(cmd)
	f.flags(cmd)
	return cmd
}

func upgradeRun(a *command.App, cmd *cobra.Command, in *upgradeInput, o upgrade.Options, b upgradeBeginning) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := in.request(o)
	if err != nil {
		return err
	}
	f, trust, err := bundleFile(cmd.Context(), a, in)
	if err != nil {
		return err
	}
	defer f.Close()
	if !b.dryRun {
		// The agent refuses it, too, but only when it has the bundle.
		u, err := c.Upgrade(cmd.Context())
		if err != nil {
			return err
		}
		if b.join {
			if is, err := joined(cmd.Context(), a, c, u, f, b, js); is || err != nil {
				return err
			}
		}
		if j := u.Job; j != nil && j.State != "ended" {
			return fail.Errorf(fail.Refused, "%s, begun by %s, is %s: only one upgrade at a time", j.ID, j.User,
				j.State).With("see: holdfast upgrade status")
		}
	}
	sent, err := bring(cmd.Context(), a, c, f, trust)
	if err != nil {
		return err
	}
	r.Bundle = sent.SHA256
	return beginUpgrade(cmd.Context(), a, c, r, b, js)
}

// joined takes an upgrade to the bundle in f for this one where it is under way or done: is.
func joined(ctx context.Context, a *command.App, c *api.Client, u request.Standing, f *os.File, b upgradeBeginning,
	js bool) (is bool, err error) {
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	switch {
	case err != nil:
		return false, fmt.Errorf("read the bundle: %w", err)
	case u.Job == nil || u.Bundle == nil || u.Bundle.SHA256 != hex.EncodeToString(sum.Sum(nil)) || u.Purpose == upgrade.ForRollback:
		return false, nil
	case u.Job.State == "ended" && u.Job.Result != "done":
		return false, nil
	case u.Job.State != "ended" && b.Wait:
		return true, awaitUpgrade(ctx, a, c, *u.Job, js)
	case js:
		return true, output.JSON(a.Env.Stdout, progress.Outcome{Job: u.Job}, false)
	}
	text := fmt.Sprintf("%s is there already: %s: %s\n", output.Clean(u.Job.ID), output.Clean(u.Job.Title),
		told.JobState(*u.Job).Text)
	for _, h := range told.LeftBehind(u.Behind) {
		text += h + "\n"
	}
	return true, output.Text(a.Env.Stdout, text)
}

// beginUpgrade begins a run of any purpose, after asking.
func beginUpgrade(ctx context.Context, a *command.App, c *api.Client, r request.Request, b upgradeBeginning,
	js bool) error {
	if b.dryRun || !b.Yes {
		p, err := c.PlanUpgrade(ctx, r)
		switch {
		case err != nil:
			return err
		case b.dryRun:
			return showPlan(a, &p, js, b.show)
		case p.Blocked():
			return notBegun(a, request.Begun{Plan: p}, js)
		}
		if err := confirmPlan(ctx, a, &p); err != nil {
			return err
		}
	}
	begun, err := c.RunUpgrade(ctx, r)
	if err != nil {
		return err
	}
	if begun.Job == nil {
		return notBegun(a, begun, js)
	}
	if b.Wait {
		return awaitUpgrade(ctx, a, c, *begun.Job, js)
	}
	if js {
		return output.JSON(a.Env.Stdout, progress.Outcome{Job: begun.Job}, false)
	}
	return output.Text(a.Env.Stdout, fmt.Sprintf("%s has begun: %s\nfollow it with: holdfast upgrade status --watch\n",
		output.Clean(begun.Job.ID), output.Clean(begun.Job.Title)))
}

// confirmPlan shows a plan in short, and asks.
func confirmPlan(ctx context.Context, a *command.App, p *upgrade.Plan) error {
	typed, err := a.Ask(ctx, shortPlan(p, output.PainterFor(a.Env.Stderr))+"\nType yes to begin: ")
	if err != nil {
		return err
	}
	if typed != "yes" {
		return fail.Errorf(fail.Invalid, "the answer is %q, not yes; nothing was begun", typed).With("--yes begins without asking")
	}
	return nil
}

// notBegun says what stands in the way.
func notBegun(a *command.App, begun request.Begun, js bool) error {
	var err error
	if js {
		err = output.JSON(a.Env.Stdout, progress.Outcome{Plan: &begun.Plan, Report: begun.Report}, false)
	} else {
		var b strings.Builder
		p := output.PainterFor(a.Env.Stdout)
		planFindings(&b, p, &begun.Plan, false)
		if begun.Report != nil {
			failedChecks(&b, p, begun.Report)
		}
		err = output.Text(a.Env.Stdout, b.String()+"nothing was begun\n")
	}
	if err == nil {
		err = fail.Errorf(blockedKind(begun.Plan.Purpose), "") // all is said
	}
	return err
}

// blockedKind is the kind of the end of what was not begun. An upgrade is told what checks and rules have found, as by
// "upgrade check"; a rollback or a commit is refused, whether by the plan or before there is one.
func blockedKind(p upgrade.Purpose) fail.Kind {
	if p == upgrade.ForRollback || p == upgrade.ForCommit {
		return fail.Refused
	}
	return fail.Failed
}

// lostFlag names hosts that will not come back.
func lostFlag(cmd *cobra.Command, lost *[]string) {
	cmd.Flags().StringSliceVar(lost, "lost", nil, "`host` that will not come back and is left out;\nmay be repeated")
}

func commitCmd(a *command.App) *cobra.Command {
	var b upgradeBeginning
	var lost []string
	cmd := &cobra.Command{
		Use:   "commit",
		Short: told.Meaning(request.Commit),
		Long: `Makes the upgrade final: raises the version of the cluster, runs the commit
actions of the modules, and deletes the backups. Afterwards a rollback is
refused. A commit that failed may be repeated. Without --yes the command first
shows what it will do, and asks.`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return eachOnce(cmd, lost) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPurpose(a, cmd, request.Request{Purpose: upgrade.ForCommit, Lost: hostIDs(lost)}, b)
		},
	}
	lostFlag(cmd, &lost)
	b.Flags(cmd)
	return cmd
}

func rollbackCmd(a *command.App) *cobra.Command {
	var b upgradeBeginning
	var lost []string
	cmd := &cobra.Command{
		Use:   "rollback [HOST...]",
		Short: told.Meaning(request.Rollback),
		Long: `Rolls back the named hosts, or without names all hosts that the upgrade has
changed. Without --yes the command first shows a summary of the plan and asks.
Refused after a commit, and for a host that was not upgraded or was installed
anew since.`,
		Args:    cobra.ArbitraryArgs,
		PreRunE: func(cmd *cobra.Command, args []string) error { return eachOnce(cmd, slices.Concat(args, lost)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPurpose(a, cmd,
				request.Request{Purpose: upgrade.ForRollback, Hosts: hostIDs(args), Lost: hostIDs(lost)}, b)
		},
	}
	lostFlag(cmd, &lost)
	b.Flags(cmd)
	return cmd
}

func runPurpose(a *command.App, cmd *cobra.Command, r request.Request, b upgradeBeginning) error {
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return beginUpgrade(cmd.Context(), a, c, r, b, js)
}

// eachOnce looks at names of hosts.
func eachOnce(cmd *cobra.Command, hosts []string) error {
	for i, h := range hosts {
		if h == "" || slices.Contains(hosts[:i], h) {
			return command.Usage(cmd, fmt.Errorf("host %q: want names of hosts, each once", h))
		}
	}
	return nil
}
