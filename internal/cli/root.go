package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"holdfast/internal/api"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/lang"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/platform"
)

// DefaultSocket is where an agent serves its API to root.
const DefaultSocket = "/run/holdfast/holdfast.sock"

// socketEnv names the socket when no flag does.
const socketEnv = "HOLDFAST_SOCKET"

// Env is what a command line runs in.
type Env struct {
	Stdout, Stderr io.Writer
	Stdin          io.Reader
	Version        string           // of the build
	Commit         string           // from which it was built; "": not known
	Built          time.Time        // of that commit; zero: not known
	Extra          []*cobra.Command // more commands; an *fail.Error of theirs sets the exit code
	Store          []*cobra.Command // more commands below store
	// Facts are what this host is like.
	Facts func(context.Context, install.Query) (*install.Facts, error)
	// Probe counts the packets that targets lose. It may have a result beside an error.
	Probe func(context.Context, losses.Order, func(losses.Progress)) (*losses.Result, error)
	// Pin and Unpin pin a bridge of this host, and end that.
	Pin, Unpin func(context.Context, pin.Order) (*pin.Result, error)
	// Features tries on a test guest what a platform must do with guests. An error comes without a report.
	Features func(context.Context, feature.Order, func(feature.Progress)) (*feature.Report, error)
	// CloudFeatures does it by the API of OpenStack.
	CloudFeatures func(context.Context, feature.CloudOrder, func(feature.Progress)) (*feature.Report, error)
	// Collect reads what an OpenStack platform has.
	Collect func(ctx context.Context, getenv func(string) string, now time.Time) (*platform.Platform, error)
	// HostPorts is what this host has of the ports of Neutron, which knows it by that name; "": the host's own name.
	HostPorts func(ctx context.Context, name string) (*net.Host, error)
	// DRBD is what this host's kernel has of DRBD devices, a line each.
	DRBD func(context.Context) ([]string, error)
	// Root is where files of this host are that a report reads; "": /. Tests have a host of their own.
	Root string
	// HostFiles are what an installation puts on a host: the program and what belongs to it.
	HostFiles func(root *cobra.Command) ([]install.File, error)
}

// app is what all commands share: the environment and the global flags.
type app struct {
	env    Env
	socket string
	server string
	ca     string
	cert   string
	key    string
	output string

	details bool // zsha tells more

	old bool // what the agent answered is what a member knew: the store has no quorum
}

// New returns the command line. Its errors are for Main to print.
func New(env Env) *cobra.Command {
	a := &app{env: env}
	root := &cobra.Command{
		Use:   programName,
		Short: "Keep a management VM running on exactly one host",
		Long: `Holdfast keeps a management VM running on exactly one of an odd number of hosts.

Exit codes: 0 done, 1 failed, 2 bad input, 3 refused for safety, 4 agent or
server not reachable. Set HOLDFAST_LANG=zh for messages in Chinese.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetHelpFunc(help)
	root.SetUsageFunc(usageText)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetIn(env.Stdin)
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "agent's unix `path` (default $"+socketEnv+", else "+DefaultSocket+")")
	f.StringVar(&a.server, "server", "", "agent's `URL`, https://IP:"+api.DefaultPort+", instead of a socket")
	f.StringVar(&a.ca, "ca", "", "PEM `file` with the cluster's CA, for --server")
	f.StringVar(&a.cert, "cert", "", "PEM `file` with the client certificate, for --server")
	f.StringVar(&a.key, "key", "", "PEM `file` with the client's key, for --server")
	f.StringVarP(&a.output, "output", "o", "text", "output `format`, text or json")
	root.AddCommand(a.statusCmd(), a.startCmd(), a.stopCmd(), a.migrateCmd(), a.eventsCmd(), a.versionCmd(), a.configCmd(), a.bundleCmd(), a.hostCmd(), a.jobsCmd(),
		a.storeCmd(), a.confirmOffCmd(), a.resetPasswordCmd())
	root.AddCommand(a.upgradeCmd(), a.transitionCmd(), a.installCmd(), a.uninstallCmd(), a.doctorCmd(), a.certificatesCmd(), a.reportCmd(), a.adoptCmd(), a.pairCmd(), a.probeCmd())
	a.checksOutput(root)
	root.AddCommand(env.Extra...)
	root.SetHelpCommand(helpCmd())
	addExamples(root, "")
	markUsage(root)
	return root
}

// programName is the program's own name: it may be called by those of source tools.
const programName = "holdfast"

// Main runs a command line, prints its error, and returns the exit code. args
// are without the program's name. The first SIGINT or SIGTERM ends the command's
// context, the second one the process.
func Main(args []string, env Env) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	speech, err := lang.For(os.Getenv(lang.Env))
	if err != nil {
		e := fail.Errorf(fail.Invalid, "%w", err)
		report(env.Stderr, programName, err, e)
		return e.Kind.Exit()
	}
	root, name := New(env), programName
	tool := NewPairTool(env, PairToolCalled())
	switch {
	case tool != nil:
		if root, name = tool, tool.Name(); name == againName {
			name = recoveryFails
		}
	case ZshaCalled(): // its texts are those of another tool
		root, name, args = NewZsha(env), zshaErrors, zshaArgs(args)
		env.Stderr = zshaWriter{env.Stderr}
		if speech != nil { // what is told of faults is ours
			env.Stderr = lang.Writer{Writer: env.Stderr, Catalogue: speech}
		}
	case speech != nil && forPeople(root, args):
		env.Stdout, env.Stderr = lang.Writer{Writer: env.Stdout, Catalogue: speech}, lang.Writer{Writer: env.Stderr, Catalogue: speech}
		root = New(env)
		Translate(root, speech)
	}
	root.SetArgs(args)
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own
			markUsage(c)
		}
	}
	err = root.ExecuteContext(ctx)
	if err == nil {
		return fail.ExitDone
	}
	var ran *fail.Ran
	if errors.As(err, &ran) { // the command has told
		return ran.Code
	}
	var e *fail.Error
	if !errors.As(err, &e) {
		e = fail.Errorf(fail.Failed, "%w", err)
		if _, _, ferr := root.Find(args); ferr != nil { // no such command
			err = plainly(root, err)
			e = fail.Errorf(fail.Invalid, "%w", err).With("see: " + root.Name() + " --help")
		}
	}
	if e.Kind == fail.Unavailable && errors.Is(err, fs.ErrNotExist) && ofAgent(err) && !configured(root) {
		e = e.With(unconfigured)
	}
	if c, _, ferr := root.Find(args); ferr == nil && name == programName && text.Alone(err.Error()) {
		name = c.CommandPath()
	}
	if tool == nil { // whose texts are another tool's
		env.Stderr = inTongue(env.Stderr, speech)
	}
	report(env.Stderr, name, err, e)
	return e.Kind.Exit()
}

// unconfigured is what to do on a host whose agent has no settings, and so is not to be started.
const unconfigured = "this host is of no cluster yet: there is no " + install.SettingsFile + "; to make it one of a cluster: holdfast install -c FILE"

// configured says whether this host has settings of an agent, or another agent was meant.
func configured(root *cobra.Command) bool {
	for _, name := range []string{"socket", "server"} {
		if f := root.PersistentFlags().Lookup(name); f != nil && f.Changed {
			return true
		}
	}
	_, err := os.Stat(install.SettingsFile)
	return os.Getenv(socketEnv) != "" || !errors.Is(err, fs.ErrNotExist)
}

// inTongue is where the error of a command goes that ends: people read it, also of a command whose output is English.
func inTongue(w io.Writer, l *lang.Catalogue) io.Writer {
	if _, already := lang.Raw(w); l == nil || already != nil {
		return w
	}
	return lang.Writer{Writer: w, Catalogue: l}
}

// forPeople says whether people read what a command line writes, and no shell and no other
// process of this program.
func forPeople(root *cobra.Command, args []string) bool {
	if len(args) > 0 {
		switch name := args[0]; {
		case name == "completion" || strings.HasPrefix(name, "__complete"):
			return false
		case name == "lab" || name == "simulate": // what they write is other programs', or read by some
			return slices.Contains(args, "--help") || slices.Contains(args, "-h")
		}
	}
	c, _, err := root.Find(args)
	return err != nil || !c.Hidden
}

// Translate puts the help of all commands into another language: a Writer sees its lines,
// which are wrapped, and no texts.
func Translate(cmd *cobra.Command, l *lang.Catalogue) {
	cmd.SetUsageFunc(func(c *cobra.Command) error { return usageIn(c, l) })
	cmd.InitDefaultHelpFlag() // else it gets its text when it is asked for
	cmd.Short, cmd.Long = l.Text(cmd.Short), l.Text(cmd.Long)
	cmd.Flags().Lookup("help").Usage = "help for this command"
	for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
		set.VisitAll(func(f *pflag.Flag) { f.Usage = l.Text(f.Usage) })
	}
	for _, c := range cmd.Commands() {
		Translate(c, l)
	}
}

// report prints an error after who or what it is, and its remedy, for a terminal folded. A command
// that has said everything already ends with an empty message.
func report(w io.Writer, name string, err error, e *fail.Error) {
	if err.Error() == "" {
		return
	}
	p := painterFor(w)
	if raw, l := lang.Raw(w); isZsha(raw) { // its texts are those of another tool
		p = painter{lang: l}
	}
	var list choices
	if !p.cuts && errors.As(err, &list) {
		p.cuts, p.columns = true, 0
	}
	var b strings.Builder
	begin := name + ": "
	for line := range strings.SplitSeq(cleanLines(err.Error()), "\n") {
		b.WriteString(p.folded(begin, p.lang.Text(line), 2))
		begin = ""
	}
	if begin = "  "; e.Remedy != "" {
		for line := range strings.SplitSeq(cleanLines(e.Remedy), "\n") {
			b.WriteString(p.folded(begin, p.lang.Text(line), 4))
			begin = ""
		}
	}
	// Nothing is left to be done when stderr is gone; the exit code still tells.
	_, _ = io.WriteString(w, b.String())
}

func isZsha(w io.Writer) bool {
	_, is := w.(zshaWriter)
	return is
}

// usage makes the error of a command that was called wrongly.
func usage(cmd *cobra.Command, err error) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail.Errorf(fail.Invalid, "%w", plainly(cmd, err)).With("see: " + cmd.CommandPath() + " --help")
}

// markUsage makes wrong flags and arguments of all commands bad input, and so a command that only holds others.
func markUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(usage)
	if cmd.HasParent() && cmd.HasSubCommands() && !cmd.Runnable() {
		holds(cmd)
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error { return usage(c, check(c, args)) }
	}
	for _, c := range cmd.Commands() {
		markUsage(c)
	}
}

// group makes a command that only holds others.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(sub...)
	holds(cmd)
	return cmd
}

// holds refuses to run a command that only holds others.
func holds(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(c *cobra.Command, args []string) error {
		what := "no command given"
		if len(args) > 0 {
			what = fmt.Sprintf("unknown command %q", args[0])
		}
		return usage(c, choices{fmt.Errorf("%s: %s; want %s", c.CommandPath(), what, subcommands(c))})
	}
}

// moreForms is the annotation of a command whose output has one form more than text and json.
const moreForms = "form"

// checksOutput has all commands below one look at the output format as they look at their other flags, in PreRunE:
// before they are run, and where a plan of them is made (fits). PreRunE asks and changes nothing.
func (a *app) checksOutput(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.checksOutput(c)
	}
	if cmd.RunE == nil || cmd.HasSubCommands() {
		return
	}
	check := cmd.PreRunE
	cmd.PreRunE = func(c *cobra.Command, args []string) error {
		var err error
		if more := c.Annotations[moreForms]; more != "" {
			_, err = a.format(c, more)
		} else {
			_, err = a.asJSON(c)
		}
		if err == nil && check != nil {
			err = check(c, args)
		}
		return err
	}
}

// asJSON reads the output format.
func (a *app) asJSON(cmd *cobra.Command) (bool, error) {
	switch a.output {
	case "json":
		return true, nil
	case "text":
		return false, nil
	}
	return false, usage(cmd, fmt.Errorf("output format %q: want text or json", a.output))
}

// format reads the output format of a command that has more than text and json.
func (a *app) format(cmd *cobra.Command, more string) (string, error) {
	if a.output != more && a.output != "text" && a.output != "json" {
		return "", usage(cmd, fmt.Errorf("output format %q: want text, json or %s", a.output, more))
	}
	return a.output, nil
}

// open reads the output format and prepares the client. The caller closes it.
func (a *app) open(cmd *cobra.Command) (c *api.Client, js bool, err error) {
	if js, err = a.asJSON(cmd); err != nil {
		return nil, false, err
	}
	c, err = a.dial(cmd)
	return c, js, err
}

// oldText says how old an answer is.
func oldText(age time.Duration) string {
	if age < 0 {
		return "no quorum of the store: this is what a member knows, and it may be old"
	}
	return fmt.Sprintf("no quorum of the store: this is what a member knew %s ago", ago(age))
}

// asked is what an agent answers, and whether it is wanted as JSON.
func asked[T any](a *app, cmd *cobra.Command, ask func(context.Context, *api.Client) (T, error)) (v T, js bool, err error) {
	c, js, err := a.open(cmd)
	if err != nil {
		return v, js, err
	}
	defer c.Close()
	v, err = ask(cmd.Context(), c)
	return v, js, err
}

// ordered has an agent do something, and then says so, or shows the status as JSON.
func (a *app) ordered(cmd *cobra.Command, said string, do func(context.Context, *api.Client) error) error {
	c, js, err := a.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := do(cmd.Context(), c); err != nil {
		return err
	}
	if js {
		return a.showNow(cmd.Context(), c)
	}
	return writeText(a.env.Stdout, said+"\n")
}

// dial prepares the client that the flags and the environment ask for. Of an answer that is old, it tells the age.
func (a *app) dial(cmd *cobra.Command) (*api.Client, error) {
	c, err := a.client(cmd)
	if err == nil {
		var once sync.Once // of several answers
		c.OnOld(func(age time.Duration) {
			once.Do(func() {
				a.old = true
				fmt.Fprintln(a.env.Stderr, oldText(age))
			})
		})
	}
	return c, err
}

func (a *app) client(cmd *cobra.Command) (*api.Client, error) {
	key := "key"
	if cmd.Flags().Lookup(tlsKeyFlag) != nil {
		key = tlsKeyFlag
	}
	if a.server == "" {
		if a.ca != "" || a.cert != "" || a.key != "" {
			return nil, usage(cmd, fmt.Errorf("--ca, --cert and --%s are for --server, which is not given", key))
		}
		path := a.socket
		if path == "" {
			path = os.Getenv(socketEnv)
		}
		if path == "" {
			path = DefaultSocket
		}
		return api.Dial("unix:"+path, nil)
	}
	switch {
	case a.socket != "":
		return nil, usage(cmd, errors.New("--server and --socket exclude each other"))
	case a.ca == "" || a.cert == "" || a.key == "":
		return nil, usage(cmd, fmt.Errorf("--server needs --ca, --cert and --%s", key))
	}
	conf, err := loadTLS(a.ca, a.cert, a.key)
	if err != nil {
		return nil, err
	}
	return api.Dial(a.server, conf)
}

func loadTLS(ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fail.Errorf(fail.Invalid, "read the CA: %s holds no PEM certificate", ca)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read the client certificate: %w", err)
	}
	return api.ClientTLS(pair, pool), nil
}
