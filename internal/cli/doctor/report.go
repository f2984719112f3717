package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/ha"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/support"
)

// Bounds of a support archive, before compression.
const (
	partMost   = 16 << 20
	reportMost = 256 << 20
	partWithin = 30 * time.Second
	allWithin  = 2 * time.Minute
	logFiles   = 32
	maxDays    = 365
)

// streamed in place of a file is standard output.
const streamed = "-"

// eventPages bounds what is read of the event log, which keeps 2,000 events.
const eventPages = 50

func reportCmd(a *command.App) *cobra.Command {
	var file, out, logs string
	var days int
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write an archive for those who help, without secrets",
		Long: `Writes what people need who help from afar into a compressed archive that its
owner alone may read: status, events, configuration, versions, logs, the
findings of "doctor", the domain of the management VM, the store's members,
network and storage of this host. Passwords and keys are removed; look into it
before you send it all the same. What can not be had, because the agent or
libvirt does not answer, is named in the archive's index.txt, and is no error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if days < 1 || days > maxDays {
				return command.Usage(cmd, fmt.Errorf("--days %d: want 1 to %d", days, maxDays))
			}
			if within < time.Second || within > allWithin {
				return command.Usage(cmd, fmt.Errorf("--timeout %s: want 1s to %s", within, allWithin))
			}
			c, err := a.Dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			named := file != ""
			if !named {
				file = a.Settings(cmd.Context(), c)
			}
			n, nodeErr := config.LoadNode(file)
			var unread *fs.PathError
			if named && errors.As(nodeErr, &unread) { // faults in it are in the archive
				return fail.Errorf(fail.Invalid, "--config: %w", nodeErr)
			}
			host := n.Host
			if host == "" {
				if host, err = os.Hostname(); err != nil {
					return fmt.Errorf("name this host: %w", err)
				}
			}
			now := time.Now()
			name := fmt.Sprintf("holdfast-report-%s-%s", fileWord(host), now.UTC().Format("20060102T150405Z"))
			if out == "" {
				out = filepath.Join(reportDir(), name+".tar.gz")
			}
			r := reporter{App: a, c: c, node: n, nodeErr: nodeErr, file: file, logs: logs, since: now.AddDate(0, 0, -days),
				days: days}
			return r.write(cmd.Context(), out, js, support.Options{Name: name, Now: now, Within: within, All: allWithin,
				Most: partMost, Total: reportMost})
		},
	}
	cmd.Flags().StringVarP(&out, "out", "O", "", "`file` to write, which must not exist; - for standard\noutput "+
		"(default\nholdfast-report-HOST-TIME.tar.gz in this directory\nif it is yours and not /, else in your home)")
	cmd.Flags().IntVar(&days, "days", 7, "`number` of days whose logs are taken")
	cmd.Flags().DurationVar(&within, "timeout", partWithin, "wait for each part this `time` at most, for all\n2m0s")
	settingsFlag(cmd, &file)
	cmd.Flags().StringVar(&logs, "log-dir", "/var/log/holdfast", "`directory` of the agent's logs\n")
	return cmd
}

// reportDir is where an archive is written that nobody has named: "", this directory, if it is the user's own and not
// the root of all, else their home.
func reportDir() string {
	here, err := os.Getwd()
	if err == nil && here != "/" {
		info, err := os.Stat(here)
		if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() {
			return ""
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	return os.TempDir()
}

// fileWord makes a name safe for a file's.
func fileWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, s)
}

// reporter gets the parts of an archive.
type reporter struct {
	*command.App
	c          *api.Client
	node       config.Node
	nodeErr    error // why there are no settings
	file, logs string
	since      time.Time
	days       int
}

// write writes the archive. It appears under its name when it is complete.
func (r *reporter) write(ctx context.Context, out string, js bool, o support.Options) (err error) {
	if out == streamed {
		o.Known, o.Notes = r.secrets(ctx)
		o.Parts = slices.Concat(r.cluster(), r.host())
		to, _ := lang.Raw(r.Env.Stdout) // nothing of it is translated
		if _, err := support.Write(ctx, to, o); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		return nil
	}
	if info, err := os.Lstat(out); err == nil && info.IsDir() {
		return fail.Errorf(fail.Invalid, "--out %s: want a file that does not exist yet, and this is a directory", out)
	} else if err == nil {
		return fail.Errorf(fail.Invalid, "--out %s: the file exists, and is not overwritten", out)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fail.Errorf(fail.Invalid, "--out: %w", err)
	}
	if info, err := os.Stat(filepath.Dir(out)); err != nil || !info.IsDir() {
		return fail.Errorf(fail.Invalid, "--out %s: %s is no directory", out, filepath.Dir(out))
	}
	var entries []support.Entry
	w := newWaits(r.Env.Stderr)
	defer w.end()
	known := w.begin("the configuration")
	o.Known, o.Notes = r.secrets(ctx)
	known()
	for _, p := range slices.Concat(r.cluster(), r.host()) {
		o.Parts = append(o.Parts, w.of(p))
	}
	made, err := durable.Temp(out, 0o600, func(f *os.File) error {
		entries, err = support.Write(ctx, f, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	defer func() { err = errors.Join(err, os.Remove(made)) }()
	// A link, unlike a renaming, overwrites nothing.
	if err := os.Link(made, out); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	if err := durable.SyncDir(filepath.Dir(out)); err != nil {
		return err
	}
	return r.tell(out, js, entries)
}

// waitsTell is how often it is told what an archive waits for: nobody reads of what takes moments.
const waitsTell = 2 * time.Second

// waits tells what an archive waits for, until it is ended.
type waits struct {
	mu   sync.Mutex
	now  []string
	stop context.CancelFunc
	done chan struct{}
}

func newWaits(to io.Writer) *waits {
	ctx, stop := context.WithCancel(context.Background())
	w := &waits{stop: stop, done: make(chan struct{})}
	say := installer.Tell(to)
	go func() {
		defer close(w.done)
		for clock.Sleep(ctx, waitsTell) {
			if what := w.text(); what != "" {
				say("", "waits for "+what)
			}
		}
	}()
	return w
}

func (w *waits) end() {
	w.stop()
	<-w.done
}

func (w *waits) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.now, ", ")
}

// begin notes something that is waited for until what it returns is called.
func (w *waits) begin(what string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = append(w.now, what)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now = slices.DeleteFunc(w.now, func(s string) bool { return s == what })
	}
}

// of is a part that is waited for while it is got.
func (w *waits) of(p support.Part) support.Part {
	get := p.Get
	p.Get = func(ctx context.Context, to io.Writer) error {
		defer w.begin(p.Name)()
		return get(ctx, to)
	}
	return p
}

// reportResult is what is said of an archive.
type reportResult struct {
	File    string        `json:"file"`
	Missing []missingPart `json:"missing"`
}

type missingPart struct {
	Part string `json:"part"`
	Why  string `json:"why"`
}

func (r *reporter) tell(out string, js bool, entries []support.Entry) error {
	res := reportResult{File: out, Missing: []missingPart{}}
	for _, e := range entries {
		if e.Why != "" && !e.Normal {
			res.Missing = append(res.Missing, missingPart{e.Name, output.Clean(e.Why)})
		}
	}
	if js {
		return output.JSON(r.Env.Stdout, res, false)
	}
	var b strings.Builder
	for _, m := range res.Missing {
		output.Say(&b, output.Painter{}, "", output.Plain, m.Part+": "+m.Why)
	}
	text := "written: " + out + "\n"
	if b.Len() > 0 {
		text += "not complete, as its index.txt says:\n" + b.String()
	}
	return output.Text(r.Env.Stdout, text)
}

// secrets are all that files of this host have, which its settings and its
// configuration refer to, and the environment of this program.
func (r *reporter) secrets(ctx context.Context) ([]support.Secret, []string) {
	paths := r.node.SecretFiles(r.file, cmp.Or(r.Env.Root, "/"))
	ctx, cancel := context.WithTimeout(ctx, doctorAsks)
	defer cancel()
	cfg, err := command.ClusterConfig(ctx, r.c)
	if err != nil && r.node.ConfigFile != "" {
		cfg, _, err = config.Load(r.node.ConfigFile, config.Options{AllowUndersized: true})
	}
	var notes []string
	if r.alone() {
		notes = append(notes, "this host is of no cluster: there is no "+r.file)
	} else if err != nil {
		notes = append(notes, fmt.Sprintf("the configuration is not known (%v), nor are the passwords that it refers "+
			"to: what looks like one is removed all the same", err))
	}
	paths = append(paths, cfg.CredentialFiles()...)
	slices.Sort(paths)
	paths = slices.DeleteFunc(slices.Compact(paths), func(p string) bool { return p == "" })
	known, trouble := support.SecretsOf(paths...)
	return append(known, support.SecretsIn(os.Environ())...), append(notes, trouble...)
}

// ask is the part that has what the agent answers, as JSON.
func ask[T any](r *reporter, name string, get func(context.Context, *api.Client) (T, error)) support.Part {
	return support.Part{Name: name, Get: func(ctx context.Context, w io.Writer) error {
		v, err := get(ctx, r.c)
		if err != nil {
			return err
		}
		return output.JSON(w, v, false)
	}}
}

// alone says that this host is of no cluster: it has no settings, and no agent that would be asked.
func (r *reporter) alone() bool {
	return r.file == install.SettingsFile && errors.Is(r.nodeErr, fs.ErrNotExist)
}

// cluster are the parts that the agent knows.
func (r *reporter) cluster() []support.Part {
	doctor := support.Part{Name: "doctor.txt", Get: func(ctx context.Context, w io.Writer) error {
		var d install.Report
		err := r.nodeErr
		switch {
		case r.alone():
			d, err = diagnoseAlone(ctx, r.App)
		case err == nil:
			d, err = diagnose(ctx, r.App, r.c, r.node, r.file)
		}
		if err != nil {
			return err
		}
		return output.Text(w, installer.ResultText(install.Result{Report: d}, true, output.Painter{}))
	}}
	version := []support.Part{
		ask(r, "version.json", func(ctx context.Context, c *api.Client) (map[string]any, error) {
			v, err := c.Version(ctx)
			out := map[string]any{"command": r.Env.Version}
			if err == nil {
				out["agent"] = v
			} else {
				out["agent"] = output.Clean(err.Error())
			}
			return out, nil
		}),
		doctor,
	}
	if r.alone() {
		return version
	}
	return append(version,
		ask(r, "status.json", func(ctx context.Context, c *api.Client) (cluster.Status, error) {
			s, err := c.Status(ctx)
			return ha.ForPrograms(s), err
		}),
		support.Part{Name: "status.txt", Get: func(ctx context.Context, w io.Writer) error {
			s, err := r.c.Status(ctx)
			if err != nil {
				return err
			}
			return output.Text(w, ha.StatusText(s, output.Painter{}))
		}},
		support.Part{Name: "events.json", Tail: true, Get: func(ctx context.Context, w io.Writer) error {
			var after int64
			for range eventPages {
				events, next, err := r.c.Events(ctx, after, 100)
				if err != nil {
					return err
				}
				for _, e := range events {
					if err := output.JSON(w, e, true); err != nil {
						return err
					}
				}
				if len(events) == 0 || next <= after {
					return nil
				}
				after = next
			}
			return nil
		}},
		support.Part{Name: "config.json", Get: func(ctx context.Context, w io.Writer) error {
			rev, err := r.c.Config(ctx, 0)
			if err != nil {
				return err
			}
			return output.Text(w, string(rev.Config))
		}},
		ask(r, "config-history.json", func(ctx context.Context, c *api.Client) ([]config.Revision, error) { return c.Configs(ctx) }),
		ask(r, "store.json", func(ctx context.Context, c *api.Client) (cluster.StoreStatus, error) { return c.StoreStatus(ctx) }),
		ask(r, "jobs.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Jobs(ctx) }),
		ask(r, "hosts.json", func(ctx context.Context, c *api.Client) (any, error) { return c.GuestHosts(ctx) }),
		ask(r, "upgrade.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Upgrade(ctx) }),
	)
}

// noSystemd is what programs of systemd say where it does not run: in a container, or in a laboratory.
const noSystemd = "not been booted with systemd"

// path is where a file of this host is.
func (r *reporter) path(name string) string { return filepath.Join(cmp.Or(r.Env.Root, "/"), name) }

// host are the parts that this host has.
func (r *reporter) host() []support.Part {
	const uri = "qemu:///system"
	guest := cluster.GuestName
	since := fmt.Sprintf("-%dd", r.days)
	parts := []support.Part{
		support.Output("libvirt/version.txt", false, "virsh", "-r", "-c", uri, "version", "--daemon"),
		support.Output("libvirt/domains.txt", false, "virsh", "-r", "-c", uri, "list", "--all"),
		// Without the words that libvirt keeps for those who may change the domain.
		support.Absent(support.Output("libvirt/"+guest+".xml", false, "virsh", "-r", "-c", uri, "dumpxml", guest),
			"Domain not found", "failed to get domain"),
		support.Output("network/addresses.txt", false, "ip", "-d", "-s", "address"),
		support.Output("network/routes.txt", false, "ip", "route", "show", "table", "all"),
		support.Output("network/bridges.txt", false, "bridge", "-d", "link"),
		support.Output("network/sockets.txt", false, "ss", "-tulpn"),
		support.Output("network/nftables.txt", false, "nft", "list", "ruleset"),
		support.Output("system/clock.txt", false, "chronyc", "-n", "tracking"),
		support.Output("system/kernel.txt", false, "uname", "-a"),
		support.Output("system/space.txt", false, "df", "-PT"),
		// Its exit code tells of a unit that does not run, and of one that is not there.
		support.Absent(support.Output("system/units.txt", false, "systemctl", "--no-pager", "status",
			"holdfast.service", "libvirtd.service"), "exit status 3", "exit status 4", noSystemd),
		support.File("system/os-release.txt", r.path("/etc/os-release")),
		support.File("system/memory.txt", r.path("/proc/meminfo")),
		support.File("system/pressure-memory.txt", r.path("/proc/pressure/memory")),
		support.File("system/load.txt", r.path("/proc/loadavg")),
		support.File("system/mounts.txt", r.path("/proc/self/mountinfo")),
		support.Absent(support.Output("journal.txt", true, "journalctl", "--no-pager", "-o", "short-iso", "--since",
			since, "-u", "holdfast", "-u", "libvirtd"), "No journal files were found", noSystemd),
		support.Output("kernel.txt", true, "dmesg", "--ctime"),
	}
	// A host of no cluster has no settings; logs it has where it was of one.
	settings := support.File("agent.json", r.file)
	if r.alone() {
		settings = support.Absent(settings, "no such file")
	}
	parts = append(parts, settings)
	parts = append(parts, support.Files("bonds", r.path("/proc/net/bonding/*"), time.Time{}, logFiles)...)
	logs := support.Files("log", filepath.Join(r.logs, "*.log*"), r.since, logFiles)
	if len(logs) == 0 {
		dir := r.logs
		logs = []support.Part{{Name: "log", Get: func(context.Context, io.Writer) error {
			if _, err := os.Stat(dir); err != nil {
				return err
			}
			return fmt.Errorf("%s has no file of the last %d days", dir, r.days)
		}}}
		if r.alone() {
			logs[0] = support.Absent(logs[0], "no such file", "has no file of the last")
		}
	}
	parts = append(parts, logs...)
	parts = append(parts, support.Files("log/store", filepath.Join(cmp.Or(r.node.RunDir, r.path("/run/holdfast")),
		"store", "*.log"), r.since, 4)...)
	return append(parts, support.Files("libvirt/log", r.path("/var/log/libvirt/qemu/"+guest+".log*"), r.since, 4)...)
}
