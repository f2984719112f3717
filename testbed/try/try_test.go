package try

import (
	"runtime"
	"testing"
	"time"
)

// timed is a test whose binary ends at a time.
type timed struct {
	testing.TB
	at time.Time
}

func (t timed) Deadline() (time.Time, bool) { return t.at, !t.at.IsZero() }

func TestAWaitEndsBeforeTheTestBinary(t *testing.T) {
	for name, c := range map[string]struct {
		in         testing.TB
		least, max time.Duration // from now
	}{
		"a long time":              {timed{t, time.Now().Add(20 * time.Minute)}, 19 * time.Minute, 20*time.Minute - last},
		"little is left":           {timed{t, time.Now().Add(20 * time.Second)}, 0, 15 * time.Second},
		"no limit":                 {timed{t, time.Time{}}, unlimited - time.Minute, unlimited},
		"can not be asked":         {struct{ testing.TB }{t}, unlimited - time.Minute, unlimited},
		"it should be over by now": {timed{t, time.Now().Add(-time.Second)}, -time.Minute, 0},
	} {
		if got := time.Until(end(c.in)); got < c.least || got > c.max {
			t.Errorf("%s: it ends in %s, want between %s and %s", name, got, c.least, c.max)
		}
	}
}

func TestUntilWaits(t *testing.T) {
	n := 0
	Until(t, "the third look", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("it looked %d times", n)
	}
}

// TestUntilSaysWhatItWaitedFor: before the binary ends.
func TestUntilSaysWhatItWaitedFor(t *testing.T) {
	said := &failing{timed: timed{t, time.Now().Add(50 * time.Millisecond)}}
	done := make(chan bool)
	go func() {
		defer close(done)
		Until(said, "what never comes", func() bool { return false })
	}()
	<-done
	if said.format != "waited %s for %s" {
		t.Errorf("it ended with %q", said.format)
	}
}

// failing remembers what ended it.
type failing struct {
	timed
	format string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, _ ...any) {
	f.format = format
	runtime.Goexit()
}
