package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"holdfast/internal/cluster"
)

func TestAnInterruptedDemoLeavesNothingBehind(t *testing.T) {
	dir := shortDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dialled := make(chan struct{}, hostCount)
	dial := func(string) (Agent, error) {
		dialled <- struct{}{}
		return deafAgent{}, nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Options{Fault: None, JSON: true, Dir: dir, Out: new(bytes.Buffer), Exe: os.Args[0], Self: os.Args[0], Dial: dial})
		done <- err
	}()
	for range hostCount {
		<-dialled
	}
	var run string
	eventually(t, "the hosts have power", func() bool {
		run = runIn(dir)
		return len(must[[]markedProc](t)(newMarks(run).Scan())) == 2*hostCount // playAgent and its child
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if found := must[[]markedProc](t)(newMarks(run).Scan()); len(found) != 0 {
		t.Errorf("processes left: %+v", found)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(left) != 0 {
		t.Errorf("files left: %v", left)
	}
}

// deafAgent never answers.
type deafAgent struct{}

var errDeaf = errors.New("deaf")

func (deafAgent) Status(context.Context) (cluster.Status, error) { return cluster.Status{}, errDeaf }
func (deafAgent) Events(context.Context, int64, int) ([]cluster.Event, int64, error) {
	return nil, 0, errDeaf
}
func (deafAgent) SetUser(context.Context, cluster.UserChange) (cluster.User, string, error) {
	return cluster.User{}, "", errDeaf
}
func (deafAgent) CreateToken(context.Context, string, cluster.Role, int) (cluster.Token, string, error) {
	return cluster.Token{}, "", errDeaf
}
func (deafAgent) Close() {}

// runIn returns the id of the run whose directory is in dir, "" for none yet.
func runIn(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		return ""
	}
	id, err := os.ReadFile(dir + "/" + entries[0].Name() + "/" + runFile)
	if err != nil {
		return ""
	}
	return string(id)
}

// shortDir is a directory with a path that leaves room for sockets in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "hft-"))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
