package installer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/web/first"
)

// firstPort is where the first run is served: the console's own port is that of the agent that it installs.
const firstPort = install.ConsolePort + 1

// firstRun is where a first run is served, and what lets a browser in.
type firstRun struct {
	Addresses   []string `json:"addresses"`
	Code        string   `json:"code"`        // of one browser
	Certificate string   `json:"certificate"` // SHA-256, as browsers show it
}

func consoleCmd(a *command.App) *cobra.Command {
	var listen, known string
	var undersized bool
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Make a cluster in the browser, from this host",
		Long: `Serves pages by which a cluster is made: of three or more hosts that keep a
management VM up, or of this host and another one that are a pair. They run the
checks and the installation of "install" and "pair setup", and show what is found
and done. It goes on until the page says that it has ended, or Ctrl-C.

Who opens a page needs the code that is shown; each one lets one browser in. The
certificate is made for this run: compare its fingerprint when the browser asks.
Passwords that are typed are kept in memory only. On a host of a cluster it is
refused: its console is served by the agent.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			js, err := a.AsJSON(cmd)
			if err != nil {
				return err
			}
			if err := ofNoCluster(); err != nil {
				return err
			}
			return serveFirst(a, cmd, js, listen, first.Options{KnownHosts: known, Undersized: undersized})
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", ":"+strconv.Itoa(firstPort), "`address` and port at which it is served")
	f.StringVar(&known, "known-hosts", "", "`file` with the hosts' keys\n(default ~/.ssh/known_hosts)")
	f.BoolVar(&undersized, "allow-undersized", false, "accept a management VM for tests, below\n8 GB and 4 CPUs")
	return cmd
}

// ofNoCluster refuses on a host of a cluster.
func ofNoCluster() error {
	n, err := config.LoadNode(install.SettingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	refused := fail.Errorf(fail.Refused, "this host is of a cluster already: %s is there", install.SettingsFile)
	if err == nil && n.Console.Listen != "" {
		_, port, _ := net.SplitHostPort(n.Console.Listen) // it was checked
		return refused.With("open its console: https://" + net.JoinHostPort(n.Addr, port))
	}
	return refused.With("see: holdfast status")
}

func serveFirst(a *command.App, cmd *cobra.Command, js bool, listen string, o first.Options) error {
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "" {
		return command.Usage(cmd, fmt.Errorf("--listen: value %q: want ADDRESS:PORT, or :PORT for all addresses", listen))
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read the name of this host: %w", err)
	}
	if o.Program, err = OwnProgram(); err != nil {
		return err
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the addresses of this host: %w", err)
	}
	cert, print, err := first.Certificate(host, addrs)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
	if err != nil {
		return fail.Errorf(fail.Failed, "listen on %s: %w", output.Clean(listen), err).With("give another one, by --listen")
	}
	defer ln.Close()
	o.Host, o.Version, o.Log = host, cmp.Or(a.Env.Version, "unknown"), slog.New(slog.DiscardHandler)
	o.Files = func(ofPair bool) ([]install.File, error) { return a.Env.HostFiles(cmd.Root(), ofPair) }
	o.Dial = func() (*api.Client, error) { return a.Dial(cmd) }
	tell := Tell(a.Env.Stderr)
	o.Tell = func(what string) { tell("", what) }
	r := first.New(o)
	at := firstRun{reached(ln.Addr(), addrs), r.Code(), print}
	if js {
		err = output.JSON(a.Env.Stdout, at, false)
	} else {
		err = output.Text(a.Env.Stdout, firstText(at))
	}
	if err != nil {
		return err
	}
	return r.Serve(cmd.Context(), ln, cert)
}

// reached are the addresses of a listener, as a browser is told.
func reached(at net.Addr, addrs []net.Addr) (out []string) {
	host, port, err := net.SplitHostPort(at.String())
	if ip := net.ParseIP(host); err == nil && !ip.IsUnspecified() {
		return []string{"https://" + at.String()}
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, "https://"+net.JoinHostPort(n.IP.String(), port))
		}
	}
	if out == nil {
		out = []string{"https://" + net.JoinHostPort("127.0.0.1", port)}
	}
	return out
}

func firstText(r firstRun) string {
	port := r.Addresses[0][strings.LastIndex(r.Addresses[0], ":")+1:]
	return fmt.Sprintf("Open one of these in a browser:\n  %s\nWhere a firewall is in the way, https://127.0.0.1:%s after\n"+
		"  ssh -L %s:127.0.0.1:%s root@HOST\ncode: %s\ncertificate, SHA-256:\n  %s\n  %s\nCtrl-C ends it.\n",
		strings.Join(r.Addresses, "\n  "), port, port, port, r.Code, r.Certificate[:48], r.Certificate[48:])
}
