package upgrade

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

func TestLimit(t *testing.T) {
	for text, want := range map[string]int{"1": 1, "3": 3, "10%": 30, "100%": 300, "1%": 3} {
		var l Limit
		if err := l.UnmarshalText([]byte(text)); err != nil || l.Of(300) != want {
			t.Errorf("%s of 300: %d, %v: want %d", text, l.Of(300), err, want)
		}
		if back, err := l.MarshalText(); err != nil || string(back) != text {
			t.Errorf("%s is written as %s, %v", text, back, err)
		}
	}
	if n := (Limit{Percent: 10}).Of(3); n != 1 {
		t.Errorf("10%% of 3 is %d, want at least 1", n)
	}
	for _, text := range []string{"", "0", "-1", "101%", "x", "1.5"} {
		if (&Limit{}).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestWindow(t *testing.T) {
	for text, open := range map[string]string{"22:00-05:30": "22:00 23:59 00:00 05:29", "09:00-17:00": "09:00 16:59",
		"00:00-00:00": "00:00 12:00 23:59"} {
		var w Window
		if err := w.UnmarshalText([]byte(text)); err != nil || w.String() != text {
			t.Errorf("%s: %v, %v", text, w, err)
		}
		for _, at := range []string{"00:00", "05:29", "05:30", "09:00", "12:00", "16:59", "17:00", "21:59", "22:00", "23:59"} {
			when, err := time.Parse("15:04", at)
			want := strings.Contains(open, at) || text == "00:00-00:00" || text == "09:00-17:00" && at == "12:00"
			if err != nil || w.Open(when) != want {
				t.Errorf("%s is open at %s: %v, want %v", text, at, w.Open(when), want)
			}
		}
	}
	for _, text := range []string{"", "22:00", "24:00-01:00", "1-2"} {
		if (&Window{}).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestDecodePlan(t *testing.T) {
	p := mustBuild(t, smallBundle(), smallCluster(), Options{Mode: manifest.Reboot, MaxUnavailable: Limit{Percent: 20},
		Window: Window{60, 120}})
	text, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodePlan(text)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || string(again) != string(text) {
		t.Errorf("the plan changes when it is read and written: %v\n%s\n%s", err, text, again)
	}
	for _, bad := range []string{"", "{}", `{"format":3}`, strings.Replace(string(text), `"id":"h1/drain"`, `"id":"h1/undrain"`, 1)} {
		if _, err := NewPlanner([]byte(bad)); err == nil {
			t.Errorf("%.40s... is taken", bad)
		}
	}
}

// TestMovesAtOnce: hosts that are emptied at the same time share the bound of all
// moves.
func TestMovesAtOnce(t *testing.T) {
	for _, c := range []struct{ hosts, perHost, total, want int }{
		{1, 0, 0, 2}, {1, 4, 3, 3}, {2, 4, 8, 4}, {3, 4, 8, 2}, {5, 2, 3, 1},
	} {
		b := &builder{part: make([]*inventory.Host, 10),
			o: Options{MaxUnavailable: Limit{Count: c.hosts}, ParallelPerHost: c.perHost, ParallelTotal: c.total}}
		b.o.fill()
		if got := b.parallel(); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
