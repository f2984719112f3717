package lab

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// TestStanding: only the word of the holder's own agent counts, and only while that reaches a
// quorum; the others are those that could take the VM.
func TestStanding(t *testing.T) {
	good := func() cluster.Status {
		s := cluster.Status{Self: "h2", Connected: true, Members: []cluster.HostID{"h1", "h2", "h3"},
			Owner: cluster.Owner{State: cluster.Running, Host: "h2"}}
		for _, h := range []cluster.HostID{"h1", "h2", "h3", "h4"} { // h4 runs guests only
			s.Hosts = append(s.Hosts, cluster.HostStatus{Host: cluster.Host{Name: h, Fit: true}, Alive: true})
		}
		return s
	}
	for _, c := range []struct {
		name string
		edit func(*cluster.Status)
		want standing
	}{
		{"all well", func(*cluster.Status) {}, standing{"h2", []string{"h1", "h3"}}},
		{"a host is silent", func(s *cluster.Status) { s.Hosts[0].Alive = false }, standing{"h2", []string{"h3"}}},
		{"a host is not fit", func(s *cluster.Status) { s.Hosts[2].Fit = false }, standing{"h2", []string{"h1"}}},
		{"another host has it", func(s *cluster.Status) { s.Self = "h1" }, standing{}},
		{"it is being started", func(s *cluster.Status) { s.Owner.State = cluster.Assigned }, standing{}},
		{"no quorum", func(s *cluster.Status) { s.Connected = false }, standing{}},
		{"the agent does not answer", func(s *cluster.Status) { *s = cluster.Status{} }, standing{}},
	} {
		s := good()
		c.edit(&s)
		if got := standingOf(s); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestNobody: where nobody is to have the VM, or the group of a pair, that is said, and a takeover is waited for.
func TestNobody(t *testing.T) {
	status := func(edit func(*cluster.Status)) cluster.Status {
		s := cluster.Status{Connected: true, Want: cluster.Want{Run: true}}
		edit(&s)
		return s
	}
	for name, c := range map[string]struct {
		edit    func(*cluster.Status)
		settled bool
		why     string
	}{
		"stopped":        {func(s *cluster.Status) { s.Want.Run, s.Owner.State = false, cluster.Released }, true, "not asked to run it"},
		"a pair of none": {func(s *cluster.Status) { s.Type = cluster.PairConf }, true, "the pair has not begun"},
		"a takeover": {func(s *cluster.Status) {
			s.Waiting, s.Owner.State = "the deadline of h1",
				cluster.Running
		}, false, "waits for the deadline of h1"},
		"begins":           {func(*cluster.Status) {}, false, "no host yet"},
		"is being started": {func(s *cluster.Status) { s.Owner.State, s.Owner.Host = cluster.Assigned, "h2" }, false, "assigned on h2"},
		"no quorum":        {func(s *cluster.Status) { s.Connected = false }, false, "no agent reaches a quorum"},
	} {
		got := absenceOf([]cluster.Status{{}, status(c.edit)})
		if got.settled != c.settled || !strings.Contains(got.why, c.why) || c.settled != strings.HasPrefix(got.remedy, "exec h1 ") {
			t.Errorf("%s: %+v", name, got)
		}
		_, err := await(t.Context(), wordHolder, "lab ", 3*askAgain, askAgain,
			func(context.Context) (standing, absence, error) { return standing{}, got, nil })
		var e *fail.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "context") ||
			(e.Kind == fail.Refused) != c.settled {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := 0
	h, err := await(t.Context(), wordHolder, "lab ", time.Minute, time.Nanosecond, func(context.Context) (standing, absence, error) {
		if n++; n < 3 {
			return standing{}, absence{why: "a takeover"}, nil
		}
		return standing{holder: "h2"}, absence{}, nil
	})
	if err != nil || h != "h2" {
		t.Errorf("a takeover is not waited for: %q, %v", h, err)
	}
}

// TestNextAfterUp: the last line of "holdfast-lab up" can be typed.
func TestNextAfterUp(t *testing.T) {
	for want, c := range map[string]struct {
		dir string
		o   Options
	}{
		"/x/holdfast-lab exec h1 holdfast pair begin":          {DefaultDir, Options{Agents: true, Work: WorkPair}},
		"/x/holdfast-lab --dir /y exec holder holdfast status": {"/y", Options{Agents: true, Work: WorkGuest}},
		"/x/holdfast-lab exec h1 sh -c 'cd /srv/host && holdfast install -c cluster.json --settings settings.json " +
			"--known-hosts hosts.keys --password-file password --allow-undersized --check'": {DefaultDir, Options{Bare: BarePassword}},
		"/x/holdfast-lab status": {DefaultDir, Options{Work: WorkGuest}},
	} {
		if got := nextAfterUp("/x/holdfast-lab", c.dir, c.o); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
