package install

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/config"
	"holdfast/testbed/try"
)

// fine is a host on which nothing is wrong, and whose agent tells what it has found out since it was started.
type fine struct {
	facts  Facts
	peers  []Reached
	begun  *time.Time // when the first agent was started
	status func(since time.Duration) string
	users  func(args []string) (string, error) // nil: there is one
}

// user answers the command user.
func (f fine) user(args []string) (Answer, error) {
	if f.users == nil {
		return Answer{Output: `[{"name":"alice","role":"admin"}]`}, nil
	}
	out, err := f.users(args)
	return Answer{Output: out}, err
}

func (f fine) Ask(_ context.Context, q Request) (Answer, error) {
	switch q.Do {
	case DoGather:
		return Answer{Facts: &f.facts}, nil
	case DoNow:
		return Answer{Now: time.Now()}, nil
	case DoReach:
		return Answer{Reached: f.peers}, nil
	case DoStart:
		if f.begun.IsZero() {
			*f.begun = time.Now()
		}
	case DoAgent:
		if q.Args[0] == "user" {
			return f.user(q.Args)
		}
		return Answer{Output: f.status(time.Since(*f.begun))}, nil
	}
	return Answer{}, nil
}

func (fine) Close() error { return nil }

// TestAnInstallationWaitsUntilNothingIsWrong that the agents find out in their first seconds, and tells what stays wrong.
func TestAnInstallationWaitsUntilNothingIsWrong(t *testing.T) {
	const (
		begin   = `{"connected":true,"hosts":[{"name":"a","alive":true%s},{"name":"b","alive":true},{"name":"c","alive":true}],"want":{"run":true},`
		runs    = `"owner":{"state":"running","host":"a"},`
		well    = begin + runs + `"takeover":{"possible":true}}`
		noProof = begin + runs + `"takeover":{"possible":false,"why":"no proof"}}`
	)
	status := func(text, why string) string {
		if why != "" {
			why = `,"why":"` + why + `"`
		}
		return strings.Replace(text, "%s", why, 1)
	}
	for name, c := range map[string]struct {
		status func(time.Duration) string
		wrong  string
		longer time.Duration // the shortest time that it waits for the VM to run and for what is wrong then
	}{
		"nothing is wrong": {func(time.Duration) string { return status(well, "") }, "", 0},
		"the watchdog is found late": {func(since time.Duration) string {
			if since < 18*time.Second {
				return status(well, "no watchdog")
			}
			return status(well, "")
		}, "", 18 * time.Second},
		"a takeover is possible late": {func(since time.Duration) string {
			if since < 9*time.Second {
				return status(noProof, "")
			}
			return status(well, "")
		}, "", 9 * time.Second},
		"the quorum is lost for a moment": {func(since time.Duration) string {
			if since > time.Second && since < 5*time.Second {
				return `{"connected":false}`
			}
			return status(noProof, "")
		}, "a takeover is NOT possible: no proof", settledWithin},
		"it stays wrong": {func(time.Duration) string { return status(noProof, "no watchdog") },
			"a takeover is NOT possible: no proof|a: no watchdog", settledWithin},
		"the quorum is gone": {func(since time.Duration) string {
			if since > time.Second {
				return `{"connected":false}`
			}
			return status(noProof, "")
		}, "no quorum of the store yet", settledWithin},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var begun time.Time
				hosts := map[string]fine{}
				for _, s := range good() {
					h := fine{facts: s.facts, begun: &begun, status: c.status}
					for _, p := range Members(testConfig()) {
						if p != s.host {
							h.peers = append(h.peers, Reached{Host: p.Name})
						}
					}
					hosts[s.host.Name] = h
				}
				var told []string
				res, err := Install(t.Context(), Options{
					Config: testConfig(), Base: config.Node{}, Parallel: 1,
					Connect: func(_ context.Context, h Host) (Conn, error) { return hosts[h.Name], nil },
					Tell:    func(_, what string) { told = append(told, what) },
				}, false)
				try.Must(t, err)
				if !res.OK || res.Running != "a" {
					t.Fatalf("%+v", res)
				}
				if got := strings.Join(res.Wrong, "|"); got != c.wrong {
					t.Errorf("wrong: %q, want %q", got, c.wrong)
				}
				if took := time.Since(begun); took < c.longer || took > c.longer+2*lookEvery {
					t.Errorf("it ended after %s, want %s", took, c.longer)
				}
				if c.wrong != "" && !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "no ") }) {
					t.Errorf("it waits without a word: %q", told)
				}
			})
		})
	}
}
