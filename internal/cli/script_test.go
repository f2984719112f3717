package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/cli/zsha"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

func TestMain(m *testing.M) {
	command := func() {
		os.Exit(Main(os.Args[1:], command.Env{
			Stdout: os.Stdout, Stderr: os.Stderr, Stdin: os.Stdin, Version: "1.2.3", Extra: extra(),
			Commit: "c7dc57a012f5bae01eafaea7455bf5784007c172", Built: clitest.Time(), Probe: fakeProbe, Pin: fakePin,
			Unpin: fakeUnpin, Features: fakeFeatures, CloudFeatures: fakeCloudFeatures, Collect: fakeCollect, HostPorts: fakeHostPorts,
			HostFiles: func(*cobra.Command, bool) ([]install.File, error) { return nil, nil },
			DRBD:      fakeDRBD,
		}))
	}
	testscript.Main(m, map[string]func(){"holdfast": command, zsha.Name: command, "crm": command,
		"ms_resource_stop.sh": command, "ms_resource_start.sh": command, "ms_recovery.sh": command,
		"ms_rm_sync_partition.sh": command, "drbd-overview": command})
}

// fakeDRBD has the devices of a file of the script, none without it.
func fakeDRBD(context.Context) ([]string, error) {
	text, err := os.ReadFile("devices.txt")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// extra are commands as the binary gives them to New.
func extra() []*cobra.Command {
	return []*cobra.Command{{
		Use:   "extra KIND",
		Short: "Fail in one way or another",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] == "plain" {
				return errors.New("a plain error")
			}
			if args[0] == "bare" {
				return context.DeadlineExceeded
			}
			return fmt.Errorf("outer: %w", fail.Errorf(fail.Kind(args[0]), "a typed error").With("do something"))
		},
	}}
}

// failMove is a migration that comes back.
func failMove(f *servertest.Fake, w cluster.Want) {
	f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.Want.MoveTo = cluster.Migrating, w.MoveTo, "" })
	f.Log(cluster.Event{Kind: cluster.EvMigrateEnd, Host: "node1", To: w.MoveTo, Detail: "the target has no memory left"})
	f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To = cluster.Running, "" })
}

// failCancel is a cancel that comes when the guest has left.
func failCancel(f *servertest.Fake, w cluster.Want) {
	f.Update(func(s *cluster.Status) {
		s.Owner.State, s.Owner.Host, s.OwnerMod = cluster.Settling, s.Owner.To, w.Cancel+1
	})
	f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.OwnerMod = cluster.Running, "", w.Cancel+2 })
}

// control is the script command "agent": it changes what the fake agent says.
//
//	agent status FILE    JSON laid over the status of three well hosts
//	agent config FILE    the configuration in force
//	agent events FILE    JSON lines appended to the event log
//	agent obeys|idles|fails-moves|fails-cancels
//	agent store-away     requests and events fail
//	agent pair [FILE]    JSON laid over the status of a pair that is well; unset: it is not set up
//	agent upgrade [FILE] JSON of how an upgrade stands; without: as it goes
//	agent report FILE    JSON of what checks find
//	agent hides-reports  what the hosts report is not known; tells-reports: again
//	agent fails STEP     a step of an upgrade fails once
//	agent stop|start
func control(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: agent WHAT [FILE]")
	}
	a := ts.Value(agentKey{}).(*clitest.Agent)
	switch args[0] {
	case "status":
		well := servertest.Three(clitest.Time())
		s := well
		s.Hosts = nil // those of the file would be laid over these one by one
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &s))
		if s.Hosts == nil {
			s.Hosts = well.Hosts
		}
		a.Update(func(now *cluster.Status) { *now = s })
	case "store":
		var s cluster.StoreStatus
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &s))
		a.SetStore(s)
	case "config":
		a.SetConfig(ts.ReadFile(args[1]), "", time.Time{})
	case "events":
		for line := range strings.Lines(ts.ReadFile(args[1])) {
			var e cluster.Event
			ts.Check(json.Unmarshal([]byte(line), &e))
			a.Log(e)
		}
	case "upgrade":
		if len(args) == 1 {
			a.Upgrades.Show(nil)
			return
		}
		var u request.Standing
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &u))
		a.Upgrades.Show(&u)
	case "pair":
		switch {
		case len(args) == 1:
			a.Pair.Lay(nil)
		case args[1] == "unset":
			a.Pair.Unset()
		default:
			text := ts.ReadFile(args[1])
			a.Pair.Lay(func(p *cluster.PairStatus) { ts.Check(json.Unmarshal([]byte(text), p)) })
		}
	case "report":
		var r check.Report
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &r))
		a.Upgrades.SetReport(r)
	case "fails":
		a.Upgrades.FailStep(args[1])
	case "obeys":
		a.Obey(clitest.Obey)
	case "moves-vm1":
		a.Upgrades.SetMoved(cluster.HostID(args[1]))
	case "loses":
		a.Upgrades.Lose(cluster.HostID(args[1]))
	case "hides-reports":
		a.Upgrades.Unread(fmt.Errorf("list the hosts: %w", store.ErrRetry))
	case "tells-reports":
		a.Upgrades.Unread(nil)
	case "idles":
		a.Obey(nil)
	case "fails-cancels":
		a.Obey(failCancel)
	case "fails-moves":
		a.Obey(failMove)
	case "store-away":
		a.Fail(fmt.Errorf("write the want record: %w", store.ErrRetry))
	case "stop":
		ts.Check(a.Stop())
	case "start":
		ts.Check(a.Serve())
	default:
		ts.Fatalf("agent %s: not known", args[0])
	}
}

type agentKey struct{}

// exits is the script command "exits CODE COMMAND...": it runs a command that
// must end with the code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("%v ended with %s, want %s", args[1:], code, args[0])
	}
}

// narrow is the script command "narrow FILE": no line has more than 80 columns.
func narrow(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > output.Width {
			ts.Fatalf("%d columns: %s", n, line)
		}
	}
}

// underDetector are the scripts of commands that do several things at once, or watch a server
// that does. Under the race detector a start of the program takes most of a second of processor
// time, and scripts have hundreds, most of which have one goroutine.
var underDetector = []string{"events", "jobs", "migrate", "status", "transition_config", "transition_sites"}

// inShort are the scripts of short runs.
var inShort = []string{"collect", "config", "configure", "main", "status", "upgrade_status"}

// TestScripts runs each script of testdata; under the race detector those of underDetector, in short runs some.
func TestScripts(t *testing.T) {
	dir, files, only := "testdata", []string(nil), []string(nil)
	switch {
	case try.Race:
		only = underDetector
	case testing.Short():
		only = inShort
	}
	if only != nil {
		dir = ""
		for _, name := range only {
			files = append(files, filepath.Join("testdata", name+".txtar"))
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		Files:               files,
		UpdateScripts:       *clitest.Update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent": control, "exits": exits, "narrow": narrow,
		},
		Setup: func(env *testscript.Env) error {
			socket := filepath.Join(env.WorkDir, "s")
			a, err := clitest.StartAgent(socket)
			if err != nil {
				return err
			}
			a.Obey(clitest.Obey)
			env.Values[agentKey{}] = a
			env.Setenv("HOLDFAST_SOCKET", socket)
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // a race build sleeps 1 s at each exit otherwise
			env.Setenv("GOGC", "400")                 // none lives long enough to be worth a collection
			env.Defer(func() {
				a.Wait()
				if err := a.Stop(); err != nil {
					t.Errorf("the agent of a script ended with: %v", err)
				}
			})
			return nil
		},
	})
}

// TestHelp compares the help of every command with one golden.
func TestHelp(t *testing.T) {
	var b bytes.Buffer
	root := New(command.Env{Stdout: &b, Stderr: &b, Stdin: strings.NewReader(""), Version: "1.2.3"})
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		fmt.Fprintf(&b, "$ holdfast %s\n", strings.Join(append(slices.Clone(path), "--help"), " "))
		one := New(command.Env{Stdout: &b, Stderr: &b, Stdin: strings.NewReader(""), Version: "1.2.3"})
		one.SetArgs(append(slices.Clone(path), "--help"))
		if err := one.Execute(); err != nil {
			t.Errorf("help of %q: %v", path, err)
		}
		b.WriteByte('\n')
		for _, sub := range c.Commands() {
			walk(sub, append(slices.Clone(path), sub.Name()))
		}
	}
	walk(root, nil)
	golden := filepath.Join("testdata", "help.golden")
	if *clitest.Update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("the help texts differ from %s; run go test ./internal/cli -update and look at the difference:\n%s", golden, b.Bytes())
	}
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(line)) - 1; n > output.Width {
			t.Errorf("help line with %d columns: %s", n, line)
		}
	}
}
