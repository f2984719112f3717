package output

import (
	"testing"
	"time"
)

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 99 * time.Second: "99s", 100 * time.Second: "1m", 90 * time.Minute: "90m", 25 * time.Hour: "25h", 240 * time.Hour: "10d",
	} {
		if got := Ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
