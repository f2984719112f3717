package transition

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/hostconf"
)

// comparedAtOnce is how many hosts are asked at a time.
const comparedAtOnce = 16

func configFilesCmd(a *command.App) *cobra.Command {
	g := command.Group("config", "Bring configuration files of hosts to what a directory says",
		configFilesDiffCmd(a), configFilesApplyCmd(a), configFilesBackCmd(a))
	g.Long = `Renders the templates of a directory for each host of a cluster, by values per
cluster, group and host, and compares the files that hosts have with them. The
directory may be in a Git work tree: then its commit is shown, and kept with the
job. See docs/transition-config.md.

  diff   shows what differs, per host; nothing is written
  apply  shows the same, asks, and writes what differs, host by host
  back   takes back what a job of apply has written`
	return g
}

// confFlags say what of a directory is meant.
type confFlags struct {
	cluster string
	hosts   []string
	dirty   bool
	progress.Beginning
}

func (f *confFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "`NAME` of the cluster, where the directory has several")
	cmd.Flags().StringSliceVar(&f.hosts, "host", nil, "these `HOST`s only, with commas between")
}

func configFilesDiffCmd(a *command.App) *cobra.Command {
	var f confFlags
	cmd := &cobra.Command{
		Use:   "diff DIR",
		Short: "Show per host how its files differ from a directory's",
		Long: `Renders the files of each host, asks the host's agent for those that it has, and
shows the differences. Of files that are marked secret only that they differ.

Exit codes: 0 shown, 1 a file can not be written there, 2 bad input, 4 a host
does not answer.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			p, err := compareHosts(cmd.Context(), a, c, args[0], &f, false)
			if err != nil {
				return err
			}
			if js {
				err = output.JSON(a.Env.Stdout, p, false)
			} else {
				err = output.Text(a.Env.Stdout, p.text(output.PainterFor(a.Env.Stdout)))
			}
			return errors.Join(err, p.fault())
		},
	}
	f.flags(cmd)
	return cmd
}

func configFilesApplyCmd(a *command.App) *cobra.Command {
	var f confFlags
	cmd := &cobra.Command{
		Use:   "apply DIR",
		Short: "Write the files that differ, host by host",
		Long: `Shows what "transition config diff" shows, asks, and begins a job that writes
the files that differ, one host after the other. Each file is replaced at once,
and read back; what was there is kept for "transition config back". A file that
was changed since it was shown is not written: the job pauses. No service is
told of its new files. With --wait, a job of this kind that is under way is
waited for first.

A Git work tree with changes that are not committed is refused without --dirty.

Exit codes: 0 nothing differs, or it has begun, or with --wait is done; 1 it has
failed, or is paused after a failure; 2 bad input; 3 refused, or another one is
under way; 4 a host does not answer, and nothing was begun.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return applyFiles(a, cmd, args[0], &f) },
	}
	f.flags(cmd)
	f.Beginning.Flags(cmd)
	cmd.Flags().BoolVar(&f.dirty, "dirty", false, "also with changes that are not committed")
	return cmd
}

func configFilesBackCmd(a *command.App) *cobra.Command {
	var b progress.Beginning
	cmd := &cobra.Command{
		Use:   "back JOB",
		Short: "Take back what a job of apply has written",
		Long: `Begins a job that brings the files back, with content, mode and owner, that a
job of "transition config apply" has found where it wrote; files that were not
there are removed. A file that was changed since is left, and the job pauses.

Exit codes: as those of "transition config apply".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, js, err := a.Open(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if !b.Yes {
				if err := a.AskYesOf(cmd.Context(), c,
					"Take back the files that "+output.Clean(args[0])+" has written? Type yes: "); err != nil {
					return err
				}
			}
			j, err := c.WriteFiles(cmd.Context(), hostconf.Order{Title: "files of " + args[0] + " taken back", Back: args[0]})
			if err != nil {
				return err
			}
			return progress.Begun(cmd.Context(), a, c, j, b.Wait, js)
		},
	}
	b.Flags(cmd)
	return cmd
}

// confPlan is what differs.
type confPlan struct {
	Cluster string           `json:"cluster"`
	Commit  string           `json:"commit,omitempty"`
	Dirty   bool             `json:"dirty,omitempty"`
	Hosts   []hostDifference `json:"hosts"`
	Without []cluster.HostID `json:"without,omitempty"` // hosts that report, and have no files here

	Findings []hostconf.Finding `json:"findings"` // in the files as they are to be
}

type hostDifference struct {
	Name  cluster.HostID   `json:"host"`
	Error string           `json:"error,omitempty"` // why it was not compared
	Files []fileDifference `json:"files,omitempty"`
	order hostconf.HostOrder
	kind  fail.Kind // of Error
}

type fileDifference struct {
	Path    string `json:"path"`
	Same    bool   `json:"same"`
	Before  string `json:"before,omitempty"` // mode and owner; "": there is no such file
	After   string `json:"after,omitempty"`
	Diff    string `json:"diff,omitempty"`   // of the content, unified
	Hidden  string `json:"hidden,omitempty"` // why Diff is not shown
	Problem string `json:"problem,omitempty"`
}

// compareHosts renders a directory and asks the hosts; with keep they keep the files.
func compareHosts(ctx context.Context, a *command.App, c *api.Client, dir string, f *confFlags,
	keep bool) (*confPlan, error) {
	d, err := readConfDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	if keep && d.dirty && !f.dirty {
		return nil, fail.Errorf(fail.Refused, "%s has changes that are not committed", dir).With("commit them, or give --dirty")
	}
	names := slices.Sorted(maps.Keys(d.Clusters))
	if f.cluster == "" && len(names) == 1 {
		f.cluster = names[0]
	}
	if !slices.Contains(names, f.cluster) {
		return nil, fail.Errorf(fail.Invalid, "--cluster %q: %s has %s", f.cluster, filepath.Join(dir, hostconf.Name), strings.Join(names, ", "))
	}
	reported, err := c.GuestHosts(ctx)
	if err != nil {
		return nil, err
	}
	p := &confPlan{Cluster: f.cluster, Commit: d.commit, Dirty: d.dirty}
	known := map[cluster.HostID]string{}
	have := d.Hosts(f.cluster)
	for _, h := range reported {
		known[h.Name] = h.Addr
		if !slices.Contains(have, h.Name) {
			p.Without = append(p.Without, h.Name)
		}
	}
	for _, h := range have {
		if _, ok := known[h]; !ok {
			return nil, fail.Errorf(fail.Invalid, "%s: cluster %s: host %q: no host of that name reports",
				filepath.Join(dir, hostconf.Name), f.cluster, h)
		}
	}
	for _, h := range f.hosts {
		if !slices.Contains(have, cluster.HostID(h)) {
			return nil, fail.Errorf(fail.Invalid, "--host %q: cluster %s has no such host in %s", h, f.cluster, filepath.Join(dir, hostconf.Name))
		}
	}
	hosts, err := d.Render(f.cluster, d.texts, known)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%s: %w", dir, err)
	}
	if len(f.hosts) > 0 {
		hosts = slices.DeleteFunc(hosts, func(h hostconf.Host) bool { return !slices.Contains(f.hosts, string(h.Name)) })
	}
	p.Findings = hostconf.Findings(hosts)
	p.Hosts = make([]hostDifference, len(hosts))
	ofAll(len(hosts), func(i int) { p.Hosts[i] = compareHost(ctx, c, hosts[i], keep) })
	return p, nil
}

// ofAll asks of n hosts, by their numbers, comparedAtOnce at a time.
func ofAll(n int, ask func(i int)) {
	var all sync.WaitGroup
	room := make(chan struct{}, comparedAtOnce)
	for i := range n {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			ask(i)
		})
	}
	all.Wait()
}

func compareHost(ctx context.Context, c *api.Client, h hostconf.Host, keep bool) hostDifference {
	out := hostDifference{Name: h.Name}
	got, err := c.CompareFiles(ctx, h.Name, h.Files, keep)
	if err == nil && len(got.Files) != len(h.Files) {
		err = fail.Errorf(fail.Failed, "it tells of %d files, and not of %d", len(got.Files), len(h.Files))
	}
	if err != nil {
		var e *fail.Error
		if out.Error, out.kind = err.Error(), fail.Failed; errors.As(err, &e) {
			out.kind = e.Kind
		}
		return out
	}
	out.order = hostconf.HostOrder{Name: h.Name, Set: got.Set}
	for i, x := range got.Files {
		f := fileDifference{Path: h.Files[i].Path, Same: x.Same, Before: x.Before, After: x.After, Hidden: x.Hidden, Problem: x.Problem}
		if !x.Same && x.Hidden == "" && x.Problem == "" && !h.Files[i].Secret {
			name := string(h.Name) + ":" + f.Path
			_, text, _ := strings.Cut(string(diff.Diff(name, []byte(x.Old), name, []byte(h.Files[i].Content))), "\n") // without its "diff" line
			f.Diff = text
		}
		out.Files = append(out.Files, f)
		out.order.Was = append(out.order.Was, x.Was)
	}
	return out
}

// differs reports whether a host has a file that is to be written.
func (h *hostDifference) differs() bool {
	return slices.ContainsFunc(h.Files, func(f fileDifference) bool { return !f.Same })
}

// fault says what stands in the way of writing; the text has it already.
func (p *confPlan) fault() error {
	kind := fail.Kind("")
	for _, h := range p.Hosts {
		switch {
		case h.kind == fail.Unavailable || h.kind == fail.Timeout:
			return fail.Errorf(fail.Unavailable, "")
		case h.kind != "":
			kind = h.kind
		case slices.ContainsFunc(h.Files, func(f fileDifference) bool { return f.Problem != "" }):
			kind = fail.Failed
		}
	}
	if kind == "" {
		return nil
	}
	return fail.Errorf(kind, "")
}

// source says what the files are made from.
func (p *confPlan) source() string {
	text := "configuration of " + p.Cluster
	if p.Commit != "" {
		text += ", commit " + p.Commit[:min(12, len(p.Commit))]
	}
	if p.Dirty {
		text += " with changes that are not committed"
	}
	return text
}

func (p *confPlan) text(paint output.Painter) string {
	var b strings.Builder
	b.WriteString(output.Clean(p.source()) + "\n")
	for _, h := range p.Hosts {
		n := 0
		for _, f := range h.Files {
			if !f.Same {
				n++
			}
		}
		switch {
		case h.Error != "":
			fmt.Fprintf(&b, "\n%s: not compared: %s\n", output.Clean(h.Name), output.Clean(h.Error))
		case n == 0:
			fmt.Fprintf(&b, "\n%s: %s, as they are to be\n", output.Clean(h.Name), plural(len(h.Files), "file"))
		default:
			fmt.Fprintf(&b, "\n%s: %d of %s to be written\n", output.Clean(h.Name), n, plural(len(h.Files), "file"))
		}
		for _, f := range h.Files {
			f.write(&b, paint)
		}
	}
	if len(p.Without) > 0 {
		b.WriteString("\nno files for: " + hostNames(p.Without) + "\n")
	}
	for i, f := range p.Findings {
		if i == 0 {
			b.WriteByte('\n')
		}
		output.Say(&b, paint, "warning", output.Yellow, output.Clean(f.Path+": "+f.Finding)+" ("+hostNames(f.Hosts)+")")
		output.Say(&b, paint, "", output.Plain, f.Remedy)
	}
	return b.String()
}

func hostNames(of []cluster.HostID) string {
	var names []string
	for _, h := range of {
		names = append(names, output.Clean(h))
	}
	return strings.Join(names, ", ")
}

func (f *fileDifference) write(b *strings.Builder, p output.Painter) {
	if f.Same {
		return
	}
	line := "  " + output.Clean(f.Path) + ": "
	switch {
	case f.Problem != "":
		b.WriteString(line + p.Tint(output.Red, output.Clean(f.Problem)) + "\n")
		return
	case f.Before == "":
		line += "new, " + output.Clean(f.After)
	case f.Before != f.After:
		line += output.Clean(f.Before) + " -> " + output.Clean(f.After)
	default:
		line += output.Clean(f.After)
	}
	if f.Hidden != "" {
		line += "; differs, and is not shown: " + output.Clean(f.Hidden)
	}
	b.WriteString(line + "\n")
	for l := range strings.Lines(f.Diff) {
		l = strings.TrimSuffix(l, "\n")
		c := output.Plain
		switch {
		case strings.HasPrefix(l, "+"):
			c = output.Green
		case strings.HasPrefix(l, "-"):
			c = output.Red
		}
		b.WriteString(p.Tint(c, output.Clean(strings.ReplaceAll(l, "\t", "    "))) + "\n")
	}
}

func applyFiles(a *command.App, cmd *cobra.Command, dir string, f *confFlags) error {
	ctx := cmd.Context()
	c, js, err := a.Open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.Wait {
		if err := awaitFiles(ctx, a, c); err != nil {
			return err
		}
	}
	p, err := compareHosts(ctx, a, c, dir, f, true)
	if err != nil {
		return err
	}
	text := p.text(output.PainterFor(a.Env.Stdout))
	if err := p.fault(); err != nil {
		return errors.Join(output.Text(a.Env.Stderr, text), err)
	}
	o := hostconf.Order{Title: p.source()}
	for _, h := range p.Hosts {
		if h.differs() {
			o.Hosts = append(o.Hosts, h.order)
		}
	}
	switch {
	case len(o.Hosts) == 0 && js:
		return output.JSON(a.Env.Stdout, progress.Outcome{}, false)
	case len(o.Hosts) == 0:
		return output.Text(a.Env.Stdout, text+"\nnothing is to be written\n")
	case !f.Yes:
		if err := a.AskYes(ctx, text+"\nType yes to write: "); err != nil {
			return err
		}
	case !js:
		if err := output.Text(a.Env.Stdout, text+"\n"); err != nil {
			return err
		}
	}
	j, err := c.WriteFiles(ctx, o)
	if err != nil {
		return err
	}
	return progress.Begun(ctx, a, c, j, f.Wait, js)
}

// awaitFiles follows a job of the kind that is under way, if one is.
func awaitFiles(ctx context.Context, a *command.App, c *api.Client) error {
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Kind != string(hostconf.Job) || j.State == string(job.Ended) {
			continue
		}
		j, err = progress.Follow(ctx, a, j, progress.JobOf(c), progress.NeedsHelp)
		if err != nil {
			return err
		}
		if j.State != string(job.Ended) {
			return fail.Errorf(fail.Failed, "%s is under way and needs a person: %s", j.ID, j.Because()).
				With("holdfast jobs show " + output.Clean(j.ID))
		}
	}
	return nil
}
