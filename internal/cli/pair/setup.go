package pair

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/pair/precheck"
)

// What a set-up writes on the node on which it runs, which the pair begins with.
const (
	setupAdmin       = install.ConfDir + "/database-admin" // passwords; the other node gets the same
	setupReplication = install.ConfDir + "/database-replication"
	setupDevice      = install.ConfDir + "/device-secret"
)

// setupMount is where the file system of --device is mounted.
const setupMount = "/srv/pair"

// groupFile is what --group takes of a configuration: of Pair, and of the whole.
type groupFile struct {
	Device      *config.PairDevice   `json:"Device"`
	Database    *config.PairDatabase `json:"Database"`
	Group       []config.PairMember  `json:"Group"`
	SplitBrain  string               `json:"SplitBrain"`
	Patience    config.Duration      `json:"Patience"`
	HangTimeout config.Duration      `json:"HangTimeout"`
	Timings     config.Timings       `json:"Timings"`
}

// confirmWord is what has to be typed before anything is changed, as in the source tool.
const confirmWord = "CONFIRM"

// vmsService is the service of the built-in group.
const vmsService = "tomcat.service"

// pairSetup is a set-up under way.
type pairSetup struct {
	pairInput
	yes string
	placeFlags
	stages stages
}

func setupCmd(a *command.App) *cobra.Command {
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
address. --group takes a file with Database, Group, Device, SplitBrain, Patience
and HangTimeout, as in Pair of a configuration, and with its Timings.

With --device /dev/DISK the pair begins with an empty database instead, on a
DRBD device that lies on this empty disk of both nodes, mounted at /srv/pair.

With --second-path there are two networks between the nodes: a cut of one of
them does not part the pair. Data are copied over the first one only.

A set-up that was interrupted goes on when it is run again with the same values.
--hosts and --vms are needed, too. On a terminal what is missing is asked for.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return setupPair(a, cmd, &s) },
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&s.yes, "yes", "", "the `word` CONFIRM: do not ask for it")
	s.add(cmd)
	s.waits(cmd)
	return cmd
}

func setupPair(a *command.App, cmd *cobra.Command, s *pairSetup) (err error) {
	if s.yes != "" && s.yes != confirmWord {
		return fail.Errorf(fail.Invalid, "--yes: value %q: want the word %s", output.Clean(s.yes), confirmWord)
	}
	if err := form(a, cmd, s, install.SetupFile); err != nil {
		return err
	}
	o, err := s.options(cmd)
	var g groupFile
	var v setupValues
	if err == nil {
		g, v, err = s.planned(s.placeFlags, &o)
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
	if err := reachPair(cmd.Context(), a, &s.pairInput, &o); err != nil {
		return err
	}
	note, err := readNote(install.SetupFile)
	if err != nil {
		return err
	}
	if note == nil {
		note, err = planPair(a, cmd, s, o, g, v)
	} else if err = note.same(v); err == nil {
		err = output.Text(a.Env.Stderr,
			fmt.Sprintf("goes on with the set-up of %s\n", note.Begun.Local().Format(time.DateTime)))
	}
	if err != nil {
		return err
	}
	s.stages.n = 1 // also when they were made before
	err = carryOut(a, cmd, s, o, note)
	if cmd.Context().Err() != nil {
		return fail.Errorf(fail.Canceled, "pair setup: interrupted").With("run it again with the same values: it goes on")
	}
	return err
}

// oneArbiter checks that there is one arbiter.
func oneArbiter(all ...precheck.Arbiter) error {
	if len(all) != 1 {
		return fail.Errorf(fail.Invalid, "a pair has one arbiter: a third host, the nodes' fence devices, a disk "+
			"that both can write, or addresses to ping").
			With("want --arbiter quorum:IP, --arbiter fence with --fencing, --arbiter disk:/dev/DEVICE, or --arbiter " +
				"ping:IP,IP; fence devices go into --fencing with the others, too")
	}
	return nil
}

// planPair checks, asks, and notes what will be done.
func planPair(a *command.App, cmd *cobra.Command, s *pairSetup, o survey.Options, g groupFile,
	v setupValues) (*setupNote, error) {
	if err := s.stages.next("checks"); err != nil {
		return nil, err
	}
	in, err := survey.Ask(cmd.Context(), o)
	if err != nil {
		return nil, err
	}
	found := precheck.Judge(in)
	if err := output.Text(a.Env.Stdout, pairCheckText(found, output.PainterFor(a.Env.Stdout))); err != nil {
		return nil, err
	}
	if precheck.Worst(found) == precheck.Fail {
		kind := fail.Failed
		if precheck.Busy(found) {
			kind = fail.Refused // as by the lock of this node
		}
		return nil, fail.Errorf(kind, "a check has failed; nothing was changed")
	}
	cl, err := s.cluster(in, g)
	if err != nil {
		return nil, err
	}
	if err := confirmPair(cmd.Context(), a, s, cl); err != nil {
		return nil, err
	}
	note := &setupNote{Begun: time.Now().UTC(), setupValues: v, Config: cl}
	text, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return nil, err
	}
	return note, durable.WriteFile(install.SetupFile, append(text, '\n'), 0o600)
}

// readGroup reads the file of --group, or makes what stands in for it.
func (s *pairInput) readGroup() (g groupFile, err error) {
	if s.group == "" {
		for _, u := range s.services {
			g.Group = append(g.Group, config.PairMember{Unit: u})
		}
		if len(s.services) == 0 {
			g.Group = []config.PairMember{{Unit: vmsService}}
		}
		return g, nil
	}
	if len(s.services) > 0 {
		return g, fail.Errorf(fail.Invalid, "--service: value %q: want none with --group", output.Clean(s.services[0]))
	}
	text, err := command.ReadSmall(s.group)
	if err != nil {
		return g, fail.Errorf(fail.Invalid, "read the group: %w", err)
	}
	if d := strictyaml.Decode(text, &g); len(d.Faults) > 0 {
		return g, fail.Errorf(fail.Invalid, "%s", output.Clean(d.Faults[0].In(s.group)))
	}
	return g, nil
}

// cluster is the configuration of the pair, by the names that the hosts have.
func (s *pairInput) cluster(in precheck.Input, g groupFile) (cl config.Cluster, err error) {
	hosts := []precheck.Node{in.Nodes[0], in.Nodes[1]}
	for _, x := range in.Arbiters {
		if x.Node != nil {
			hosts = append(hosts, *x.Node)
		}
	}
	p := config.Pair{Device: g.Device, Database: g.Database, Group: g.Group, SplitBrain: g.SplitBrain,
		Patience: g.Patience, HangTimeout: g.HangTimeout}
	if p.Database == nil {
		p.Database = &config.PairDatabase{}
	}
	if err := s.onDevice(&p); err != nil {
		return cl, err
	}
	for _, x := range []struct {
		account    *config.PairAccount
		user, file string
	}{{&p.Database.Admin, "holdfast", setupAdmin}, {&p.Database.Replication, "holdfast-replication", setupReplication}} {
		if p.Device == nil && *x.account == (config.PairAccount{}) {
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
	p.Nodes, p.SecondPath = []string{hosts[0].Facts.Name, hosts[1].Facts.Name}, in.Second
	p.Group = append(p.Group, config.PairMember{Name: "webip", VIP: s.vip})
	cl = config.Cluster{Type: config.PairConf, Pair: &p, TimingConf: g.Timings}
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

// onDevice fills in what --device says of the pair.
func (s *pairInput) onDevice(p *config.Pair) error {
	switch {
	case s.device == "" && p.Device == nil:
		return nil
	case s.device == "":
		return fail.Errorf(fail.Invalid, "--device is missing: the file of --group has Device")
	case p.Device == nil:
		p.Device = &config.PairDevice{}
	case p.Device.Disk != "" && p.Device.Disk != s.device:
		return fail.Errorf(fail.Invalid, "--device: value %q: want %q, as the file of --group has it, or take "+
			"Disk out there", output.Clean(s.device), output.Clean(p.Device.Disk))
	}
	d := *p.Device
	d.Disk, d.Mount, d.Credential = s.device, cmp.Or(d.Mount, setupMount), cmp.Or(d.Credential, "file:"+setupDevice)
	p.Device = &d
	return nil
}

// confirmPair says what will be done, and asks for the word.
func confirmPair(ctx context.Context, a *command.App, s *pairSetup, cl config.Cluster) error {
	p := cl.Pair.Full()
	text := fmt.Sprintf("The pair begins with the data of this node, %s: %s\n", output.Clean(p.Nodes[0]),
		output.Clean(p.Database.Datadir)) +
		fmt.Sprintf("The data of %s are moved aside there, and replaced by a copy: %s\n", output.Clean(p.Nodes[1]),
			output.Clean(p.Database.Datadir))
	if d := p.Device; d != nil {
		text = fmt.Sprintf("The pair begins with an empty database, on DRBD on %s of both nodes, mounted at %s.\n",
			output.Clean(d.Disk), output.Clean(d.Mount))
		text += "What a database of theirs has had is not in it, and stays where it is.\n"
	}
	if p.Arbiter != nil && p.Arbiter.Ping != nil {
		text += "Best effort: by pings alone a node can not tell a dead peer from a cut cable between two nodes that live.\n" +
			"Then both may serve. When they meet, one keeps its data; what the other one has written meanwhile is saved there, and given up.\n"
	}
	if err := output.Text(a.Env.Stderr, text); err != nil {
		return err
	}
	if s.yes == confirmWord {
		return nil
	}
	in, ok := a.Env.Stdin.(*os.File)
	if !ok || !output.IsTerminal(in) {
		return fail.Errorf(fail.Refused, "nobody can be asked without a terminal; nothing was changed").With("give --yes " + confirmWord)
	}
	typed, err := a.Ask(ctx, "Type "+confirmWord+" to go on: ")
	if err != nil {
		return err
	}
	if typed != confirmWord {
		return command.NotConfirmed("type " + confirmWord + ", or give --yes " + confirmWord)
	}
	return nil
}

// carryOut does what was noted. Each part can be done again.
func carryOut(a *command.App, cmd *cobra.Command, s *pairSetup, so survey.Options, note *setupNote) error {
	if err := s.stages.next("installation"); err != nil {
		return err
	}
	if err := placePair(a, cmd, string(note.Config.Nodes()[0].Host), &s.pairInput, s.placeFlags, so, note); err != nil {
		return err
	}
	c, err := a.Dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	wait, cancel := context.WithTimeout(cmd.Context(), s.limit)
	defer cancel()
	begins := "the pair begins with the data of this node"
	if note.Config.Pair.Device != nil {
		begins = "the pair begins with an empty database"
	}
	err = s.stages.next(begins)
	if err == nil {
		err = beginPair(wait, a, c)
	}
	if err == nil {
		err = s.stages.next("the copy of all data")
	}
	if err != nil {
		return err
	}
	p, err := untilPair(wait, a, c, "setup", whyNotHealthy)
	if err != nil {
		return err
	}
	if err := errors.Join(output.Text(a.Env.Stderr, copiedText(p)), os.Remove(install.SetupFile)); err != nil {
		return err
	}
	return output.Text(a.Env.Stdout, ViewOf(p).text(output.PainterFor(a.Env.Stdout)))
}

// beginPair begins with this node's data, unless that was done. The agent may need a while.
func beginPair(ctx context.Context, a *command.App, c *api.Client) error {
	_, err := untilPair(ctx, a, c, "setup", func(p cluster.PairStatus) string {
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

// secretsOf are the files with what both nodes keep secret, and what it is.
func secretsOf(p config.Pair) map[string]string {
	if d := p.Device; d != nil {
		if d.Credential == "" {
			return nil
		}
		return map[string]string{d.SecretFile(): "the secret of the DRBD device"}
	}
	out := map[string]string{}
	for _, a := range []config.PairAccount{p.Database.Admin, p.Database.Replication} {
		out[a.File()] = "the password of the database account " + a.User
	}
	return out
}

// shareSecrets makes the secrets that are missing, and gives them to the other node.
func shareSecrets(ctx context.Context, a *command.App, so survey.Options, note *setupNote) error {
	var shared []install.File
	all := secretsOf(*note.Config.Pair)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			text = []byte(rand.Text() + "\n")
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = durable.WriteFile(path, text, 0o600)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", all[path], err)
		}
		shared = append(shared, install.File{Path: path, Mode: 0o600, Data: text})
	}
	if len(shared) == 0 {
		return nil
	}
	c, err := so.Connect(ctx, note.Peer, false)
	if err != nil {
		return notReached(note.Peer, err)
	}
	for _, r := range []install.Request{{Do: install.DoPlace, Files: shared}, {Do: install.DoKeep}} {
		if err == nil {
			_, err = c.Ask(ctx, r)
		}
	}
	return errors.Join(err, c.Close())
}
