package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

// retirable is a host named node1 with settings, and maybe an agent that answers.
func retirable(t *testing.T, device string) (file, run string) {
	t.Helper()
	run = try.ShortDir(t)
	file = filepath.Join(run, "agent.json")
	text, err := json.Marshal(config.Node{
		Host: "node1", Addr: "127.0.0.1", Cluster: "c", DataDir: filepath.Join(run, "data"), RunDir: run, ConfigFile: "/none",
		Store: config.Store{Endpoints: []string{"http://127.0.0.1:1"}, Member: &config.Member{
			ListenPeer: "http://127.0.0.1:2", PeerURL: "http://127.0.0.1:2", ListenClient: "http://127.0.0.1:1", ClientURL: "http://127.0.0.1:1",
			Initial: map[string]string{"node1": "http://127.0.0.1:2"},
		}},
		Watchdog: config.Watchdog{Device: device},
	})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file, run
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func refused(err error, kind fail.Kind, want string) bool {
	var e *fail.Error
	return errors.As(err, &e) && e.Kind == kind && strings.Contains(e.Message, want) && e.Remedy != ""
}

func TestMayRetire(t *testing.T) {
	file, run := retirable(t, config.NoWatchdog)
	if err := MayRetire(t.Context(), file); err != nil {
		t.Errorf("no agent runs: %v", err)
	}
	if err := MayRetire(t.Context(), filepath.Join(run, "none")); err != nil {
		t.Errorf("no settings: %v", err)
	}
	bad := filepath.Join(run, "bad")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MayRetire(t.Context(), bad); !refused(err, fail.Invalid, "host") {
		t.Errorf("bad settings: %v", err)
	}
	for name, c := range map[string]struct {
		owner   cluster.Owner
		members string // + reachable, - not, ? without a vote
		want    string // "" may be retired
	}{
		"runs here":          {cluster.Owner{State: cluster.Running, Host: "node1"}, "+++", "running on this host"},
		"assigned to here":   {cluster.Owner{State: cluster.Assigned, Host: "node1"}, "+++", "assigned on this host"},
		"comes here":         {cluster.Owner{State: cluster.Migrating, Host: "node2", To: "node1"}, "+++", "migrating on this host"},
		"was here":           {cluster.Owner{State: cluster.Released, Host: "node1"}, "+++", ""},
		"nowhere yet":        {cluster.Owner{}, "+++", ""},
		"elsewhere":          {cluster.Owner{State: cluster.Running, Host: "node2"}, "+++", ""},
		"a member is away":   {cluster.Owner{State: cluster.Running, Host: "node2"}, "+-+", "1 of 3 members"},
		"the only member":    {cluster.Owner{}, "+", "0 of 1 members"},
		"a learner is no":    {cluster.Owner{}, "++?", "1 of 2 members"},
		"enough of five":     {cluster.Owner{}, "++-++", ""},
		"not enough of five": {cluster.Owner{}, "++-+-", "2 of 5 members"},
	} {
		t.Run(name, func(t *testing.T) {
			file, run := retirable(t, config.NoWatchdog)
			s := servertest.Three(time.Now())
			s.Owner = c.owner
			fake := servertest.New(s)
			var store cluster.StoreStatus
			for i, m := range c.members {
				store.Members = append(store.Members, cluster.StoreMember{Name: "node" + string(rune('1'+i)), Reachable: m != '-', Learner: m == '?'})
			}
			fake.SetStore(store)
			srv, err := server.New(fake, server.Options{Socket: filepath.Join(run, "holdfast.sock"), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			background(t, srv.Serve)
			client, err := api.Dial("unix:"+filepath.Join(run, "holdfast.sock"), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			try.Until(t, "the agent to answer", func() bool {
				_, err := client.Status(t.Context())
				return err == nil
			})
			err = MayRetire(t.Context(), file)
			if c.want == "" && err != nil || c.want != "" && !refused(err, fail.Refused, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestRetireEndsWhatOutlivesTheAgent, but not while the agent runs or the watchdog is armed.
func TestRetireEndsWhatOutlivesTheAgent(t *testing.T) {
	dog := filepath.Join(try.ShortDir(t), "wd")
	ready := make(chan struct{})
	background(t, func(ctx context.Context) error {
		return watchdog.Simulate(ctx, watchdog.SimConfig{Socket: dog, OnFire: func() { t.Error("fired") }, Ready: func() { close(ready) }})
	})
	<-ready
	file, run := retirable(t, "unix:"+dog)
	boot := filepath.Join(run, "boot")
	if err := os.WriteFile(boot, []byte("b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		return watchdog.Run(ctx, watchdog.HolderConfig{Device: "unix:" + dog, Timeout: time.Minute,
			Socket: filepath.Join(run, "watchdog.sock"), BootIDFile: boot, Log: slog.New(slog.DiscardHandler)})
	})
	client := watchdog.Dial(filepath.Join(run, "watchdog.sock"))
	try.Until(t, "the holder to answer", func() bool {
		_, err := client.Status(t.Context())
		return err == nil
	})
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(run, storeChild)
	keep, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- supervise.Run(keep, supervise.Spec{Name: storeChild, Exe: sleep, Args: []string{"1000"}, Dir: dir,
			Log: slog.New(slog.DiscardHandler)})
	}()
	pid := 0
	try.Until(t, "the child to run", func() bool {
		s, err := supervise.Read(dir, storeChild)
		pid = s.PID
		return err == nil && pid != 0
	})

	if _, err := Retire(t.Context(), file, false); !refused(err, fail.Refused, "the agent runs") {
		t.Errorf("with a keeper: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := client.Arm(t.Context(), clock.New().Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := Retire(t.Context(), file, false); !refused(err, fail.Refused, "watchdog of this host is armed") {
		t.Errorf("armed: %v", err)
	}
	if err := MayRetire(t.Context(), file); !refused(err, fail.Refused, "watchdog of this host is armed") {
		t.Errorf("armed: %v", err)
	}
	if err := AwaitDisarmed(t.Context(), file, 0); !refused(err, fail.Refused, "watchdog of this host is armed") {
		t.Errorf("armed: %v", err)
	}
	awaited := make(chan error, 1)
	go func() { awaited <- AwaitDisarmed(t.Context(), file, time.Hour) }()
	if s, err := supervise.Read(dir, storeChild); err != nil || s.PID != pid {
		t.Errorf("the child %d is %d now, %v", pid, s.PID, err)
	}
	if err := client.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-awaited; err != nil {
		t.Errorf("disarmed: %v", err)
	}
	ended, err := Retire(t.Context(), file, false)
	if err != nil || len(ended) != 1 || !strings.HasPrefix(ended[0], "the member of the store, process ") {
		t.Errorf("retired: %q, %v", ended, err)
	}
	if s, err := supervise.Read(dir, storeChild); err != nil || s.PID != 0 {
		t.Errorf("the child lives: %+v, %v", s, err)
	}
	if ended, err := Retire(t.Context(), file, false); err != nil || len(ended) != 0 {
		t.Errorf("again: %q, %v", ended, err)
	}
}
