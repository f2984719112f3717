package keeper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

const sec = cluster.Instant(time.Second)

func TestPromise(t *testing.T) {
	for _, c := range []struct{ timeout, least, want time.Duration }{
		{4 * time.Second, time.Millisecond, 4 * time.Second},
		{4 * time.Second, time.Second, 4 * time.Second},
		{4 * time.Second, 2 * time.Second, 4 * time.Second},
		{3 * time.Second, 2 * time.Second, 3500 * time.Millisecond},
		{60 * time.Second, 60 * time.Second, 90 * time.Second}, // one fixed timeout
	} {
		if got := Promise(Device{c.timeout, c.least}); got != c.want {
			t.Errorf("timeout %v, least %v: %v, want %v", c.timeout, c.least, got, c.want)
		}
	}
}

// step is an event and the order that must follow.
type step struct {
	what string
	at   cluster.Instant // 0: as before
	told cluster.Instant
	// said is how the device answered the last order.
	said *Device
	err  error
	want Order
}

func play(t *testing.T, k Petter, steps []step) {
	t.Helper()
	var now cluster.Instant
	var last Order
	for _, s := range steps {
		if s.at != 0 {
			now = s.at
		}
		if s.told != 0 {
			k.Told(s.told)
		}
		if s.said != nil || s.err != nil {
			var d Device
			if s.said != nil {
				d = *s.said
			}
			k.Answered(last, now, d, s.err)
		}
		if last = k.Ask(now); last != s.want {
			t.Fatalf("%s: %+v, want %+v", s.what, last, s.want)
		}
	}
}

func rest(ms int64) Order { return Order{Wait: time.Duration(ms) * time.Millisecond} }

func TestKeeper(t *testing.T) {
	whole := Device{4 * time.Second, time.Second}
	one, two := Device{time.Second, time.Second}, Device{2 * time.Second, time.Second}
	pet := Order{Do: Restart}
	for name, steps := range map[string][]step{
		"nothing before it is told a limit": {{what: "begin", at: 100 * sec, want: Order{}}},
		"pets until the limit and not one interval longer": {
			{what: "told", at: 100 * sec, told: 101 * sec, want: pet},
			{what: "petted", said: &Device{4 * time.Second, time.Millisecond}, want: rest(500)},
			{what: "too early", at: 100*sec + sec/4, want: rest(250)},
			{what: "an interval later", at: 100*sec + sec/2, want: pet},
			{what: "petted again", said: &Device{4 * time.Second, time.Millisecond}, want: rest(500)},
			{what: "at the limit", at: 101 * sec, want: pet},
			{what: "petted at the limit", said: &Device{4 * time.Second, time.Millisecond}, want: rest(500)},
			{what: "a nanosecond after the limit", at: 101*sec + sec/2 + 1, want: rest(500)},
			{what: "the limit moves", told: 103 * sec, want: pet},
		},
		"no pet begins a nanosecond after the limit": {
			{what: "told", at: 101*sec + 1, told: 101 * sec, want: rest(500)},
		},
		"a pet that came late is made good": {
			{what: "told", at: 100 * sec, told: 102 * sec, want: pet},
			{what: "petted", said: &whole, want: rest(500)},
			{what: "stopped in the next pet", at: 101 * sec, want: pet},
			{what: "it came 1.5 s late", at: 103*sec + sec/2, said: &whole, want: Order{Do: Shorten, Timeout: 2500 * time.Millisecond}},
			{what: "shortened", said: &two, want: rest(500)},
			{what: "left alone", at: 104 * sec, want: rest(500)},
			{what: "told more: the timeout is whole again", told: 110 * sec, want: Order{Do: Restart, Timeout: 4 * time.Second}},
			{what: "whole", said: &whole, want: rest(500)},
			{what: "as ever", at: 105 * sec, want: pet},
		},
		"as late as the device lets it, it is still made good in whole seconds": {
			{what: "told", at: 100 * sec, told: 101 * sec, want: pet},
			{what: "petted", said: &whole, want: rest(500)},
			// The device fires at 104, and a later pet is due at 105.
			{what: "the last pet waits for the limit", at: 100*sec + sec/2, want: rest(375)},
			{what: "the last pet", at: 100*sec + 7*sec/8, want: pet},
			{what: "it came right before the device fired", at: 104*sec - 1, said: &whole, want: Order{Do: Shorten, Timeout: time.Second + 1}},
			{what: "shortened", said: &one, want: rest(500)},
			{what: "left alone", at: 104*sec + sec/2, want: rest(500)},
		},
		"a pet that could not be made good does not begin": {
			{what: "told", at: 100 * sec, told: 101*sec - 1, want: pet},
			{what: "petted", said: &whole, want: rest(500)},
			// The device fires at 104; petted then, it could not be set to 0.999999999 s.
			{what: "near the limit", at: 100*sec + sec/2, want: rest(500)},
		},
		"the last pet does not wait for the limit when the timer is about to end": {
			{what: "told", at: 100 * sec, told: 101 * sec, want: pet},
			{what: "petted", said: &whole, want: rest(500)},
			{what: "told more late, and little", at: 103 * sec, told: 104*sec - sec/10, want: pet},
		},
		"a device that took longer than it should have is made good later": {
			{what: "told", at: 100 * sec, told: 101 * sec, want: pet},
			{what: "failed, perhaps after the restart", at: 102 * sec, err: errors.New("no answer"), want: rest(500)},
			{what: "once more", at: 102*sec + sec/2, want: Order{Do: Shorten, Timeout: 2500 * time.Millisecond}},
			{what: "shortened", said: &two, want: rest(500)},
		},
		"what can not be shortened further is left alone": {
			{what: "told", at: 100 * sec, told: 101 * sec, want: pet},
			{what: "opened far too late", at: 106 * sec, said: &whole, want: Order{Do: Shorten, Timeout: time.Second}},
			{what: "shortened", said: &one, want: rest(500)},
			{what: "left alone", at: 106*sec + sec/2, want: rest(500)},
		},
	} {
		t.Run(name, func(t *testing.T) { play(t, New(4*time.Second, whole), steps) })
	}
}

func TestResumedKeeper(t *testing.T) {
	d := Device{4 * time.Second, time.Second}
	k := New(4*time.Second, d)
	k.Resume(100*sec, 103*sec, 4*time.Second)
	if o := k.Ask(100 * sec); o.Do != Restart || !k.Armed() || k.Limit() != 103*sec {
		t.Errorf("resumed in time: %+v", o)
	}
	k = New(4*time.Second, d)
	k.Resume(100*sec, 100*sec+sec/2, 4*time.Second)
	if o := k.Ask(100 * sec); o.Do != Nothing {
		t.Errorf("resumed right before the limit: %+v: a late pet could not be made good", o)
	}
	k = New(4*time.Second, d)
	k.Resume(100*sec, 0, 4*time.Second)
	if o := k.Ask(100 * sec); o != (Order{}) || !k.Armed() {
		t.Errorf("resumed without a limit: %+v", o)
	}
	k.Disarmed()
	if k.Armed() || k.Limit() != 0 {
		t.Errorf("disarmed: %+v", k)
	}
}

// dog is a device in true time, with timeouts in steps.
type dog struct {
	step, least, timeout time.Duration
	due                  cluster.Instant // 0: it does not run
}

func (d *dog) does() Device { return Device{d.timeout, d.least} }

// do carries an order out at the instant.
func (d *dog) do(o Order, at cluster.Instant) {
	if o.Timeout > 0 {
		d.timeout = max(o.Timeout/d.step*d.step, d.least)
	}
	d.due = at.Add(d.timeout)
}

// The promise, for devices of all kinds and random histories of a caller that is
// stopped once per pet, for as long as the device lets it: no pet begins after the
// limit, and the reset comes by L + W. One that is never stopped and told new
// limits in time is not reset.
func TestTheResetComesByThePromise(t *testing.T) {
	for _, d := range []dog{
		{step: time.Millisecond, least: time.Millisecond},
		{step: time.Second, least: time.Second},
		{step: time.Second, least: 2 * time.Second},
		{step: 5 * time.Second, least: 5 * time.Second},
		{step: time.Hour, least: 60 * time.Second}, // one fixed timeout
	} {
		for _, want := range []time.Duration{time.Second, 3 * time.Second, 4 * time.Second, 30 * time.Second} {
			for _, stops := range []bool{false, true} {
				t.Run(fmt.Sprintf("least %v, want %v, stops %v", d.least, want, stops), func(t *testing.T) {
					late := 0
					for seed := range uint64(40) {
						late += random(t, seed, d, want, stops)
					}
					if stops && late < 5 {
						t.Errorf("only %d pets came late: the test tests nothing", late)
					}
				})
			}
		}
	}
}

// random plays one history until the reset, and returns how many pets came late.
func random(t *testing.T, seed uint64, d dog, want time.Duration, stops bool) (late int) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	span := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(max(d, 1)))) }
	d.timeout = max(want/d.step*d.step, d.least)
	k := New(want, d.does())
	now := 1000 * sec
	w := k.Promise()
	var begun cluster.Instant // of the last pet
	// Limits move every period until the agent dies. A period is such that, as in
	// the safety model, pets go on for two periods after the last.
	period := max(w/3, 2*time.Second)
	told, dies := now, now.Add(span(10*period))
	for d.due == 0 || now < d.due {
		if now >= told && now < dies {
			told = now.Add(period)
			k.Told(now.Add(2 * period))
		}
		o := k.Ask(now)
		if o.Do == Nothing {
			pass := min(max(o.Wait, time.Millisecond), max(told.Sub(now), time.Millisecond))
			if d.due != 0 && now.Add(pass) > d.due {
				pass = d.due.Sub(now)
			}
			now = now.Add(pass)
			continue
		}
		if o.Do == Restart && now > k.Limit() {
			t.Fatalf("seed %d: a pet begins %v after the limit", seed, now.Sub(k.Limit()))
		}
		if stops && o.Do == Restart && d.due != 0 && rnd.IntN(4) == 0 {
			stop := span(d.due.Sub(now)) // later, and the host is reset
			if rnd.IntN(2) == 0 {
				stop = d.due.Sub(now) - 1
			}
			now = now.Add(stop)
		}
		begun = now
		d.do(o, now)
		if o.Do == Restart && now > k.Limit() {
			late++
		}
		k.Answered(o, now, d.does(), nil)
	}
	if k.Limit() == 0 || d.due > k.Reset() || k.Excess() > 0 {
		t.Fatalf("seed %d: reset %v after L + W, by its own word %v", seed, d.due.Sub(k.Reset()), k.Excess())
	}
	if lost := k.Reset().Sub(d.due); !stops && (now < dies || lost > max(w-d.timeout, 0)+d.least+k.Interval()) {
		t.Fatalf("seed %d: reset at %v, %v before L + W; limits came until %v, the last pet at %v", seed, d.due, lost, dies, begun)
	}
	return late
}
