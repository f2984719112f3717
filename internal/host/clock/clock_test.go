package clock

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBoottimeNeverGoesBack(t *testing.T) {
	last := Boottime()
	for range 1000 {
		now := Boottime()
		if now < last {
			t.Fatalf("went back from %d to %d", last, now)
		}
		last = now
	}
}

// /proc/uptime is CLOCK_BOOTTIME in seconds with two digits.
func TestBoottimeIsUptime(t *testing.T) {
	before := Boottime()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := Boottime()
	field, _, _ := strings.Cut(string(b), " ")
	sec, err := strconv.ParseFloat(field, 64)
	if err != nil {
		t.Fatal(err)
	}
	up := time.Duration(sec * float64(time.Second))
	const digit = 20 * time.Millisecond
	if up < time.Duration(before)-digit || up > time.Duration(after)+digit {
		t.Errorf("uptime %v is not within [%v, %v]", up, time.Duration(before), time.Duration(after))
	}
}
