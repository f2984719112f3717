package transition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/progress"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/feature"
)

// defaultURI is how libvirtds of other hosts are addressed.
const defaultURI = "qemu+tls://%s/system"

// featuresOrder are the flags of the command.
type featuresOrder struct {
	feature.Order
	openstack   bool
	cloud       feature.CloudOrder
	secret      string // file
	openrc      string // file
	yes         bool
	out, before string
}

func featuresCmd(a *command.App) *cobra.Command {
	var o featuresOrder
	cmd := &cobra.Command{
		Use:   "features --guest NAME --yes",
		Short: "Try on a test guest what a platform must do with guests",
		Long: `Tries on a test guest of this host, by its libvirtd, what a platform must be
able to do with guests: restart, stop, start, attach and detach a volume, image
of its disk, link down and up, resize, live and cold migration to --target and
back, and a new guest. Each is read back from libvirt, QEMU or the processes.
Run it before and after a change of version, the second time with --before.

With --openstack it asks Nova, Neutron, Cinder and Glance instead, from
anywhere: the same features, a rebuild of the new guest, the metadata service,
and, with --cloud-init, what the new guest gets by its network. It logs in by
OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and so on, which --openrc reads from a
file, with the role admin in the project of the guest.

The guest is stopped, started, moved and changed: name one that nobody needs.
All is put back, also after a failure or an interrupt, which takes a while; a
second interrupt ends it at once. What could not be put back is said.

Without --openstack it takes root, and qemu-img.
See docs/transition-features.md.

Exit codes: 0 all that was tried is ok; with --before, nothing is worse than
before. 1 something failed, or is worse, or was not put back. 2 bad input.
3 refused. 4 a libvirtd or an API is not reachable.`,
		Args:    cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return o.check(cmd) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			before, err := o.read(cmd)
			if err != nil {
				return err
			}
			return features(cmd.Context(), a, o, before, js)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Guest, "guest", "", "`NAME` or UUID of the test guest")
	f.BoolVar(&o.yes, "yes", false, "it is a test guest, which may be stopped and changed")
	f.StringVar(&o.Target, "target", "", "`HOST` to which it is moved and back: an address or a\nname that its "+
		"certificate has; with --openstack, a\ncompute host (default the scheduler's choice)")
	f.StringVar(&o.Here, "here", "", "`HOST` by which the target reaches this one (default\nthe address of the connection to it)")
	f.StringVar(&o.URI, "uri", defaultURI, "`URI` of libvirtds, %s is the host; qemu+tls or\nqemu+tcp")
	f.StringArrayVar(&o.Shared, "shared", nil, "`DIR` that is the same on both hosts, which the kind\nof its file "+
		"system does not tell; may be repeated")
	f.StringVar(&o.Dir, "dir", "", "`DIR` for small disks and the image (default that of\nthe guest's first disk in a file)")
	f.DurationVar(&o.Wait, "wait", 0, "`TIME` that the guest has to obey, 1s to 30m (default\n2m0s), or an action of "+
		"OpenStack (default 10m0s)")
	f.BoolVar(&o.openstack, "openstack", false, "ask the API of OpenStack, not libvirt")
	openrcFlag(cmd, &o.openrc)
	f.StringVar(&o.cloud.Flavor, "flavor", "", "`FLAVOR` of the resize with --openstack: a name or ID")
	f.BoolVar(&o.cloud.Rebuild, "rebuild", false, "rebuild the test guest, and lose what its disk has\n(default: the new guest is rebuilt)")
	f.BoolVar(&o.cloud.CloudInit, "cloud-init", false,
		"its image has cloud-init: the new guest is asked what\nit gets by DHCP and from 169.254.169.254")
	f.StringVar(&o.cloud.URL, "metadata", "", "`URL` of Nova's metadata service, such as\nhttp://127.0.0.1:8775")
	f.StringVar(&o.secret, "secret", "", "`FILE` with metadata_proxy_shared_secret of Nova")
	f.StringVar(&o.out, "out", "", "`FILE` for the result, as JSON")
	f.StringVar(&o.before, "before", "", "`FILE` with an earlier result, to compare with")
	return cmd
}

// outGiven looks at a flag with a file for a result; "": none is wanted.
func outGiven(cmd *cobra.Command, flag, file string) error {
	if file == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return command.Usage(cmd, fmt.Errorf("--%s %s: want a file in a directory that is there", flag, file))
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return command.Usage(cmd, fmt.Errorf("--%s %s: it is a directory; want a file", flag, file))
	}
	return nil
}

// writeOut writes a result into the file of --out.
func writeOut(file string, v any) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	err := output.JSON(&b, v, false)
	return errors.Join(err, durable.WriteFile(file, b.Bytes(), 0o644))
}

// readBefore reads the earlier result in the file of --before; nil: there is none.
func readBefore[T any](file string, read func([]byte) (*T, error)) (v *T, err error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		v, err = read(text)
	}
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "--before %s: %w", file, err)
	}
	return v, nil
}

// check looks at the flags: all but what only files tell.
func (o *featuresOrder) check(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("wait") {
		o.Wait = feature.DefaultWait
		if o.openstack {
			o.Wait = feature.DefaultCloudWait
		}
	}
	switch {
	case o.Guest == "":
		return command.Usage(cmd, errors.New("no --guest given; want the name or UUID of a guest"))
	case o.Wait < feature.MinWait || o.Wait > feature.MaxWait:
		return command.Usage(cmd, fmt.Errorf("--wait %s: want %s to %s", o.Wait, feature.MinWait, feature.MaxWait))
	}
	only, with := []string{"openrc", "flavor", "rebuild", "cloud-init", "metadata", "secret"}, "with --openstack only"
	if o.openstack {
		only, with = []string{"here", "uri", "shared", "dir"}, "without --openstack only"
	}
	for _, name := range only {
		if cmd.Flags().Changed(name) {
			return command.Usage(cmd, fmt.Errorf("--%s is of use %s", name, with))
		}
	}
	if o.openstack {
		return o.checkCloud(cmd)
	}
	return o.checkLibvirt(cmd)
}

// read reads what the flags name, and gives the earlier result; nil: there is none.
func (o *featuresOrder) read(cmd *cobra.Command) (*feature.Report, error) {
	if o.openstack {
		if err := o.readCloud(); err != nil {
			return nil, err
		}
	}
	if err := outGiven(cmd, "out", o.out); err != nil {
		return nil, err
	}
	before, err := readBefore(o.before, feature.Read)
	if err != nil {
		return nil, err
	}
	if before != nil {
		if (before.Nova != "") != o.openstack {
			return nil, fail.Errorf(fail.Invalid, "--before %s: field nova: value %q: want a result of a run that "+
				"asked the same, OpenStack or libvirt", o.before, before.Nova)
		}
	}
	if !o.yes {
		return nil, fail.Errorf(fail.Refused, "guest %s would be stopped, started, moved and changed",
			o.Guest).With("if it is a test guest that nobody needs, give --yes")
	}
	return before, nil
}

// checkLibvirt looks at what is of use with libvirt.
func (o *featuresOrder) checkLibvirt(cmd *cobra.Command) error {
	u, err := url.Parse(strings.Replace(o.URI, "%s", "host", 1))
	switch {
	case strings.Count(o.URI, "%s") != 1 || strings.Count(o.URI, "%") != 1 || err != nil || u.Scheme != "qemu+tls" &&
		u.Scheme != "qemu+tcp" || u.Port() != "" && !text.Port(u.Port()):
		return command.Usage(cmd,
			fmt.Errorf("--uri %q: want qemu+tls or qemu+tcp with one %%s in place of the host, such as %s", o.URI, defaultURI))
	case o.Here != "" && o.Target == "":
		return command.Usage(cmd, errors.New("--here is of use with --target only"))
	}
	for _, d := range o.Shared {
		if d != "" && !filepath.IsAbs(d) {
			return command.Usage(cmd, fmt.Errorf("--shared %q: want an absolute path", d))
		}
	}
	if o.Dir != "" && !filepath.IsAbs(o.Dir) {
		return command.Usage(cmd, fmt.Errorf("--dir %q: want an absolute path", o.Dir))
	}
	return nil
}

// checkCloud looks at what is of use with OpenStack.
func (o *featuresOrder) checkCloud(cmd *cobra.Command) error {
	c := &o.cloud
	if c.URL == "" && o.secret == "" {
		return nil
	}
	if text.HTTP(c.URL) == nil {
		return command.Usage(cmd, fmt.Errorf("--metadata %q: want http://HOST:PORT or https://HOST:PORT", c.URL))
	}
	if o.secret == "" {
		return command.Usage(cmd, errors.New("--metadata is of use with --secret only"))
	}
	return nil
}

// readCloud makes the order of OpenStack whole.
func (o *featuresOrder) readCloud() error {
	c := &o.cloud
	getenv, err := loginFrom(o.openrc)
	if err != nil {
		return err
	}
	c.Guest, c.Target, c.Wait, c.Getenv = o.Guest, o.Target, o.Wait, getenv
	if o.secret == "" {
		return nil
	}
	secret, err := os.ReadFile(o.secret)
	if err != nil {
		return fail.Errorf(fail.Invalid, "--secret: %w", err)
	}
	if c.Secret = strings.TrimSpace(string(secret)); c.Secret == "" {
		return fail.Errorf(fail.Invalid, "--secret %s: it is empty; want the value of metadata_proxy_shared_secret", o.secret)
	}
	return nil
}

func features(ctx context.Context, a *command.App, o featuresOrder, before *feature.Report, js bool) error {
	shows := progress.NewTicker(a.Env.Stderr)
	tell := func(p feature.Progress) {
		line := featuresLine(p)
		shows.Show(line)
		shows.Parts(line, trying(p))
	}
	run := func() (*feature.Report, error) { return a.Env.Features(ctx, o.Order, tell) }
	if o.openstack {
		run = func() (*feature.Report, error) { return a.Env.CloudFeatures(ctx, o.cloud, tell) }
	}
	r, err := run()
	if r != nil {
		allTried(shows, r)
	}
	if err = errors.Join(err, shows.End()); r == nil {
		return err
	}
	err = errors.Join(err, writeOut(o.out, r))
	var rows []feature.Row
	if before != nil {
		rows = feature.Compare(before, r)
	}
	if js {
		err = errors.Join(err, output.JSON(a.Env.Stdout, r, false))
	} else {
		err = errors.Join(err, output.Text(a.Env.Stdout, featuresText(before, r, rows, output.PainterFor(a.Env.Stdout))))
	}
	for _, l := range r.Left { // also where the output goes to a program
		err = errors.Join(err, output.Text(a.Env.Stderr, "could not be put back: "+output.Clean(l)+"\n"))
	}
	if err != nil {
		return err
	}
	bad := before == nil && r.Count(feature.Failed) > 0 || len(worse(rows)) > 0 || len(r.Left) > 0 || r.Interrupted
	if bad {
		return fail.Errorf(fail.Failed, "") // all is said
	}
	return nil
}

func worse(rows []feature.Row) (out []feature.Row) {
	for _, r := range rows {
		if r.Worse {
			out = append(out, r)
		}
	}
	return out
}

// outcomeCell is how a feature's outcome is shown.
func outcomeCell(o feature.Outcome) output.Cell {
	switch o {
	case feature.OK:
		return output.Cell{Text: string(o), Colour: output.Green}
	case feature.Failed:
		return output.Cell{Text: string(o), Colour: output.Red}
	}
	return output.Cell{Text: string(o), Colour: output.Yellow}
}

// asker is on which guest and which versions a report is.
func asker(r *feature.Report) string {
	if r.Nova != "" {
		return fmt.Sprintf("%s, Nova's API %s", output.Clean(r.Guest.Name), output.Clean(r.Nova))
	}
	return fmt.Sprintf("%s, libvirt %s, QEMU %s", output.Clean(r.Guest.Name), output.Clean(r.Libvirt),
		output.Clean(r.QEMU))
}

// featuresText shows the matrix, and the sum.
func featuresText(before, r *feature.Report, rows []feature.Row, p output.Painter) string {
	var b strings.Builder
	output.Say(&b, p, "guest", output.Plain, asker(r))
	cols := []output.Column{{Head: "FEATURE"}, {Head: "RESULT"}, {Head: "SECONDS"}, {Head: "WHY"}}
	var lines [][]output.Cell
	if before != nil {
		output.Say(&b, p, "before", output.Plain, asker(before)+", "+before.At.Local().Format("2006-01-02 15:04"))
		cols = []output.Column{{Head: "FEATURE"}, {Head: "BEFORE"}, {Head: "NOW"}, {Head: "WHY"}}
		for _, x := range rows {
			lines = append(lines, []output.Cell{{Text: string(x.Name)}, outcomeCell(x.Before.Result),
				outcomeCell(x.Now.Result), {Text: output.Clean(x.Now.Why)}})
		}
	} else {
		for _, f := range r.Features {
			lines = append(lines, []output.Cell{{Text: output.Clean(f.Name)}, outcomeCell(f.Result),
				{Text: fmt.Sprintf("%.1f", f.Seconds)}, {Text: output.Clean(f.Why)}})
		}
	}
	b.WriteByte('\n')
	output.Table(&b, p, cols, lines)
	b.WriteByte('\n')
	if r.Interrupted {
		output.Say(&b, p, "note", output.Yellow, "interrupted")
	}
	sum, c := fmt.Sprintf("%d ok, %d failed, %d skipped", r.Count(feature.OK), r.Count(feature.Failed),
		r.Count(feature.Skipped)), output.Green
	if r.Count(feature.Failed) > 0 {
		c = output.Red
	}
	output.Say(&b, p, "total", c, sum)
	if before != nil {
		bad := worse(rows)
		text, c := "nothing is worse than before", output.Green
		if len(bad) > 0 {
			var names []string
			for _, x := range bad {
				names = append(names, output.Clean(x.Name))
			}
			text, c = "worse than before: "+strings.Join(names, ", "), output.Red
		}
		output.Say(&b, p, "compared", c, text)
	}
	if len(r.Left) == 0 {
		output.Say(&b, p, "put back", output.Green, "all; the guest is as it was before")
	}
	return b.String()
}
