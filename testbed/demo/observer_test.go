package demo

import (
	"testing"
	"time"
)

func now() time.Time { return time.Now() }

var zero = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func answerOf(boot string) Answer { return Answer{Boot: boot, Host: "h1"} }

func TestLivesThatFollowEachOtherAreOneHolder(t *testing.T) {
	o := newObserver(250 * time.Millisecond)
	o.Answered(answerOf("a"), at(0), at(5), true)
	o.Answered(answerOf("a"), at(20), at(60), true) // sent at 20: alive at 20 for certain, at 60 perhaps not
	o.Answered(answerOf("b"), at(40), at(50), true)
	o.Answered(answerOf("b"), at(70), at(75), true)
	if _, most := o.Holders(); most != 1 {
		t.Errorf("%d holders, want 1", most)
	}
}

func TestLivesThatOverlapAreTwoHolders(t *testing.T) {
	o := newObserver(250 * time.Millisecond)
	o.Answered(answerOf("a"), at(0), at(5), true)
	o.Answered(answerOf("b"), at(10), at(15), false)
	o.Answered(answerOf("a"), at(20), at(25), true)
	if _, most := o.Holders(); most != 2 {
		t.Errorf("%d holders, want 2", most)
	}
}

func TestTheLookIsShownAndWhatWasHeldIsCounted(t *testing.T) {
	o := newObserver(250 * time.Millisecond)
	one := []running{{Host: "h1"}}
	o.Saw(one)
	o.Held(1)
	o.Held(0)
	if runs, most := o.Holders(); most != 1 || len(runs) != 1 {
		t.Errorf("one: now %d, at most %d; want 1 and 1", len(runs), most)
	}
	o.Saw(append(one, running{Host: "h2"})) // a look alone may have seen one go and the other come
	if runs, most := o.Holders(); most != 1 || len(runs) != 2 {
		t.Errorf("two in a look: now %d, at most %d; want 2 and 1", len(runs), most)
	}
	o.Held(2)
	o.Held(1)
	if _, most := o.Holders(); most != 2 {
		t.Errorf("two at once: at most %d, want 2", most)
	}
}

func TestAProcessThatEndedDuringTheScanIsNotCounted(t *testing.T) {
	m := testMarks(t)
	spawn(t, m.env("h1"), "play-idle")
	t.Setenv("HOLDFAST_GUEST", "u")
	first, _, _ := spawn(t, m.env("h1"), "play-idle")
	spawn(t, m.env("h2"), "play-idle")
	var found []markedProc
	eventually(t, "two guests", func() bool {
		found = must[[]markedProc](t)(m.Scan())
		n := 0
		for _, p := range found {
			if p.Guest {
				n++
			}
		}
		return n == 2
	})
	if alive := must[[]markedProc](t)(aliveTogether(found)); len(alive) != 2 {
		t.Fatalf("%d alive, want 2", len(alive))
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not counted", func() bool { return len(must[[]markedProc](t)(aliveTogether(found))) == 1 })
}

func TestTheOutageIsTheLongestGapOfTheClient(t *testing.T) {
	o := newObserver(250 * time.Millisecond)
	answer := func(ms int, client bool) (gap, bool) {
		return o.Answered(answerOf("a"), at(ms-2), at(ms), client)
	}
	if at, lost := o.Silent(at(9000)); lost {
		t.Fatalf("lost at %v before it ever answered", at)
	}
	for _, ms := range []int{1000, 1020, 1200, 1400} { // gaps below 250 ms do not count
		if g, ended := answer(ms, true); ended {
			t.Errorf("gap %+v at %d", g, ms)
		}
	}
	fault := at(1410)
	if _, lost := o.Silent(at(1600)); lost {
		t.Error("lost after 200 ms")
	}
	if from, lost := o.Silent(at(1650)); !lost || !from.Equal(at(1400)) {
		t.Errorf("after 250 ms: %v, %v", from, lost)
	}
	if _, lost := o.Silent(at(1700)); lost {
		t.Error("lost twice")
	}
	answer(2000, false) // a host that the client can not reach
	if got := o.Outage(fault, at(2400)); got != time.Second {
		t.Errorf("outage so far %v, want 1 s", got)
	}
	if g, ended := answer(3400, true); !ended || g.to.Sub(g.from) != 2*time.Second {
		t.Errorf("gap %+v, %v; want 2 s", g, ended)
	}
	answer(3800, true) // a shorter one that nobody has noticed meanwhile
	if got := o.Outage(fault, at(9000)); got != 2*time.Second {
		t.Errorf("outage %v, want 2 s", got)
	}
	if got := o.Outage(at(3500), at(9000)); got != 400*time.Millisecond {
		t.Errorf("outage after the second fault %v, want 400 ms", got)
	}
	if got := o.Outage(at(3900), at(9000)); got != 0 {
		t.Errorf("outage after all %v, want 0", got)
	}
}

func TestTheFirstAnswerOfAnotherLifeIsFound(t *testing.T) {
	o := newObserver(250 * time.Millisecond)
	o.Answered(answerOf("old"), at(0), at(2), true)
	o.Answered(answerOf("new"), at(100), at(102), false)
	if first, ok := o.FirstOther("old", at(50)); ok {
		t.Errorf("found %v although the client has no answer of it", first)
	}
	o.Answered(answerOf("new"), at(200), at(202), true)
	o.Answered(answerOf("new"), at(300), at(302), true)
	if first, ok := o.FirstOther("old", at(50)); !ok || !first.Equal(at(202)) {
		t.Errorf("got %v, %v", first, ok)
	}
}
