package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

func TestEventsAreInOrderOfTimeAndToldFromTheFault(t *testing.T) {
	start := time.Now()
	var told []string
	l := newTimeline(start, func(e Event) { told = append(told, e.Kind) })
	l.Add(Event{Source: fromDemo, Kind: "b", Time: start.Add(2 * time.Second)})
	e := cluster.Event{Time: start.Add(time.Second), Kind: cluster.EvStarted, By: "h1", Epoch: cluster.Epoch{Gen: 1, Seq: 2}}
	other := e
	other.Host = "h2"
	for range 2 { // two agents deliver the same
		if err := l.AddCluster([]cluster.Event{e, other}); err != nil {
			t.Fatal(err)
		}
	}
	l.Fault(start.Add(1500 * time.Millisecond))
	got := l.Events()
	if len(got) != 3 || got[0].AtMS != -500 || got[0].Host != "h1" || got[1].Host != "h2" || got[2].AtMS != 500 {
		t.Errorf("got %+v", got)
	}
	if len(told) != 3 || told[0] != "b" {
		t.Errorf("told %v", told)
	}
	if at, ok := l.First(start.Add(time.Second), clusterKind(cluster.EvStarted)); !ok || at.Sub(start).Round(time.Millisecond) != time.Second {
		t.Errorf("first: %v, %v", at.Sub(start), ok)
	}
	if _, ok := l.First(start.Add(1100*time.Millisecond), clusterKind(cluster.EvStarted)); ok {
		t.Error("an event before the moment was found")
	}
}

func TestTheVerdictFollowsFromWhatWasSeen(t *testing.T) {
	no, yes := false, true
	for _, c := range []struct {
		name   string
		result Result
		good   bool
	}{
		{"recovered with one holder", Result{Fault: PowerLoss, Recovered: &yes, MaxHolders: 1}, true},
		{"two holders", Result{Fault: PowerLoss, Recovered: &yes, MaxHolders: 2}, false},
		{"no holder at all", Result{Fault: PowerLoss, Recovered: &yes}, false},
		{"not recovered", Result{Fault: PowerLoss, Recovered: &no, MaxHolders: 1}, false},
		{"nobody knows whether it has recovered", Result{Fault: PowerLoss, MaxHolders: 1}, false},
		{"nothing was broken", Result{Fault: None, MaxHolders: 1}, true},
		{"nothing was broken, and it runs twice", Result{Fault: None, MaxHolders: 2}, false},
		{"stopped by itself", Result{Fault: PowerLoss, Recovered: &yes, MaxHolders: 1, StoppedByItself: &yes}, true},
		{"not stopped by itself", Result{Fault: PowerLoss, Recovered: &yes, MaxHolders: 1, StoppedByItself: &no}, false},
		{"a problem of the drill", Result{Fault: PowerLoss, Recovered: &yes, MaxHolders: 1, Problem: "x"}, false},
	} {
		c.result.judge()
		if err := c.result.Err(); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPhasesAddUpToTheRecovery(t *testing.T) {
	r := &runner{witness: witness{observer: newObserver(250 * time.Millisecond), timeline: newTimeline(zero, nil)}}
	h1 := &labMachine{host: "h1"}
	b := before{at: at(1000), boot: "old", active: h1}
	r.observer.Answered(answerOf("old"), at(990), at(995), true)
	for _, e := range []struct {
		ms   int
		kind cluster.EventKind
		host cluster.HostID
	}{{500, cluster.EvStarted, "h1"}, {2500, cluster.EvSilent, "h2"}, {3000, cluster.EvSilent, "h1"}, // h2 is a false alarm
		{9000, cluster.EvTakeover, "h1"}, {9010, cluster.EvAssigned, "h2"}, {9100, cluster.EvStarted, "h2"}} {
		r.timeline.Add(Event{Source: fromCluster, Kind: string(e.kind), Host: e.host, Time: at(e.ms)})
	}
	r.timeline.Add(Event{Source: fromObserver, Kind: "process-started", Time: at(9080)})
	r.observer.Answered(answerOf("new"), at(9195), at(9200), true)
	var result Result
	r.phases(b, &result)
	if want := (Phases{DetectMS: 2005, ProofMS: 6000, StartMS: 80, AnswerMS: 120}); result.Phases != want {
		t.Errorf("got %+v, want %+v", result.Phases, want)
	}
	result = Result{}
	r.phases(before{at: at(1000), boot: "new", active: h1}, &result)
	if result.Phases != (Phases{}) {
		t.Errorf("nothing new has answered: %+v", result.Phases)
	}
	// A VM that answers on for a while after the fault: what the phases split is the outage.
	r.observer = newObserver(0)
	r.observer.Answered(answerOf("old"), at(2990), at(3000), true)
	if lost, is := r.observer.Silent(at(3500)); !is || !lost.Equal(at(3000)) {
		t.Fatalf("lost since %s, %t", lost, is)
	}
	r.observer.Answered(answerOf("new"), at(9195), at(9200), true)
	result = Result{}
	r.phases(b, &result)
	if want := (Phases{DetectMS: 0, ProofMS: 6000, StartMS: 80, AnswerMS: 120}); result.Phases != want {
		t.Errorf("got %+v, want %+v, the outage", result.Phases, want)
	}
}

func TestTheResultIsOneLineOfJSON(t *testing.T) {
	var out bytes.Buffer
	r := &runner{opt: Options{JSON: true, Out: &out}, screen: newScreen(&out, true, zero)}
	r.screen.Print("not wanted")
	r.screen.Event(Event{Kind: "not wanted"})
	yes := true
	if err := r.report(Result{Driver: "process", Fault: PowerLoss, Recovered: &yes, OutageMS: 7, Events: []Event{{Kind: "x"}}}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.HasSuffix(out.String(), "\n") {
		t.Fatalf("%d lines: %s", n, out.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"driver", "fault", "recovered", "outage_ms", "phases", "max_holders", "events"} {
		if _, ok := got[field]; !ok {
			t.Errorf("field %s is missing in %s", field, out.String())
		}
	}
}

// TestNothingWasBroken: what was not broken has not recovered, for people and for programs.
func TestNothingWasBroken(t *testing.T) {
	for _, js := range []bool{false, true} {
		var out bytes.Buffer
		r := &runner{opt: Options{JSON: js, Out: &out}, screen: newScreen(&out, js, zero)}
		if err := r.report(Result{Driver: "process", Fault: None, MaxHolders: 1, Events: []Event{}}); err != nil {
			t.Fatal(err)
		}
		want, not := "\nnothing was broken: the VM is the same, and answers\n", "recovered: yes"
		if js {
			want, not = `"recovered":null,`, `"recovered":true`
		}
		if s := out.String(); !strings.Contains(s, want) || strings.Contains(s, not) {
			t.Errorf("JSON %t: %s\nwant %q", js, s, want)
		}
	}
}

func TestTheTableShowsEveryHostWithin79Columns(t *testing.T) {
	p := picture{now: at(9000), start: zero, fault: "power-loss, 3.2 s ago", known: true, last: at(8000),
		owner: cluster.Owner{State: cluster.Running, Host: "h2", Epoch: cluster.Epoch{Gen: 1, Seq: 4}},
		hosts: []hostPicture{
			{name: "h1", guest: "-", watchdog: "-"},
			{name: "h2", cond: condition{on: true, agent: true}, alive: true, coordinator: true,
				guest: "running, epoch 1.4", watchdog: "resets within 2.0 s"},
			{name: "h3", cond: condition{on: true, cut: true}, guest: "-", watchdog: "has fired 1 times"},
		}, holders: 1, most: 1, waiting: "the watchdog deadline of h1"}
	text := strings.Join(p.table(), "\n")
	for _, want := range []string{"h1     off", "h2     on", "h3     isolated", "NO ANSWER for 1.0 s",
		"running on h2, epoch 1.4", "at most 1", "deadline of h1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, line := range p.table() {
		if len(line) > screenWidth {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	p.late = true
	if text := strings.Join(p.table(), "\n"); strings.Contains(text, "at most") || !strings.Contains(text, "1 running now; ") {
		t.Errorf("a count that is not known yet is told:\n%s", text)
	}
	var out bytes.Buffer
	s := &screen{out: &out, live: true}
	s.Draw([]string{"a", strings.Repeat("b", 200)})
	s.Draw([]string{"c"})
	if want := "\x1b[Ja\n" + strings.Repeat("b", screenWidth) + "\n\x1b[2A\x1b[Jc\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestOutputThatIsNoTerminalGetsOneLinePerEvent(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, false, zero)
	s.Draw([]string{"not wanted"})
	epoch := cluster.Epoch{Gen: 1, Seq: 2}
	s.Event(Event{Time: at(1500), Source: fromCluster, Kind: "assigned", Host: "h2", Epoch: &epoch, Proof: cluster.ProofDeadline})
	if want := "   1.50 s  cluster  h2   assigned: epoch 1.2, as the deadline of the copy before has passed\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestTheCommandRefusesBadInput(t *testing.T) {
	for _, args := range [][]string{{"--fault", "fire"}, {"--output", "xml"}, {"--real", "--auto"},
		{"--dir", "x", "--real"}, {"--dir", "x", "--auto"}, {"more"}} {
		c := Command()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(args)
		err := c.ExecuteContext(t.Context())
		if err == nil {
			t.Errorf("%q is accepted", args)
		}
		var typed *fail.Error
		if args[0] != "more" && !(errors.As(err, &typed) && typed.Kind == fail.Invalid && strings.Contains(err.Error(), args[0])) {
			t.Errorf("%q: %v", args, err)
		}
		if args[0] == "--fault" && !strings.Contains(err.Error(), "power-loss") {
			t.Errorf("%q: %v: does not say what is allowed", args, err)
		}
	}
}

// TestTheTimelineIsInOrder: what is told comes by the times that are told, and no time is less than nothing that rounds to it.
func TestTheTimelineIsInOrder(t *testing.T) {
	l := newTimeline(zero, nil)
	l.Fault(at(1000))
	for ms, kind := range map[int]string{1210: "later", 998: "just before", 1000: "fault"} {
		l.Add(Event{Source: fromDemo, Kind: kind, Text: kind, Time: at(ms)})
	}
	l.Add(Event{Source: fromCluster, Kind: "takeover", Host: "h1", To: "h2", Proof: cluster.ProofDeadline,
		Text: "its reset has passed", Time: at(2000)})
	s := newScreen(&bytes.Buffer{}, false, zero)
	text := strings.Join(summary(Result{Events: l.Events()}, s.fold), "\n")
	want := `    +0.00  demo          just before
    +0.00  demo          fault
    +0.21  demo          later
    +1.00  cluster  h1   takeover: h1 -> h2, as the deadline of the copy before has passed: its reset has passed
`
	if !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	s.live = true
	for _, line := range summary(Result{Events: l.Events()}, s.fold) {
		if len(line) > screenWidth {
			t.Errorf("%d columns on a terminal: %s", len(line), line)
		}
	}
}
