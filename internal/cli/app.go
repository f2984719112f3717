package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/output"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/pin"
	"holdfast/internal/transition/platform"
)

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

// DefaultSocket is where an agent serves its API to root.
const DefaultSocket = "/run/holdfast/holdfast.sock"

// socketEnv names the socket when no flag does.
const socketEnv = "HOLDFAST_SOCKET"

// app is what all commands share: the environment and the global flags.
type app struct {
	env    Env
	root   func() *cobra.Command // the commands of the program, made anew
	socket string
	server string
	ca     string
	cert   string
	key    string
	output string

	old bool // what the agent answered is what a member knew: the store has no quorum
}

// programName is the program's own name: it may be called by those of source tools.
const programName = "holdfast"

// moreForms is the annotation of a command whose output has one form more than text and json.
const moreForms = "form"

// AsItIs is the annotation of a command whose output is other programs', or read by some: it is not translated, but
// for its help.
const AsItIs = "asItIs"

// tlsKeyFlag stands for the global flag --key where that names the key of a bundle.
const tlsKeyFlag = "client-key"

// versionTime is how long an agent may take to name its version.
const versionTime = 2 * time.Second

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
	return fmt.Sprintf("no quorum of the store: this is what a member knew %s ago", output.Ago(age))
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
