package told

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// at is a second after noon.
func at(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }

// runs is a status at a second, of a VM that runs on a host.
func runs(s int, host cluster.HostID) cluster.Status {
	return cluster.Status{Connected: true, Time: at(s), Want: cluster.Want{Run: true},
		Owner: cluster.Owner{State: cluster.Running, Host: host, Time: noon}, Timings: cluster.Timings{Lease: 6 * time.Second},
		Hosts: []cluster.HostStatus{{Host: cluster.Host{Name: host}, Alive: true}}}
}

// course is events in short: second, kind, host, and seconds of silence.
func course(t *testing.T, text string) (events []cluster.Event) {
	t.Helper()
	for line := range strings.SplitSeq(text, ";") {
		var e cluster.Event
		var second, wait int
		if n, err := fmt.Sscan(line, &second, &e.Kind, &e.Host, &wait); text != "" && n < 3 {
			t.Fatalf("%q: %v", line, err)
		}
		e.Time, e.Wait = at(second), time.Duration(wait)*time.Second
		events = append(events, e)
	}
	return events
}

func TestBand(t *testing.T) {
	cut, silent, stopped := runs(100, "a"), runs(100, "a"), runs(100, "a")
	cut.Connected, cut.AsOf = false, at(70)
	silent.Hosts[0].Alive, silent.Hosts[0].Silent = false, 20*time.Second
	stopped.Owner.State, stopped.Owner.Time, stopped.Want.Run = cluster.Released, at(80), false
	a, b := runs(100, "a"), runs(100, "b")
	for name, c := range map[string]struct {
		s      cluster.Status
		events string
		want   string // state of each block, ! for one that a takeover ended, and its seconds
	}{
		"no event is known":  {a, "", "up 0-100"},
		"one start":          {a, "30 started a", "not known 0-30, up 30-100"},
		"a takeover":         {b, "0 started a; 50 takeover a 9; 53 started b", "up 0-41, down! 41-53, up 53-100"},
		"no host for it":     {a, "0 started a; 50 released a 9; 80 assigned a; 83 started a", "up 0-41, down 41-83, up 83-100"},
		"a move":             {b, "0 started a; 40 migrating a; 44 settling b; 45 migrated b", "up 0-40, moving 40-45, up 45-100"},
		"a stop":             {a, "0 started a; 40 stopping a; 42 released a; 60 started a", "up 0-40, stopped 40-60, up 60-100"},
		"it is stopped":      {stopped, "0 started a", "up 0-80, stopped 80-100"},
		"clocks differ":      {b, "50 started a; 52 takeover a 9; 45 started b", "not known 0-50, down! 50-59, up 59-100"},
		"cut off":            {cut, "0 started a", "up 0-70, not known 70-100"},
		"the holder is lost": {silent, "0 started a", "up 0-80, down 80-100"},
		"of a pair":          {a, "0 started a; 20 outage a; 30 outage-over a", "up 0-20, down 20-30, up 30-100"},
	} {
		var got []string
		for _, b := range Band(c.s, course(t, c.events), noon) {
			mark := map[bool]string{true: "!"}[!b.Takeover.IsZero()]
			got = append(got, fmt.Sprintf("%s%s %.0f-%.0f", b.State, mark, b.From.Sub(noon).Seconds(), b.To.Sub(noon).Seconds()))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}

func TestFailoverAt(t *testing.T) {
	events := []cluster.Event{
		{Time: at(1), Kind: cluster.EvStarted, Host: "a"},
		{Time: at(47), Kind: cluster.EvSilent, Host: "a", By: "c"},
		{Time: at(50), Kind: cluster.EvTakeover, Host: "a", To: "b", By: "c", Wait: 9 * time.Second, Proof: cluster.ProofDeadline},
		{Time: at(53), Kind: cluster.EvStarted, Host: "b"},
		{Time: at(60), Kind: cluster.EvJoined, Host: "a"},
	}
	f, found := FailoverAt(events, at(50))
	if !found || f.Lost != at(41) || f.Whole() != 12*time.Second || f.StartIn != 3*time.Second || len(f.Events) != 3 || f.By != "c" {
		t.Errorf("%v, %+v", found, f)
	}
	if f, _ := FailoverAt(slices.Insert(events, 3, cluster.Event{Time: at(52), Kind: cluster.EvReleased, Host: "b"}), at(50)); f.Whole() != 0 {
		t.Errorf("the start was of another decision: %+v", f)
	}
	if _, found := FailoverAt(events, at(51)); found {
		t.Error("there is none of that time")
	}
	for _, k := range []cluster.ProofKind{cluster.ProofDeadline, cluster.ProofFenced, cluster.ProofReleased, cluster.ProofNeverStarted,
		cluster.ProofOperator, "new"} {
		if s := (Failover{From: "a", Proof: k}).Safe(); s == "" {
			t.Errorf("%s: nothing is said", k)
		}
	}
}
