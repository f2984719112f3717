package notify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// once checks that each event up to the last one was told to a receiver, and each in one message only: what was sent again has
// the same ID and says that it may have come before.
func (w *world) once(name string, again int) {
	w.t.Helper()
	in, repeated := map[string]string{}, 0
	ids := map[string]bool{}
	for _, d := range w.sentTo(name) {
		if ids[d.ID] {
			repeated++
			if !strings.Contains(d.Body, "may have come before") {
				w.t.Errorf("message %s came again and does not say so:\n%s", d.ID, d.Body)
			}
		}
		ids[d.ID] = true
		for _, n := range numbers([]delivery{d}) {
			if first := in[n]; first != "" && first != d.ID {
				w.t.Errorf("event %s is in message %s and in %s", n, first, d.ID)
			}
			in[n] = d.ID
		}
	}
	told, of := 0, map[string]int{}
	for _, d := range w.sentTo(name) {
		of[d.ID] = d.Events
	}
	for _, n := range of {
		told += n
	}
	if told != w.events {
		w.t.Errorf("%d events were told, %d have happened", told, w.events)
	}
	if w.t.Failed() {
		for _, d := range w.asked {
			w.t.Logf("%s %s %s %d %v", d.Time.Format(time.TimeOnly), d.host, d.ID, d.Events, numbers([]delivery{d}))
		}
	}
	if repeated > again {
		w.t.Errorf("%d messages came again, at most %d may", repeated, again)
	}
}

func TestACoordinatorThatDiesBeforeItHasRecordedHasTheMessageSentAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h1, h2 := w.begin("h1"), w.begin("h2")
		defer w.stop(h1, h2)
		h1.coordinates()
		w.pass(5 * time.Second)
		w.answers(func(d delivery) error {
			if d.host == "h1" {
				h1.dies() // after the service took it
			}
			return nil
		})
		w.happens(cluster.EvSilent)
		w.pass(35 * time.Second)
		h2.coordinates()
		w.happens(cluster.EvTakeover)
		w.pass(20 * time.Second)
		if got := w.sentTo("ops"); len(got) != 1 {
			t.Fatalf("%d messages while the claim of h1 may still be alive, want that of h1 only", len(got))
		}
		w.pass(3 * time.Minute)
		got := w.sentTo("ops")
		if len(got) != 3 || got[0].ID != got[1].ID || fmt.Sprint(numbers(got)) != "[1 1 2]" {
			t.Fatalf("%+v, want the message again, and then the next event", got)
		}
		w.once("ops", 1)
	}, receiver("ops"))
}

func TestAnAttemptThatOutlivesItsTermIsRecorded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h1, h2 := w.begin("h1"), w.begin("h2")
		defer w.stop(h1, h2)
		h1.coordinates()
		w.pass(5 * time.Second)
		w.answers(func(d delivery) error {
			if d.host == "h1" {
				time.Sleep(15 * time.Second)
			}
			return nil
		})
		w.happens(cluster.EvSilent)
		w.pass(35 * time.Second) // h1 is at it
		h2.coordinates()
		h1.steps()
		w.pass(10 * time.Minute)
		w.once("ops", 0)
		if n := w.attempts(); n != 1 {
			t.Errorf("%d attempts, want that of h1", n)
		}
	}, receiver("ops"))
}

func TestATermThatComesBackToAHostDoesNotSendTwice(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		w.answers(func(delivery) error { time.Sleep(20 * time.Second); return nil })
		w.happens(cluster.EvSilent)
		w.pass(35 * time.Second)
		h.steps()
		w.pass(2 * time.Second)
		h.coordinates()
		w.pass(10 * time.Minute)
		w.once("ops", 0)
	}, receiver("ops"))
}

func TestTwoThatBothThinkThatTheyCoordinateSendOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h1, h2 := w.begin("h1"), w.begin("h2")
		defer w.stop(h1, h2)
		h1.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent)
		h2.coordinates() // and h1 goes on, by its old term
		w.pass(10 * time.Minute)
		w.once("ops", 0)
		for _, d := range w.asked {
			if d.host != "h2" {
				t.Errorf("%s has sent without a term", d.host)
			}
		}
	}, receiver("ops"))
}

func TestAStoreThatDoesNotAnswerDelaysTheRecordOnly(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		w.answers(func(delivery) error { h.client.Partition(true); return nil })
		w.happens(cluster.EvSilent)
		w.pass(time.Minute)
		w.answers(func(delivery) error { return nil })
		h.client.Partition(false)
		w.pass(10 * time.Minute)
		w.once("ops", 0)
		if s := w.state("ops"); s.Message != nil || s.Sent.IsZero() {
			t.Errorf("%+v", s)
		}
	}, receiver("ops"))
}

func TestAClaimThatWasNotAcknowledgedIsNotSentBlindly(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent)
		h.client.LoseReplies(true)
		w.pass(2 * time.Minute)
		if n := w.attempts(); n != 0 {
			t.Fatalf("%d attempts without an acknowledged claim", n)
		}
		h.client.LoseReplies(false)
		w.pass(2 * time.Minute)
		w.once("ops", 0)
	}, receiver("ops"))
}

// TestCoordinatorsThatChangeAtRandom: hosts take over from one another, also in the midst of attempts, die, and come back; the
// service fails now and then. No event is lost, and a message comes again only for a process that has died.
func TestCoordinatorsThatChangeAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				r := rand.New(rand.NewPCG(seed, 25))
				live := []*host{w.begin("h1"), w.begin("h2"), w.begin("h3")}
				defer func() { w.stop(live...) }()
				live[0].coordinates()
				w.pass(5 * time.Second)
				behave := func(slow time.Duration, fails bool) {
					w.answers(func(delivery) error {
						time.Sleep(slow)
						if fails {
							return errors.New("not now")
						}
						return nil
					})
				}
				died := 0
				for range 40 {
					i := r.IntN(3)
					switch r.IntN(6) {
					case 0:
						for _, h := range live {
							if r.IntN(2) == 0 {
								h.steps()
							}
						}
						live[i].coordinates()
					case 1:
						live[i].dies()
						live[i] = w.begin(live[i].name)
						live[(i+1)%3].coordinates()
						died++
					case 2:
						behave(time.Duration(r.IntN(20))*time.Second, r.IntN(3) == 0)
					default:
						w.happens(cluster.EvSilent, cluster.EvTakeover)
					}
					w.pass(time.Duration(r.IntN(60)) * time.Second)
				}
				behave(0, false)
				live[0].coordinates()
				w.pass(40 * time.Minute)
				w.once("ops", died)
				if s := w.state("ops"); s.Lost != 0 || s.Message != nil {
					t.Errorf("%+v", s)
				}
			}, receiver("ops"))
		})
	}
}
