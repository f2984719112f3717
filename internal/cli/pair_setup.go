package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/fail"
	"holdfast/internal/install"
	"holdfast/internal/pair/precheck"
	"holdfast/internal/pair/survey"
	"holdfast/internal/strictyaml"
)

// What a set-up writes on the node on which it runs, which the pair begins with.
const (
	setupAdmin       = install.ConfDir + "/database-admin" // passwords; the other node gets the same
	setupReplication = install.ConfDir + "/database-replication"
)

// confirmWord is what has to be typed before anything is changed, as in the source tool.
const confirmWord = "CONFIRM"

// vmsService is the service of the built-in group.
const vmsService = "tomcat.service"

// setupNote is in install.SetupFile: a set-up that was begun. Run again with the same values it goes on.
type setupNote struct {
	Begun    time.Time      `json:"begun"`
	VIP      string         `json:"vip"`
	Peer     string         `json:"peer"`
	Arbiters []string       `json:"arbiters"`
	Hosts    int            `json:"hosts"`
	VMs      int            `json:"vms"`
	Config   config.Cluster `json:"config"`
}

// pairSetup is a set-up under way.
type pairSetup struct {
	pairInput
	services []string
	group    string
	yes      string
	placeFlags
	stages stages
}

func (a *app) pairSetupCmd() *cobra.Command {
	var s pairSetup
	cmd := &cobra.Command{
		Use:   "setup --vip ADDRESS/LENGTH --peer IP --arbiter WHO",
		Short: "Make a pair of this node and another one",
		Long: `Makes a pair: runs all checks of "pair check", asks for the word CONFIRM,
installs Holdfast on both nodes and on the third host of --arbiter quorum:IP,
begins with the data of this node, and waits until the other node has all of
them and could take over. What the other node had in its database is moved
aside there. With --arbiter fence there is no third host: a node that loses the
other one goes on alone when the other's fence device has shown it off; with
--arbiter disk:/dev/DEVICE, which both can write, when the disk names it; with
--arbiter ping:IP,IP, best effort, when one of these addresses answers it.

The group is MariaDB, tomcat.service (or the units of --service) and the virtual
address. --group takes a file with Database and Group of a configuration.

A set-up that was interrupted goes on when it is run again with the same values.
--hosts and --vms are needed, too. On a terminal what is missing is asked for.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setupPair(cmd, &s) },
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&s.services, "service", nil, "`unit` of systemd that the pair runs; can be\ngiven more than once (tomcat.service)")
	f.StringVar(&s.group, "group", "", "`file` with Database and Group, as in Pair of\na configuration")
	f.StringVar(&s.yes, "yes", "", "the `word` CONFIRM: do not ask for it")
	s.add(cmd)
	return cmd
}

func (a *app) setupPair(cmd *cobra.Command, s *pairSetup) (err error) {
	if s.yes != "" && s.yes != confirmWord {
		return fail.Errorf(fail.Invalid, "--yes: value %q: want the word %s", clean(s.yes), confirmWord)
	}
	if err := a.form(cmd, s, install.SetupFile); err != nil {
		return err
	}
	o, err := s.options(cmd)
	if err == nil {
		err = oneArbiter(o.Arbiters...)
	}
	if err != nil {
		return err
	}
	s.stages = stages{a: a, begun: time.Now(), of: 4}
	free, err := lockSetup(install.SetupLock, "set-up")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, free()) }()
	if err := a.reachPair(cmd.Context(), &s.pairInput, &o); err != nil {
		return err
	}
	note, err := readNote(install.SetupFile)
	if err != nil {
		return err
	}
	if note == nil {
		if note, err = a.planPair(cmd, s, o); err != nil {
			return err
		}
	} else if note.VIP != s.vip || note.Peer != s.peer || !slices.Equal(note.Arbiters, s.arbiters) {
		return fail.Errorf(fail.Refused, "a set-up with --vip %s --peer %s --arbiter %s was begun here", clean(note.VIP), clean(note.Peer), clean(strings.Join(note.Arbiters, " --arbiter "))).
			With("go on with these; or take it back: holdfast uninstall")
	} else if err := writeText(a.env.Stderr, fmt.Sprintf("goes on with the set-up of %s\n", note.Begun.Local().Format(time.DateTime))); err != nil {
		return err
	}
	s.stages.n = 1 // also when they were made before
	err = a.carryOut(cmd, s, o, note)
	if cmd.Context().Err() != nil {
		return fail.Errorf(fail.Canceled, "pair setup: interrupted").With("run it again with the same values: it goes on")
	}
	return err
}

// oneArbiter checks that there is one arbiter.
func oneArbiter(all ...precheck.Arbiter) error {
	if len(all) != 1 {
		return fail.Errorf(fail.Invalid, "a pair has one arbiter: a third host, the nodes' fence devices, a disk that both can write, or addresses to ping").
			With("want --arbiter quorum:IP, --arbiter fence with --fencing, --arbiter disk:/dev/DEVICE, or --arbiter ping:IP,IP; fence devices go into --fencing with the others, too")
	}
	return nil
}

// readNote reads what a set-up has noted; nil: none was begun.
func readNote(path string) (*setupNote, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var n setupNote
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		return nil, fmt.Errorf("read the set-up that was begun: %w", err)
	}
	return &n, nil
}

// planPair checks, asks, and notes what will be done.
func (a *app) planPair(cmd *cobra.Command, s *pairSetup, o survey.Options) (*setupNote, error) {
	if err := s.stages.next("checks"); err != nil {
		return nil, err
	}
	in, err := survey.Ask(cmd.Context(), o)
	if err != nil {
		return nil, err
	}
	found := precheck.Judge(in)
	if err := writeText(a.env.Stdout, pairCheckText(found, painterFor(a.env.Stdout))); err != nil {
		return nil, err
	}
	if precheck.Worst(found) == precheck.Fail {
		return nil, fail.Errorf(fail.Failed, "a check has failed; nothing was changed")
	}
	cl, err := s.cluster(in)
	if err != nil {
		return nil, err
	}
	if err := a.confirmPair(cmd.Context(), s, cl); err != nil {
		return nil, err
	}
	note := &setupNote{Begun: time.Now().UTC(), VIP: s.vip, Peer: s.peer, Arbiters: s.arbiters, Hosts: s.hosts, VMs: s.vms, Config: cl}
	text, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return nil, err
	}
	return note, durable.WriteFile(install.SetupFile, append(text, '\n'), 0o600)
}

// cluster is the configuration of the pair, by the names that the hosts have.
func (s *pairSetup) cluster(in precheck.Input) (cl config.Cluster, err error) {
	hosts := []precheck.Node{in.Nodes[0], in.Nodes[1]}
	for _, x := range in.Arbiters {
		if x.Node != nil {
			hosts = append(hosts, *x.Node)
		}
	}
	p := config.Pair{}
	if s.group != "" {
		text, err := readSmall(s.group)
		if err != nil {
			return cl, fail.Errorf(fail.Invalid, "read the group: %w", err)
		}
		if d := strictyaml.Decode(text, &p); len(d.Faults) > 0 {
			return cl, fail.Errorf(fail.Invalid, "%s", clean(d.Faults[0].In(s.group)))
		}
		if len(s.services) > 0 {
			return cl, fail.Errorf(fail.Invalid, "--service: value %q: want none with --group", clean(s.services[0]))
		}
	} else {
		for _, u := range s.services {
			p.Group = append(p.Group, config.PairMember{Unit: u})
		}
		if len(s.services) == 0 {
			p.Group = []config.PairMember{{Unit: vmsService}}
		}
	}
	if p.Database == nil {
		p.Database = &config.PairDatabase{}
	}
	for _, x := range []struct {
		account    *config.PairAccount
		user, file string
	}{{&p.Database.Admin, "holdfast", setupAdmin}, {&p.Database.Replication, "holdfast-replication", setupReplication}} {
		if *x.account == (config.PairAccount{}) {
			*x.account = config.PairAccount{User: x.user, Credential: "file:" + x.file}
		}
	}
	switch x := in.Arbiters[0]; x.Kind {
	case precheck.Fence:
		p.Arbiter = &config.PairArbiter{Fence: true}
	case precheck.DiskArbiter:
		p.Arbiter = &config.PairArbiter{Disk: x.Device}
	case precheck.Ping:
		p.Arbiter = &config.PairArbiter{Ping: x.Addrs}
	}
	p.Nodes = []string{hosts[0].Facts.Name, hosts[1].Facts.Name}
	p.Group = append(p.Group, config.PairMember{Name: "webip", VIP: s.vip})
	cl = config.Cluster{Type: config.PairConf, Pair: &p}
	for _, h := range hosts {
		cl.Node = append(cl.Node, h.Addr+" "+h.Facts.Name)
	}
	if s.fencing != "" {
		if cl.Fencing, err = fenceDevices(s.fencing); err != nil {
			return cl, err
		}
	}
	if _, faults, _ := config.Parse("the set-up's configuration", cl.JSON(), config.Options{}); len(faults) > 0 {
		return cl, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	return cl, nil
}

// confirmPair says what will be done, and asks for the word.
func (a *app) confirmPair(ctx context.Context, s *pairSetup, cl config.Cluster) error {
	p := cl.Pair.Full()
	text := fmt.Sprintf("The pair begins with the data of this node, %s: %s\n", clean(p.Nodes[0]), clean(p.Database.Datadir)) +
		fmt.Sprintf("The data of %s are moved aside there, and replaced by a copy: %s\n", clean(p.Nodes[1]), clean(p.Database.Datadir))
	if p.Arbiter != nil && p.Arbiter.Ping != nil {
		text += "Best effort: by pings alone a node can not tell a dead peer from a cut cable between two nodes that live.\n" +
			"Then both may serve. When they meet, one keeps its data; what the other one has written meanwhile is saved there, and given up.\n"
	}
	if err := writeText(a.env.Stderr, text); err != nil {
		return err
	}
	if s.yes == confirmWord {
		return nil
	}
	in, ok := a.env.Stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return fail.Errorf(fail.Refused, "nobody can be asked without a terminal; nothing was changed").With("give --yes " + confirmWord)
	}
	typed, err := a.typed(ctx, "Type "+confirmWord+" to go on: ")
	if err != nil {
		return err
	}
	if typed != confirmWord {
		return fail.Errorf(fail.Refused, "it was not confirmed; nothing was changed")
	}
	return nil
}

// carryOut does what was noted. Each part can be done again.
func (a *app) carryOut(cmd *cobra.Command, s *pairSetup, so survey.Options, note *setupNote) error {
	if err := s.stages.next("installation"); err != nil {
		return err
	}
	if err := a.placePair(cmd, string(note.Config.Nodes()[0].Host), &s.pairInput, s.placeFlags, so, note); err != nil {
		return err
	}
	c, err := a.dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	wait, cancel := context.WithTimeout(cmd.Context(), s.limit)
	defer cancel()
	err = s.stages.next("the pair begins with the data of this node")
	if err == nil {
		err = a.beginPair(wait, c)
	}
	if err == nil {
		err = s.stages.next("the copy of all data")
	}
	if err != nil {
		return err
	}
	p, err := a.untilPair(wait, c, "setup", whyNotHealthy)
	if err != nil {
		return err
	}
	if err := errors.Join(writeText(a.env.Stderr, copiedText(p)), os.Remove(install.SetupFile)); err != nil {
		return err
	}
	return writeText(a.env.Stdout, viewPair(p).text(painterFor(a.env.Stdout)))
}

// beginPair begins with this node's data, unless that was done. The agent may need a while.
func (a *app) beginPair(ctx context.Context, c *api.Client) error {
	_, err := a.untilPair(ctx, c, "setup", func(p cluster.PairStatus) string {
		if p.Set {
			return ""
		}
		if err := c.BeginPair(ctx); err != nil {
			return err.Error()
		}
		return "the pair to begin"
	})
	return err
}

// shareSecrets makes the passwords of the database's accounts, and gives them to the other node.
func (a *app) shareSecrets(ctx context.Context, so survey.Options, note *setupNote) error {
	d := note.Config.Pair.Database
	var files []install.File
	for _, account := range []config.PairAccount{d.Admin, d.Replication} {
		path := account.File()
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			text = []byte(rand.Text() + "\n")
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = durable.WriteFile(path, text, 0o600)
			}
		}
		if err != nil {
			return fmt.Errorf("the password of the database account %s: %w", account.User, err)
		}
		files = append(files, install.File{Path: path, Mode: 0o600, Data: text})
	}
	c, err := so.Connect(ctx, note.Peer, false)
	if err != nil {
		return err
	}
	for _, r := range []install.Request{{Do: install.DoPlace, Files: files}, {Do: install.DoKeep}} {
		if err == nil {
			_, err = c.Ask(ctx, r)
		}
	}
	return errors.Join(err, c.Close())
}
