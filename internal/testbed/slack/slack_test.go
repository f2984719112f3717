package slack

import (
	"testing"
	"time"
)

func TestTasks(t *testing.T) {
	for text, want := range map[string]float64{
		"8.03 4.45 2.46 3/146 35\n": 8.03,
		"0.42 0.99 0.50 9/146 35\n": 9,
		"":                          0,
		"x y z w":                   0,
	} {
		if got := tasks(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestFactor(t *testing.T) {
	for text, want := range map[string]float64{
		"0.42 0.99 0.50 1/146 35": 1,
		"8.00 4.45 2.46 3/146 35": 4,
		"97.0 80.0 60.0 9/146 35": most,
		"":                        1,
	} {
		if got := factor(text, 2); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestNoBoundIsShorterThanOnAQuietMachine(t *testing.T) {
	if got := For(time.Second); got < time.Second {
		t.Errorf("a second becomes %s", got)
	}
}
