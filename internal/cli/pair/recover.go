package pair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/setup"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/precheck"
)

// What the source tool's script prints, word by word.
const (
	recoveryAsks   = "Please confirm to recovery %s and format peer's /vms partition [yes/no]:\n"
	recoveryChecks = "-----Ip address Check-----\n"
	restored       = "-----CVM Master/Slave Restore Success-----\n"
)

// pairRecovery is what is said of a node that was made new.
type pairRecovery struct {
	pairInput
	placeFlags
	dir     string                                       // what is installed on this node
	confirm func(ctx context.Context, peer string) error // asks before anything is changed
}

// placeFlags say how a set-up or a recovery places what it places, and how long it waits.
type placeFlags struct {
	base   string
	closed bool
	limit  time.Duration
}

// copyWithin is how long the copy of a database is waited for.
const copyWithin = 12 * time.Hour

func (p *placeFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.base, "settings", "", "`file` with settings of all agents")
	f.BoolVar(&p.closed, "no-firewall", false, "leave the hosts' firewalls alone; you open\nthe ports yourself")
}

func (p *placeFlags) waits(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&p.limit, "timeout", copyWithin, "give up waiting for the copy after this\n`time`; it goes on without")
}

func recoverCmd(a *command.App) *cobra.Command {
	r := pairRecovery{dir: install.ConfDir}
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover PEER",
		Short: "Make a node of the pair again that was reinstalled or replaced",
		Long: `Runs on the node that serves. PEER is the address of the other node, which has
its name and address again, and a database as its distribution sets it up.
Holdfast is installed there, and it gets a copy of all data; what it has is
moved aside. A pair on a DRBD device needs the disk of before there, or an empty
one that is not smaller; what it has is replaced. It is refused while the other
node is well. A recovery that was interrupted goes on when it is run again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.confirm = func(ctx context.Context, peer string) error {
				return a.Confirming(yes)(ctx, fmt.Sprintf("Please confirm to recovery %s: what its database has is "+
					"moved aside, or on a DRBD device replaced", peer))
			}
			return recoverPair(a, cmd, &r, args[0])
		},
	}
	f := cmd.Flags()
	r.ssh.Add(cmd)
	f.StringVar(&r.arbiterPassword, "arbiter-password-file", "",
		"read the password of the login at the\nquorum host from a `file` (default: as the\npeer's)")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	r.add(cmd)
	r.waits(cmd)
	return cmd
}

func recoverPair(a *command.App, cmd *cobra.Command, r *pairRecovery, addr string) (err error) {
	at := func(file string) string { return filepath.Join(r.dir, filepath.Base(file)) }
	n, err := config.LoadNode(at(install.SettingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := notPlaced(a, cmd); err != nil {
			return err
		}
	}
	if err != nil {
		return fail.Errorf(fail.Refused, "this host is no node of a pair: %w", err)
	}
	cl, _, err := config.Load(at(install.ClusterFile), config.Options{AllowUndersized: n.Undersized})
	if err != nil {
		return fail.Errorf(fail.Refused, "this host is no node of a pair: %w", err)
	}
	if cl.Type != config.PairConf || cl.Pair.Peer(n.Host) == "" {
		return fail.Errorf(fail.Refused, "this host is no node of a pair").With("run it on the node that serves")
	}
	peer := cl.Pair.Peer(n.Host)
	want, _ := cl.Member(cluster.HostID(peer))
	if addr != want {
		return fail.Errorf(fail.Invalid, "PEER: value %q: want %s, the address of %s", output.Clean(addr), want, peer)
	}
	free, err := setup.Lock(at(install.SetupLock), "recovery")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, free()) }()
	if err := mayRecover(a, cmd, n.Host, peer); err != nil {
		return err
	}
	if err := r.confirm(cmd.Context(), want); err != nil {
		return err
	}
	so := survey.Options{}
	for _, h := range cl.Nodes() {
		ip, err := netip.ParseAddr(h.IP)
		if err != nil {
			return fmt.Errorf("address of %s: %w", h.Host, err)
		}
		switch string(h.Host) {
		case n.Host:
		case peer:
			so.Peer = ip
		default:
			so.Arbiters = append(so.Arbiters, precheck.Arbiter{Kind: precheck.Quorum, Addrs: []string{h.IP}})
		}
	}
	r.ssh.Anew = want
	if err := reachPair(cmd.Context(), a, &r.pairInput, &so); err != nil {
		return err
	}
	if err := aloneAtWork(cmd.Context(), so); err != nil {
		return err
	}
	if cl.Pair.Device == nil {
		if err := copiedAnew(cmd.Context(), so, n.DataDir); err != nil {
			return err
		}
	}
	note := &setup.Note{Values: setup.Values{Peer: want}, Config: cl}
	s := stages{a: a, begun: time.Now(), of: 2}
	if err := s.next("installation"); err != nil {
		return err
	}
	if err := placePair(a, cmd, n.Host, &r.pairInput, r.placeFlags, so, note); err != nil {
		return err
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), r.limit)
	defer cancel()
	if err := s.next("the copy of all data"); err != nil {
		return err
	}
	p, err := untilPair(ctx, a, c, "recover", whyNotHealthy)
	if err != nil {
		return err
	}
	if err := errors.Join(output.Text(a.Env.Stderr, copiedText(p)),
		output.Text(a.Env.Stdout, ViewOf(p).text(output.PainterFor(a.Env.Stdout))+restored)); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout,
		"a product that is licensed by its hardware has to be registered again on the node that was recovered\n")
}

// notPlaced says that the agent that answers is one of a pair, and was not placed by an installation; nil: it is not so.
func notPlaced(a *command.App, cmd *cobra.Command) error {
	c, err := a.Dial(cmd)
	if err != nil {
		return nil // what is missing is told
	}
	defer c.Close()
	if _, err := c.Pair(cmd.Context()); err != nil {
		return nil
	}
	return fail.Errorf(fail.Invalid, "pair recover installs Holdfast anew on the other node, and on this one it was "+
		"not installed: the settings of its agent are in %s", output.Clean(a.Settings(cmd.Context(), c))).
		With("in the laboratory, empty the data directory of a node that is off, and switch it on: it gets a copy of all data")
}

// aloneAtWork refuses while a set-up is at work on another host of the pair, or was begun there.
func aloneAtWork(ctx context.Context, so survey.Options) error {
	peer := precheck.Arbiter{Addrs: []string{so.Peer.String()}}
	for i, h := range append([]precheck.Arbiter{peer}, so.Arbiters...) {
		c, err := so.Connect(ctx, h.Addrs[0], i > 0)
		if err != nil {
			return setup.NotReached(h.Addrs[0], err)
		}
		begun, err := install.Begun(ctx, c)
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
		if begun != "" {
			return fail.Errorf(fail.Refused, "%s: %s; nothing was changed", h.Addrs[0],
				output.Clean(begun)).With("wait for its end, or take it back there: holdfast uninstall")
		}
	}
	return nil
}

// copiedAnew has the other node copy all data anew, and move aside what it has.
func copiedAnew(ctx context.Context, so survey.Options, dataDir string) error {
	c, err := so.Connect(ctx, so.Peer.String(), false)
	if err != nil {
		return setup.NotReached(so.Peer.String(), err)
	}
	_, err = c.Ask(ctx, install.Request{Do: install.DoAnew, DataDir: dataDir})
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("have %s copy the data anew: %w", so.Peer, err)
	}
	return nil
}

// answersWithin is how long a pair may take to serve again that has just lost a node, and its agent to say so.
const answersWithin = time.Minute

// served waits for a pair that serves, and whose agent can say so.
func served(ctx context.Context, c *api.Client) (p cluster.PairStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	for now, failed := range c.WatchPair(ctx) {
		var e *fail.Error
		if ctx.Err() != nil { // what was told before it is better than that
			break
		}
		p, err = now, failed
		if err == nil && p.Active() != nil || err != nil && !(errors.As(err, &e) && e.Kind == fail.Unavailable) {
			break
		}
	}
	if err == nil && p.Time.IsZero() {
		err = ctx.Err()
	}
	return p, err
}

// mayRecover refuses where the other node is well, or this one does not serve.
func mayRecover(a *command.App, cmd *cobra.Command, self, peer string) error {
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := served(cmd.Context(), c)
	if err != nil {
		return err
	}
	act := p.Active()
	switch {
	case act == nil:
		return fail.Errorf(fail.Refused, "the services do not run: %s", whyNotHealthy(p)).With("a copy can be made only of the node that serves")
	case string(act.Host) != self:
		return fail.Errorf(fail.Refused, "%s serves, not this node", act.Host).With("run it there")
	}
	rows := p.Compared()
	differ := rows != nil && len(rows.Differ) > 0
	for _, h := range p.Nodes {
		if string(h.Host) == peer && h.Alive && slices.Contains(p.InSync, h.Host) && !differ {
			return fail.Errorf(fail.Refused, "%s is well and has all data: there is nothing to recover", peer)
		}
	}
	return nil
}

// placePair gives the other node the passwords, and installs on all hosts what is missing.
func placePair(a *command.App, cmd *cobra.Command, here string, in *pairInput, f placeFlags, so survey.Options,
	note *setup.Note) error {
	ctx := cmd.Context()
	o := install.Options{Config: note.Config, ConfigText: note.Config.JSON(), Domain: cluster.GuestName, NoFirewall: f.closed}
	var err error
	if o.Base, err = installer.ReadBase(f.base); err != nil {
		return err
	}
	if err := installer.Place(a, cmd, &o, &in.ssh); err != nil {
		return err
	}
	res, err := setup.Place(ctx, here, so, note, o)
	if err != nil || !res.OK {
		return installer.Installed(cmd, res, err,
			output.Text(a.Env.Stdout, installer.ResultText(res, true, output.PainterFor(a.Env.Stdout))))
	}
	if c := res.Console; c != nil && (c.User != "" || c.Wrong != "") { // a password is shown once
		return output.Text(a.Env.Stdout, installer.ConsoleText(c, output.PainterFor(a.Env.Stdout)))
	}
	return nil
}

// confirmScript asks as the source tool's script does, which takes its answer from anywhere.
func confirmScript(ctx context.Context, a *command.App, peer string) error {
	if err := output.Text(a.Env.Stdout, fmt.Sprintf(recoveryAsks, output.Clean(peer))); err != nil {
		return err
	}
	answer, err := a.Ask(ctx, "")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return command.NotConfirmed("type yes")
	}
	return output.Text(a.Env.Stdout, recoveryChecks)
}

// RecoveryScript is the source tool's ms_recovery.sh: PEER, root's password there, and root's
// password at the quorum host. dir is what is installed on this node. Passwords that are not given
// are asked for on a terminal, which does not show them. keys of hosts are taken without asking.
func RecoveryScript(a *command.App, cmd *cobra.Command, dir string, keys, args []string) (err error) {
	r := &pairRecovery{placeFlags: placeFlags{limit: copyWithin}, dir: dir,
		confirm: func(ctx context.Context, peer string) error { return confirmScript(ctx, a, peer) }}
	r.ssh.Opt.Port, r.ssh.Parallel, r.ssh.Trusted = 22, 20, keys
	if len(args) == 1 {
		if in, ok := a.Env.Stdin.(*os.File); !ok || !output.IsTerminal(in) {
			return command.Usage(cmd,
				errors.New("want PEER PASSWORD [ARBITER-PASSWORD]; only on a terminal passwords are asked for"))
		}
		r.ssh.Ask = true
	}
	secrets, err := os.MkdirTemp("", "holdfast-recover-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(secrets)) }()
	for i, to := range []*string{&r.ssh.File, &r.arbiterPassword} {
		if len(args) > i+1 {
			*to = fmt.Sprintf("%s/%d", secrets, i)
			if err := os.WriteFile(*to, []byte(args[i+1]+"\n"), 0o600); err != nil {
				return err
			}
		}
	}
	return recoverPair(a, cmd, r, args[0])
}
