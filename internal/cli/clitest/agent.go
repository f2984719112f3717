package clitest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

// Agent is an agent of a test: a real server over a cluster in memory.
type Agent struct {
	*servertest.Fake
	Upgrades *servertest.Upgrades
	Pair     *servertest.Pair
	Aid      *servertest.Aid
	Socket   string
	cancel   context.CancelFunc
	done     chan error
}

// StartAgent serves a fake on a socket until Stop.
func StartAgent(socket string) (*Agent, error) {
	a := &Agent{
		Fake:     servertest.New(servertest.Three(Time())),
		Upgrades: servertest.NewUpgrades(&servertest.Jobs{Now: Time(), Fails: []cluster.HostID{"node2"}}),
		Socket:   socket,
	}
	a.Pair, a.Aid = servertest.NewPair(a.Fake), &servertest.Aid{}
	a.Aid.SetLog(cluster.HostLog{Host: "node2", From: Time(), Next: 2, Lines: []cluster.LogLine{
		{Number: 1, Time: Time(), Level: "INFO", Text: "api is served", Fields: "at=10.0.0.12:7443"},
		{Number: 2, Text: "of no \x1b[31mform"}}}, nil)
	a.SetFence(nil, cluster.FenceAnswer{Device: "ipmi 10.0.9.1", Error: "no answer"},
		cluster.FenceAnswer{Device: "redfish 10.0.9.2", On: true})
	return a, a.Serve()
}

// NewAgent serves a fake on a short socket path until the test ends.
func NewAgent(t *testing.T) *Agent {
	t.Helper()
	dir := try.ShortDir(t)
	a, err := StartAgent(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Wait()
		if err := a.Stop(); err != nil {
			t.Errorf("the agent ended with: %v", err)
		}
	})
	return a
}

// Serve begins to serve and returns when the server answers.
func (a *Agent) Serve() error {
	s, err := server.New(a.Fake, server.Options{Socket: a.Socket, Log: slog.New(slog.DiscardHandler), Version: "1.2.4",
		Settings: filepath.Join(filepath.Dir(a.Socket), "agent.json"), Jobs: a.Upgrades, Upgrade: a.Upgrades,
		Certificates: a.Upgrades, Pair: a.Pair, Aid: a.Aid})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.done = cancel, make(chan error, 1)
	go func() { a.done <- s.Serve(ctx) }()
	c, err := api.Dial("unix:"+a.Socket, nil)
	if err != nil {
		return errors.Join(err, a.Stop())
	}
	defer c.Close()
	return Until(func() bool {
		_, err := c.Version(ctx)
		return err == nil
	})
}

// Stop ends it.
func (a *Agent) Stop() error {
	a.cancel()
	err := <-a.done
	a.done <- nil // a second stop has nothing to report
	return err
}

// Until asks again and again until ok, for as long as any test waits.
func Until(ok func() bool) error {
	const most = 10 * time.Minute
	for end := time.Now().Add(most); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("it did not come within %s", most)
		}
	}
	return nil
}

// Time is what the fake's status shows.
func Time() time.Time { return time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC) }

// Obey does at once what a cluster does with a request, in small steps.
func Obey(f *servertest.Fake, w cluster.Want) {
	switch {
	case w.Cancel != 0:
		f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.OwnerMod = cluster.Running, "", w.Cancel+1 })
		for i := range 600 { // it renews for as long as somebody looks
			f.Update(func(s *cluster.Status) { s.Hosts[2].Seq++ })
			if time.Sleep(50 * time.Millisecond); i > 4 && f.Watchers() == 0 {
				break
			}
		}
	case w.MoveTo != "":
		for percent := 0; percent <= 90; percent += 45 {
			f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.Percent = cluster.Migrating, w.MoveTo, percent })
		}
		f.Update(func(s *cluster.Status) {
			s.Owner.State, s.Owner.Host, s.Owner.To, s.Want.MoveTo = cluster.Running, w.MoveTo, "", ""
		})
	case !w.Run:
		f.Update(func(s *cluster.Status) { s.Owner.State = cluster.Stopping })
		f.Update(func(s *cluster.Status) { s.Owner.State = cluster.Released })
	default:
		f.Update(func(s *cluster.Status) {
			for i := range s.Hosts {
				s.Hosts[i].HandsOff = w.HandsOff
			}
			if !w.HandsOff && s.Owner.State != cluster.Running {
				s.Owner.State, s.Owner.Epoch = cluster.Running, s.Owner.Epoch.Next()
			}
		})
	}
}
