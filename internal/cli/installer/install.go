package installer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
)

// SSHFlags say how to reach hosts.
type SSHFlags struct {
	set      *pflag.FlagSet // that they are in; nil: another tool's
	Opt      remote.Options
	Ask      bool
	File     string
	Trusted  []string
	Parallel int
	Anew     string // address of a host that was installed anew: a person is asked for its changed key
}

// Add has a command take them.
func (s *SSHFlags) Add(cmd *cobra.Command) {
	f := cmd.Flags()
	s.set = f
	f.StringVar(&s.Opt.User, "ssh-user", "",
		"log in as this `user` (default root); any\nother needs sudo without a password")
	f.IntVar(&s.Opt.Port, "ssh-port", 22, "`port` of sshd on the hosts")
	f.StringVar(&s.Opt.Identity, "identity", "",
		"private key `file` (default: the usual\nones in ~/.ssh, and the SSH agent's)")
	f.BoolVar(&s.Ask, "ask-password", false, "ask for the password of the login")
	f.StringVar(&s.File, "password-file", "", "read that password from a `file`")
	f.StringVar(&s.Opt.KnownHosts, "known-hosts", "", "`file` with the hosts' keys\n(default ~/.ssh/known_hosts)")
	f.StringSliceVar(&s.Trusted, "host-key", nil, "`SHA256:...` of a host's key to take\nwithout asking")
	f.IntVar(&s.Parallel, "parallel", 20, "how many hosts at a time")
}

// Login reads the password, and settles which keys of the hosts are taken.
func (s *SSHFlags) Login(ctx context.Context, a *command.App, o install.Options) error {
	if err := s.Prepare(ctx, a); err != nil {
		return err
	}
	return s.Confirm(ctx, a, slices.Concat(install.Members(o.Config), o.Guests))
}

// Prepare sees whether there may be connections, and reads the password.
func (s *SSHFlags) Prepare(ctx context.Context, a *command.App) (err error) {
	if s.set != nil && s.set.Changed("ssh-port") && s.Opt.Port == 0 { // as an option it means sshd's usual port
		return fail.Errorf(fail.Invalid, "--ssh-port 0: want 1 to 65535")
	}
	if err := s.Opt.Check(); err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if s.Ask || s.File != "" {
		s.Opt.Password, err = a.Password(ctx, s.File,
			fmt.Sprintf("Password of %s on the hosts: ", output.Or(s.Opt.User, "root")))
	}
	if err == nil && s.Parallel < 1 {
		err = fail.Errorf(fail.Invalid, "--parallel: value %d: want at least 1", s.Parallel)
	}
	s.Opt.Pinned = map[string]string{}
	return err
}

// Confirm shows the keys of hosts that nobody knows yet, and remembers those that
// the user takes.
func (s *SSHFlags) Confirm(ctx context.Context, a *command.App, hosts []install.Host) error {
	unknown, changed := remote.Keys(ctx, hosts, s.Parallel, s.Opt)
	var errs []error
	for _, k := range changed {
		if err := s.changed(ctx, a, k.Host, k.ChangedKey); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var asked []remote.HostKey
	for _, k := range unknown {
		if slices.Contains(s.Trusted, k.Fingerprint) {
			s.Opt.Pinned[k.At] = k.Fingerprint
		} else {
			asked = append(asked, k)
		}
	}
	if in, ok := a.Env.Stdin.(*os.File); len(asked) > 0 && ok && output.IsTerminal(in) {
		var b strings.Builder
		b.WriteString("These keys of hosts are not known yet:\n")
		for _, k := range asked {
			fmt.Fprintf(&b, "  %s  %s  %s %s\n", output.Clean(k.Name), output.Clean(k.At), output.Clean(k.Type),
				output.Clean(k.Fingerprint))
		}
		b.WriteString("Compare them with what the hosts show (for f in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf " +
			"$f; done).\nAre they right? (yes/no): ")
		typed, err := a.Ask(ctx, b.String())
		if err != nil {
			return err
		}
		if typed != "yes" {
			return fail.Errorf(fail.Invalid, "the hosts' keys were not confirmed; nothing was changed")
		}
		for _, k := range asked {
			s.Opt.Pinned[k.At] = k.Fingerprint
		}
	}
	var taken []*remote.UnknownKey
	for _, k := range unknown {
		if s.Opt.Pinned[k.At] != "" {
			taken = append(taken, k.UnknownKey)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return s.Opt.Remember(taken)
}

// changed takes the key of a host that has changed, if the user has named it, or says so when asked. What is not taken is a
// finding of the checks.
func (s *SSHFlags) changed(ctx context.Context, a *command.App, h install.Host, k *remote.ChangedKey) error {
	if slices.Contains(s.Trusted, k.Fingerprint) {
		return s.Opt.Replace(ctx, k)
	}
	if in, ok := a.Env.Stdin.(*os.File); h.Addr != s.Anew || !ok || !output.IsTerminal(in) {
		return nil
	}
	typed, err := a.Ask(ctx, fmt.Sprintf("The key of %s has changed, as it does when a host is installed anew.\n  "+
		"before: %s, in %s\n  now:    %s, %s\n",
		output.Clean(h.Name), k.Known, output.Clean(k.Where), k.Fingerprint, output.Clean(k.Type))+
		"If it was not installed anew, somebody may stand between. Compare the key with what its own console "+
		"shows\n(for f in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $f; done).\nTake it in place of the one before? (yes/no): ")
	if err != nil {
		return err
	}
	if typed != "yes" {
		return fail.Errorf(fail.Invalid, "the host's changed key was not confirmed; nothing was changed")
	}
	return s.Opt.Replace(ctx, k)
}

// Connector makes connections on which a host answers.
func (s *SSHFlags) Connector(p remote.Program) func(context.Context, install.Host) (install.Conn, error) {
	return remote.Connector(s.Opt, p)
}

func installCmd(a *command.App) *cobra.Command {
	var ssh SSHFlags
	var file, list, base string
	var check, undersized, yes, closed bool
	cmd := &cobra.Command{
		Use:   "install -c FILE",
		Short: "Install Holdfast on all hosts of a configuration, over SSH",
		Long: `Installs Holdfast on all hosts of a configuration, forms the cluster and starts
the management VM. It runs on any machine that reaches the hosts by SSH.

All checks run on all hosts before anything is changed; with --check nothing
else is done. When one of them fails, or a host can not take its files, no host
is changed. Run it again after anything that went wrong: what is there and
right stays, and a member whose disk was replaced joins again. With one line of
Node changed, another member takes the place of one, after a question.

--hosts adds hosts that run guests only to a cluster that is installed. The file
has a line "IP HOSTNAME" for each.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if file == "" {
				return command.Usage(cmd, errors.New("want -c FILE, the configuration (holdfast config sample writes one)"))
			}
			o, err := InstallOptions(a, cmd, file, list, base, undersized)
			if err != nil {
				return err
			}
			if err := ssh.Login(cmd.Context(), a, o); err != nil {
				return err
			}
			o.Confirm, o.NoFirewall = a.Confirming(yes), closed
			return installHosts(a, cmd, o, &ssh, check, js)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "config", "c", "", "the cluster's configuration `file`")
	f.StringVar(&list, "hosts", "", "`file` with hosts that run guests only")
	f.StringVar(&base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&check, "check", false, "check only")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&closed, "no-firewall", false, "leave the hosts' firewalls alone; you open\nthe ports yourself")
	f.BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below\n8 GB and 4 CPUs")
	ssh.Add(cmd)
	return cmd
}

// InstallOptions reads the files of an installation.
func InstallOptions(a *command.App, cmd *cobra.Command, file, list, base string,
	undersized bool) (o install.Options, err error) {
	name, data, err := a.ReadConfig(cmd.Context(), file)
	if err != nil {
		return o, err
	}
	cfg, faults, warnings := config.Parse(name, data, config.Options{AllowUndersized: undersized, ReadFile: config.ReadFile})
	if len(faults) > 0 {
		if err := a.WriteCheck(faults, warnings); err != nil {
			return o, err
		}
		return o, fail.Errorf(fail.Invalid, "") // all is said
	}
	for _, w := range warnings {
		if err := output.Text(a.Env.Stderr, "warning: "+output.Clean(w.String())+"\n"); err != nil {
			return o, err
		}
	}
	o = install.Options{Config: cfg, ConfigText: command.WithDomain(cfg, data), Undersized: undersized,
		Domain: cluster.GuestName}
	if o.Base, err = ReadBase(base); err != nil {
		return o, err
	}
	if list != "" && cfg.Type == config.PairConf {
		return o, fail.Errorf(fail.Invalid, "--hosts: value %q: allowed only with a management VM, not with Type %s", list, config.PairConf)
	}
	if list != "" {
		text, err := command.ReadSmall(list)
		if err != nil {
			return o, fail.Errorf(fail.Invalid, "read the list of hosts: %w", err)
		}
		if o.Guests, err = guestHosts(list, string(text), cfg); err != nil {
			return o, err
		}
	}
	return o, nil
}

// ReadBase reads the settings that all agents have; "": none.
func ReadBase(file string) (n config.Node, err error) {
	if file == "" {
		return n, nil
	}
	text, err := command.ReadSmall(file)
	if err != nil {
		return n, fail.Errorf(fail.Invalid, "read the settings: %w", err)
	}
	n, faults := config.ParseBase(file, text)
	if len(faults) > 0 {
		return n, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	return n, nil
}

// guestHosts reads lines "IP HOSTNAME"; # begins a comment.
func guestHosts(file, text string, cfg config.Cluster) (out []install.Host, err error) {
	taken := map[string]string{}
	for _, m := range install.Members(cfg) {
		taken[m.Name], taken[m.Addr] = "Node", "Node"
	}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		bad := func(format string, args ...any) error {
			return fail.Errorf(fail.Invalid, "%s:%d: %s", output.Clean(file), i+1, output.Clean(fmt.Sprintf(format, args...)))
		}
		if len(f) != 2 {
			return nil, bad("value %q: want IP HOSTNAME", strings.TrimSpace(line))
		}
		if _, err := netip.ParseAddr(f[0]); err != nil {
			return nil, bad("value %q: want an IP address", f[0])
		}
		if !config.IsHostname(f[1]) {
			return nil, bad("value %q: want an RFC 1123 host name", f[1])
		}
		for _, v := range f {
			if at := taken[v]; at != "" {
				return nil, bad("value %q: it is in %s already", v, at)
			}
			taken[v] = fmt.Sprintf("line %d", i+1)
		}
		out = append(out, install.Host{Name: f[1], Addr: f[0], Guests: true})
	}
	if len(out) == 0 {
		return nil, fail.Errorf(fail.Invalid, "%s: no host in it: want lines IP HOSTNAME", output.Clean(file))
	}
	return out, nil
}

// installHosts runs an installation and tells of it.
func installHosts(a *command.App, cmd *cobra.Command, o install.Options, ssh *SSHFlags, check, js bool) error {
	res, err := Install(a, cmd, &o, ssh, check)
	var werr error
	switch {
	case js && check:
		werr = output.JSON(a.Env.Stdout, res.Report, false)
	case js:
		werr = output.JSON(a.Env.Stdout, res, false)
	default:
		werr = output.Text(a.Env.Stdout, ResultText(res, check || err != nil, output.PainterFor(a.Env.Stdout)))
	}
	return Installed(cmd, res, err, werr)
}

// over sends this program along, and says how hosts are reached and what is told.
func over(a *command.App, cmd *cobra.Command, o *install.Options, ssh *SSHFlags) error {
	program, err := OwnProgram()
	if err != nil {
		return err
	}
	o.Connect = ssh.Connector(program)
	return Place(a, cmd, o, ssh)
}

// OwnProgram reads this program, which hosts are sent.
func OwnProgram() (p remote.Program, err error) {
	exe, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find this program: %w", err)
	}
	return remote.ReadProgram(exe)
}

// Place says what every host gets, how many at a time, and who is told.
func Place(a *command.App, cmd *cobra.Command, o *install.Options, ssh *SSHFlags) (err error) {
	if o.Files, err = a.Env.HostFiles(cmd.Root(), o.Config.Type == config.PairConf); err != nil {
		return err
	}
	o.Parallel = ssh.Parallel
	o.Tell = Tell(a.Env.Stderr)
	return cmd.Context().Err()
}

// Install installs, or only checks.
func Install(a *command.App, cmd *cobra.Command, o *install.Options, ssh *SSHFlags,
	check bool) (install.Result, error) {
	if err := over(a, cmd, o, ssh); err != nil {
		return install.Result{}, err
	}
	return install.Install(cmd.Context(), *o, check)
}

// Installed is the error that an installation ends with.
func Installed(cmd *cobra.Command, res install.Result, err, werr error) error {
	switch {
	case cmd.Context().Err() != nil && res.Cluster == "": // it was checking
		return fail.Errorf(fail.Canceled, "install: interrupted; nothing was changed on any host")
	case cmd.Context().Err() != nil:
		return fail.Errorf(fail.Canceled, "install: interrupted; what hosts have got so far is left there").
			With("run it again to go on")
	case err != nil:
		return fmt.Errorf("install: %w", err)
	case werr == nil && !res.OK:
		return fail.Errorf(fail.Refused, "install: %d of %d checks failed; nothing was changed on any host", res.Failing(), len(res.Findings))
	}
	return werr
}

// Tell writes a line for each new thing.
func Tell(w io.Writer) func(host, what string) {
	return (&installProgress{w: w, begin: time.Now()}).tell
}

type installProgress struct {
	mu    sync.Mutex
	w     io.Writer
	begin time.Time
	last  string
}

func (p *installProgress) tell(host, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := output.Clean(what)
	if host != "" {
		line = output.Clean(host) + ": " + line
	}
	if line == p.last {
		return
	}
	p.last = line
	// Nothing is lost when nobody reads it.
	_, _ = fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.begin).Seconds(), line)
}
