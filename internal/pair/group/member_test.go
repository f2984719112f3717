package group

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/pair"
	"holdfast/testbed/try"
)

// program is a service that is a file: "up" in it runs, "ill" has failed.
func program(t *testing.T) (*Program, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "service")
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script, "sh", file} }
	return &Program{
		Name: "web", Restarts: 2,
		StartCmd: sh(`echo up > "$1"`), StopCmd: sh(`[ "$(cat "$1")" != ill ] && rm "$1"`), KillCmd: sh(`rm -f "$1"`),
		Status: sh(`[ -e "$1" ] || exit 3; [ "$(cat "$1")" = up ] || { echo not well; exit 1; }`),
	}, file
}

func TestAProgramIsAMember(t *testing.T) {
	p, file := program(t)
	ctx := try.Context(t)
	want := func(s pair.State) {
		t.Helper()
		if got := p.State(ctx); got != s {
			t.Errorf("state %d, want %d", got, s)
		}
	}
	if s := p.Spec(); s != (pair.Member{Name: "web", Restarts: 2}) {
		t.Errorf("%+v", s)
	}
	want(pair.Down)
	try.Must(t, p.Start(ctx))
	want(pair.Up)
	try.Must(t, p.Stop(ctx, false))
	want(pair.Down)
	try.Must(t, p.Start(ctx))
	try.Must(t, os.WriteFile(file, []byte("ill"), 0o600))
	want(pair.Failed)
	if err := p.Stop(ctx, false); err == nil {
		t.Error("a stop that failed is told as done")
	}
	try.Must(t, p.Stop(ctx, true))
	want(pair.Down)
}

// TestAProgramThatLies says that it has started, and is not there.
func TestAProgramThatLies(t *testing.T) {
	p, _ := program(t)
	p.StartCmd = []string{"/bin/true"}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := p.Start(ctx); err == nil || !strings.Contains(err.Error(), "its status does not say that it runs") {
		t.Errorf("%v", err)
	}
	p.Status = []string{"/nonexistent"}
	if s := p.State(t.Context()); s != pair.StateUnknown {
		t.Errorf("a status that can not be asked is %d", s)
	}
	hangs := &Program{Name: "x", Status: []string{"/bin/sleep", "60"}}
	hctx, hcancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer hcancel()
	if s := hangs.State(hctx); s != pair.StateUnknown {
		t.Errorf("a status that hangs is %d", s)
	}
}
