// Package command has what all commands of the program share: what a command line runs in (Env), the global flags and
// the connection to an agent (App), how people are asked, how files and passwords are read, help, and the words in
// which a wrong call is refused.
package command

import (
	"context"
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
	// HostFiles are what an installation puts on a host, or on one of a pair: the program and what belongs to it.
	HostFiles func(root *cobra.Command, ofPair bool) ([]install.File, error)
}

// DefaultSocket is where an agent serves its API to root.
const DefaultSocket = "/run/holdfast/holdfast.sock"

// SocketEnv names the socket when no flag does.
const SocketEnv = "HOLDFAST_SOCKET"

// App is what all commands share: the environment and the global flags.
type App struct {
	Env    Env
	Root   func() *cobra.Command // the commands of the program, made anew
	Socket string
	Server string
	CA     string
	Cert   string
	Key    string
	Output string

	Old bool // what the agent answered is what a member knew: the store has no quorum
}

// Program is the program's own name: it may be called by those of source tools.
const Program = "holdfast"

// MoreForms is the annotation of a command whose output has one form more than text and json.
const MoreForms = "form"

// AsItIs is the annotation of a command whose output is other programs', or read by some: it is not translated, but
// for its help.
const AsItIs = "asItIs"

// TLSKeyFlag stands for the global flag --key where that names the key of a bundle.
const TLSKeyFlag = "client-key"

// VersionTime is how long an agent may take to name its version.
const VersionTime = 2 * time.Second

// AsJSON reads the output format.
func (a *App) AsJSON(cmd *cobra.Command) (bool, error) {
	switch a.Output {
	case "json":
		return true, nil
	case "text":
		return false, nil
	}
	return false, Usage(cmd, fmt.Errorf("output format %q: want text or json", a.Output))
}

// Format reads the output format of a command that has more than text and json.
func (a *App) Format(cmd *cobra.Command, more string) (string, error) {
	if a.Output != more && a.Output != "text" && a.Output != "json" {
		return "", Usage(cmd, fmt.Errorf("output format %q: want text, json or %s", a.Output, more))
	}
	return a.Output, nil
}

// Open reads the output format and prepares the client. The caller closes it.
func (a *App) Open(cmd *cobra.Command) (c *api.Client, js bool, err error) {
	if js, err = a.AsJSON(cmd); err != nil {
		return nil, false, err
	}
	c, err = a.Dial(cmd)
	return c, js, err
}

// oldText says how old an answer is.
func oldText(age time.Duration) string {
	if age < 0 {
		return "no quorum of the store: this is what a member knows, and it may be old"
	}
	return fmt.Sprintf("no quorum of the store: this is what a member knew %s ago", output.Ago(age))
}

// Asked is what an agent answers, and whether it is wanted as JSON.
func Asked[T any](a *App, cmd *cobra.Command,
	ask func(context.Context, *api.Client) (T, error)) (v T, js bool, err error) {
	c, js, err := a.Open(cmd)
	if err != nil {
		return v, js, err
	}
	defer c.Close()
	v, err = ask(cmd.Context(), c)
	return v, js, err
}

// Dial prepares the client that the flags and the environment ask for. Of an answer that is old, it tells the age.
func (a *App) Dial(cmd *cobra.Command) (*api.Client, error) {
	c, err := a.client(cmd)
	if err == nil {
		var once sync.Once // of several answers
		c.OnOld(func(age time.Duration) {
			once.Do(func() {
				a.Old = true
				fmt.Fprintln(a.Env.Stderr, oldText(age))
			})
		})
	}
	return c, err
}

func (a *App) client(cmd *cobra.Command) (*api.Client, error) {
	key := "key"
	if cmd.Flags().Lookup(TLSKeyFlag) != nil {
		key = TLSKeyFlag
	}
	if a.Server == "" {
		if a.CA != "" || a.Cert != "" || a.Key != "" {
			return nil, Usage(cmd, fmt.Errorf("--ca, --cert and --%s are for --server, which is not given", key))
		}
		path := a.Socket
		if path == "" {
			path = os.Getenv(SocketEnv)
		}
		if path == "" {
			path = DefaultSocket
		}
		return api.Dial("unix:"+path, nil)
	}
	switch {
	case a.Socket != "":
		return nil, Usage(cmd, errors.New("--server and --socket exclude each other"))
	case a.CA == "" || a.Cert == "" || a.Key == "":
		return nil, Usage(cmd, fmt.Errorf("--server needs --ca, --cert and --%s", key))
	}
	conf, err := api.LoadTLS(a.CA, a.Cert, a.Key)
	if err != nil {
		return nil, err
	}
	return api.Dial(a.Server, conf)
}
