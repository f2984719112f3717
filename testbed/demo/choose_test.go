package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var (
	able    = facts{root: true, admin: true, apt: true}
	bare    = facts{root: true, admin: true, apt: true, missing: []string{"virsh (apt-get install libvirt-clients)"}}
	errTest = errors.New("broken")
)

func TestTheBestThatTheMachineCanDoIsChosen(t *testing.T) {
	noApt, container := bare, able
	noApt.apt, container.admin = false, false
	for _, c := range []struct {
		name          string
		facts         facts
		real, install bool
		why           string
		refused       string // by --real
	}{
		{"all there", able, true, false, "real VMs", ""},
		{"packages missing", bare, true, true, "virsh", "virsh"},
		{"packages missing without apt-get", noApt, false, false, "no apt-get: virsh", "virsh"},
		{"not root", facts{apt: true}, false, false, "not root", "root"},
		{"root without rights", container, false, false, "namespaces", "namespaces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.facts.choose()
			if got.real != c.real || got.install != c.install || !strings.Contains(got.why, c.why) || strings.Contains(got.why, "\n") {
				t.Errorf("got %+v", got)
			}
			err := c.facts.refuse()
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("--real: %v", err)
			}
		})
	}
}

func TestWhatTurnsOutToBeImpossibleIsDoneWithAProcess(t *testing.T) {
	noStage := fmt.Errorf("demo: %w: %w", ErrNoStage, errTest)
	for _, c := range []struct {
		name    string
		facts   facts
		install error
		real    error // of the run with real VMs
		end     bool  // the context has ended
		want    string
		err     error
	}{
		{name: "real", facts: able, want: "choice, real"},
		{name: "installed", facts: bare, want: "choice, install, real"},
		{name: "no root", want: "choice, process"},
		{name: "installing fails", facts: bare, install: errTest, want: "choice, install, choice, process"},
		{name: "no hosts", facts: able, real: noStage, want: "choice, real, choice, process"},
		{name: "the drill fails", facts: able, real: errTest, want: "choice, real", err: errTest},
		{name: "interrupted", facts: able, real: noStage, end: true, want: "choice, real", err: errTest},
		{name: "interrupted while installing", facts: bare, install: errTest, end: true, want: "choice, install", err: errTest},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.end {
				cancel()
			}
			var did []string
			a := auto{facts: c.facts,
				say: func(line string) {
					if what, _, ok := strings.Cut(line, ": "); ok {
						did = append(did, what)
					}
				},
				install: func(context.Context) error {
					did = append(did, "install")
					return c.install
				},
				run: func(_ context.Context, real bool) error {
					if real {
						did = append(did, "real")
						return c.real
					}
					did = append(did, "process")
					return nil
				},
			}
			err := a.Run(ctx)
			if got := strings.Join(did, ", "); got != c.want {
				t.Errorf("did %s, want %s", got, c.want)
			}
			if c.err == nil && err != nil || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
		})
	}
}

// TestTheAgentOfAHostIsFoundAgainAfterABoot: its socket is elsewhere then.
func TestTheAgentOfAHostIsFoundAgainAfterABoot(t *testing.T) {
	socket, off := "a", error(nil)
	var dialled []string
	agents := map[string]*countingAgent{}
	a := &labAgent{
		socket: func() (string, error) { return socket, off },
		dial: func(s string) (Agent, error) {
			dialled = append(dialled, s)
			agents[s] = &countingAgent{}
			return agents[s], nil
		},
	}
	ask := func() error {
		_, err := a.Status(t.Context())
		_, _, err2 := a.Events(t.Context(), 0, 1)
		return errors.Join(err, err2)
	}
	for range 2 {
		if err := ask(); !errors.Is(err, errDeaf) {
			t.Fatal(err)
		}
	}
	if off = errTest; !errors.Is(ask(), errTest) {
		t.Error("a host that is off was asked")
	}
	off, socket = nil, "b"
	if err := ask(); !errors.Is(err, errDeaf) {
		t.Fatal(err)
	}
	a.Close()
	if want := []string{"a", "b"}; !slices.Equal(dialled, want) || agents["a"].closed != 1 || agents["b"].closed != 1 {
		t.Errorf("dialled %q, closed %d and %d times; want %q, once each", dialled, agents["a"].closed, agents["b"].closed, want)
	}
}

type countingAgent struct {
	deafAgent
	closed int
}

func (a *countingAgent) Close() { a.closed++ }
