package plan

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(after time.Duration) time.Time { return noon.Add(after) }

func event(rev int64, kind cluster.EventKind, after time.Duration) Entry {
	return Entry{Rev: rev, Seen: at(after), Event: cluster.Event{Time: at(after), Kind: kind, By: "h1"}}
}

func ruled() Rule { return Rule{Receiver: "night", Least: cluster.Warning, Group: 30 * time.Second} }

func clockTime(h, m int) int { return h*60 + m }

func TestWhatAReceiverIsTold(t *testing.T) {
	log := []Entry{
		event(1, cluster.EvSilent, 0), event(2, cluster.EvElected, 0), event(3, cluster.EvStarted, 0), event(4, cluster.EvTakeover, 0),
		{Rev: 5, Event: cluster.Event{Kind: cluster.EvNotify, Detail: cluster.ReceiverFailed("night", "no answer")}},
		{Rev: 6, Event: cluster.Event{Kind: cluster.EvNotify, Detail: cluster.ReceiverFailed("day", "no answer")}},
	}
	for name, c := range map[string]struct {
		rule  Rule
		state State
		want  []int64
	}{
		"what is severe enough":       {ruled(), State{}, []int64{1, 3, 4, 6}},
		"after the cursors":           {ruled(), State{Critical: 3, Rest: 2}, []int64{3, 4, 6}},
		"critical only":               {Rule{Receiver: "night", Least: cluster.Critical}, State{}, []int64{1, 4, 6}},
		"everything":                  {Rule{Receiver: "x", Least: cluster.Info}, State{}, []int64{1, 2, 3, 4, 5, 6}},
		"kinds":                       {Rule{Kinds: []cluster.EventKind{cluster.EvElected, cluster.EvTakeover}, Least: cluster.Info}, State{}, []int64{2, 4}},
		"kinds that are too harmless": {Rule{Kinds: []cluster.EventKind{cluster.EvElected}, Least: cluster.Warning}, State{}, nil},
	} {
		var got []int64
		for _, e := range c.rule.Pending(c.state, log) {
			got = append(got, e.Rev)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestQuietTimes(t *testing.T) {
	night := Quiet{From: clockTime(22, 0), To: clockTime(7, 0), Zone: time.UTC}
	lunch := Quiet{From: clockTime(12, 0), To: clockTime(13, 30), Zone: time.FixedZone("east", 8*3600)}
	for _, c := range []struct {
		q    Quiet
		h, m int
		want bool
	}{
		{night, 21, 59, false}, {night, 22, 0, true}, {night, 3, 0, true}, {night, 6, 59, true}, {night, 7, 0, false}, {night, 12, 0, false},
		{lunch, 3, 59, false}, {lunch, 4, 0, true}, {lunch, 5, 29, true}, {lunch, 5, 30, false}, {Quiet{}, 3, 0, false},
	} {
		if got := c.q.At(time.Date(2026, 3, 1, c.h, c.m, 30, 0, time.UTC)); got != c.want {
			t.Errorf("%+v at %02d:%02d: %t", c.q, c.h, c.m, got)
		}
	}
}

func TestEventsAreGrouped(t *testing.T) {
	r, s := ruled(), New(0)
	log := []Entry{event(1, cluster.EvSilent, 0)}
	if got := r.Decide(s, log, at(time.Second)); got.Do != Wait || got.Until != at(30*time.Second) {
		t.Fatalf("%+v, want to wait for what else happens", got)
	}
	for rev := int64(2); rev <= 1000; rev++ { // a storm
		log = append(log, event(rev, cluster.EvTakeover, 20*time.Second))
	}
	got := r.Decide(s, log, at(30*time.Second))
	if got.Do != Send || len(got.Entries) != 1000 || got.Message.Through != 1000 {
		t.Fatalf("%d of %d entries, through %d: want one message of all", got.Do, len(got.Entries), got.Message.Through)
	}
	s = s.Claimed(got.Message, "p", at(30*time.Second)).Took(at(31 * time.Second))
	if s.Critical != 1000 || s.Rest != 1000 || s.Message != nil || s.Sent != at(31*time.Second) {
		t.Fatalf("%+v, want all settled", s)
	}
	// It goes on: the next message comes after the interval, those after it less and less often.
	var waits []time.Duration
	now := at(31 * time.Second)
	for rev := int64(1001); rev < 1007; rev++ {
		log = append(log, Entry{Rev: rev, Seen: now, Event: cluster.Event{Kind: cluster.EvSilent}})
		step := r.Decide(s, log, now)
		if step.Do == Wait {
			waits = append(waits, step.Until.Sub(now))
			now = step.Until
			step = r.Decide(s, log, now)
		}
		s = s.Claimed(step.Message, "p", now).Took(now)
	}
	want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}
	if !reflect.DeepEqual(waits, want) {
		t.Errorf("messages of a storm that goes on come after %v, want %v", waits, want)
	}
	// It is over: the next event is told at once again.
	now = now.Add(time.Hour)
	log = append(log, Entry{Rev: 1007, Seen: now, Event: cluster.Event{Kind: cluster.EvSilent}})
	if step := r.Decide(s, log, now); step.Until != now.Add(30*time.Second) {
		t.Errorf("after a storm: %+v, want the interval only", step)
	} else if step = r.Decide(s, log, step.Until); step.Do != Send || step.Message.Every != 30*time.Second {
		t.Errorf("after a storm: %+v, want a message, and the interval again", step)
	}
}

func TestInQuietTimesOnlyWhatIsCriticalIsSent(t *testing.T) {
	r, s := ruled(), New(0)
	r.Quiet = Quiet{From: clockTime(11, 0), To: clockTime(13, 0), Zone: time.UTC}
	log := []Entry{event(1, cluster.EvStarted, 0)}
	if got := r.Decide(s, log, at(10*time.Minute)); got.Do != Wait || got.Until.After(at(11*time.Minute)) || got.Until.IsZero() {
		t.Fatalf("%+v, want to look again within a minute", got)
	}
	log = append(log, event(2, cluster.EvTakeover, 10*time.Minute), event(3, cluster.EvStarted, 10*time.Minute))
	got := r.Decide(s, log, at(11*time.Minute))
	if got.Do != Send || len(got.Entries) != 1 || !got.Message.CriticalOnly {
		t.Fatalf("%+v, want the critical event only", got)
	}
	s = s.Claimed(got.Message, "p", at(11*time.Minute)).Took(at(11 * time.Minute))
	if n := len(r.Pending(s, log)); n != 2 || s.Rest != 0 || s.Critical != 3 {
		t.Fatalf("%+v: %d wait, want 2", s, n)
	}
	got = r.Decide(s, log, at(time.Hour))
	if got.Do != Send || len(got.Entries) != 2 || got.Message.CriticalOnly {
		t.Errorf("%+v, want the others after the quiet time", got)
	}
}

func TestAMessageThatFailsIsTriedAgainAndGivenUp(t *testing.T) {
	r, s := ruled(), New(0)
	log := []Entry{event(1, cluster.EvSilent, 0)}
	now := at(time.Minute)
	step := r.Decide(s, log, now)
	step.Message.ID = "m"
	attempts, lost := 0, false
	for !lost && attempts < 100 {
		if step.Do != Send || step.Message.ID != "m" || len(step.Entries) != 1 {
			t.Fatalf("attempt %d: %+v", attempts, step)
		}
		attempts++
		s, lost = s.Claimed(step.Message, "p", now).Refused("no answer", now)
		if lost {
			break
		}
		log = append(log, event(int64(attempts+1), cluster.EvElected, 0)) // does not get into the message
		wait := r.Decide(s, log, now)
		if wait.Do != Wait || !wait.Until.After(now) {
			t.Fatalf("after attempt %d: %+v, want to wait", attempts, wait)
		}
		now = wait.Until
		step = r.Decide(s, log, now)
	}
	if attempts != Attempts || s.Lost != 1 || !s.Failing || s.Why != "no answer" || s.Critical != 1 || s.Message != nil {
		t.Errorf("%d attempts, %+v", attempts, s)
	}
	if took := now.Sub(at(time.Minute)); took < 3*time.Hour || took > 4*time.Hour {
		t.Errorf("it was tried for %s, the documentation says some three and a half hours", took)
	}
}

func TestACriticalEventDoesNotWaitForALongPause(t *testing.T) {
	r := ruled()
	s, _ := New(0).Claimed(Message{ID: "m", Through: 1, Attempts: 10}, "p", at(0)).Refused("no answer", at(0))
	log := []Entry{event(1, cluster.EvStarted, 0), event(2, cluster.EvStarted, 0)}
	if got := r.Decide(s, log, at(time.Minute)); got.Do != Wait || got.Until != at(15*time.Minute) {
		t.Fatalf("%+v, want to wait", got)
	}
	log = append(log, event(3, cluster.EvTakeover, 20*time.Second))
	if got := r.Decide(s, log, at(30*time.Second)); got.Do != Wait || got.Until != at(time.Minute) {
		t.Errorf("%+v, want to wait no longer than a minute after the last attempt", got)
	}
	if got := r.Decide(s, log, at(time.Minute)); got.Do != Send || len(got.Entries) != 1 || got.Message.ID != "m" {
		t.Errorf("%+v, want another attempt with the same message", got)
	}
}

func TestAClockThatWasWrongDoesNotKeepAMessageBack(t *testing.T) {
	log := []Entry{event(1, cluster.EvSilent, 0)}
	s := State{Message: &Message{ID: "m", Through: 1, Next: at(24 * time.Hour)}}
	if got := ruled().Decide(s, log, at(0)); got.Do != Send {
		t.Errorf("%+v, want an attempt: no wait is as long", got)
	}
	s = State{Sent: at(24 * time.Hour)}
	if got := ruled().Decide(s, log, at(time.Minute)); got.Do != Wait || got.Until.After(at(2*time.Minute)) {
		t.Errorf("%+v, want to wait for the interval at the most", got)
	}
}

func TestWhatWasLeftIsSentAgainUnderTheSameID(t *testing.T) {
	log := []Entry{event(1, cluster.EvSilent, 0), event(2, cluster.EvSilent, 0)}
	s := New(0).Claimed(Message{ID: "m", Through: 1}, "dead", at(0)).Left(at(time.Minute))
	got := ruled().Decide(s, log, at(time.Minute))
	if got.Do != Send || got.Message.ID != "m" || !got.Message.Unsure || len(got.Entries) != 1 || got.Message.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

func TestRulesMayChangeWhileAMessageIsUnderWay(t *testing.T) {
	log := []Entry{event(1, cluster.EvStarted, 0)}
	s, _ := New(0).Claimed(Message{ID: "m", Through: 1}, "p", at(0)).Refused("no", at(0))
	r := ruled()
	r.Least = cluster.Critical
	if got := r.Decide(s, log, at(0)); got.Do != Skip || got.State.Message != nil || got.State.Rest != 1 {
		t.Errorf("%+v, want the message to be dropped: nobody wants it", got)
	}
}

func TestCursorsMovePastWhatNobodyWants(t *testing.T) {
	var log []Entry
	for rev := int64(1); rev <= behind; rev++ {
		if got := ruled().Decide(New(0), log, at(0)); got.Do != Wait || !got.Until.IsZero() {
			t.Fatalf("%d entries: %+v, want nothing", len(log), got)
		}
		log = append(log, event(rev, cluster.EvElected, 0))
	}
	if got := ruled().Decide(New(0), log, at(0)); got.Do != Skip || got.State.Critical != behind || got.State.Rest != behind {
		t.Errorf("%+v, want the cursors at the end", got)
	}
	if New(0).Missing(log) || !New(0).Missing(append(log, log...)) || New(1).Missing(append(log, log...)) {
		t.Error("entries may be missing where as many as are kept come after the cursors, and none before")
	}
}

func TestALossThatIsNotToldMakesNoEvent(t *testing.T) {
	loss := event(1, cluster.EvNotify, 0)
	if !TellsOnlyOfLosses([]Entry{loss, loss}) || TellsOnlyOfLosses([]Entry{loss, event(2, cluster.EvSilent, 0)}) {
		t.Error("a message of losses only is no event when it is lost itself")
	}
}

func same(s string) string { return s }

func TestAMessageInWords(t *testing.T) {
	e := event(7, cluster.EvTakeover, 0)
	e.Event.Host, e.Event.To = "h1", "h3"
	got := Write(Head{Cluster: "prod", Console: "https://console.example.com", ID: "abc", Again: true, Missing: true,
		T: same}, []Entry{e}, 2000)
	want := Text{Subject: "[prod] critical: takeover", Severity: cluster.Critical, Events: 1,
		Body: "2026-03-01 12:00:00Z critical takeover: h1 -> h3, by h1\n" +
			"Events before these may be missing: the log of events has been cut.\n" +
			"This message may have come before, under the same number.\n" +
			"Console: https://console.example.com\nMessage: abc"}
	if got != want {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}

func TestALargeMessageIsCutAndSaysWhatIsMissing(t *testing.T) {
	var all []Entry
	for i := range int64(500) {
		e := event(i, cluster.EvRefused, 0)
		e.Event.Detail = strings.Repeat("long ", 500) + "<script>\nalert(1)</script>"
		all = append(all, e)
	}
	all = append(all, event(500, cluster.EvTakeover, 0))
	for _, most := range []int{300, 2000, 3800} {
		got := Write(Head{Cluster: "prod", ID: "abc", T: same}, all, most)
		if size := len(got.Subject) + 1 + len(got.Body); size > most {
			t.Errorf("%d bytes, at most %d are allowed", size, most)
		}
		if got.Subject != "[prod] critical: 501 events" || !strings.HasSuffix(got.Body, "\nMessage: abc") || strings.ContainsAny(got.Body, "<") {
			t.Errorf("%s\n%s", got.Subject, got.Body)
		}
		if most > 300 && !strings.Contains(got.Body, "critical takeover: by h1\nAnd more events: ") {
			t.Errorf("the most severe event comes first, and the others are counted:\n%s", got.Body)
		}
	}
	if got := Write(Head{Cluster: "prod", ID: "abc", T: same}, all, 3800); !strings.Contains(got.Body, " x refused") || len(got.Body) < 1000 {
		t.Errorf("%s", got.Body)
	}
}

func TestATestSaysThatItIsOne(t *testing.T) {
	got := Test(Head{Cluster: "prod", ID: "test-abc", Console: "https://c", T: same}, "night", "alice (console)", "h2")
	if got.Subject != "[prod] This is a test" || got.Body != "This is a test of the receiver night.\nalice (console) has asked for it; host h2 has sent it.\n"+
		"Console: https://c\nMessage: test-abc" {
		t.Errorf("%+v", got)
	}
}
