package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// after runs a scenario of three hosts with fixed delays up to the moment at, and
// returns its world.
func after(t *testing.T, at time.Duration, text string) *World {
	t.Helper()
	s, err := Parse("hosts h1 h2 h3\n" + text + "\nend 1000s")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(s.Hosts)
	table := commands()
	for _, st := range s.Steps {
		do := func() {
			if err := table[st.Words[0]].run(w, st.Words[1:]); err != nil {
				t.Errorf("%v: %v", st.Words, err)
			}
		}
		if st.Before {
			do()
		} else {
			w.queue.push(int64(st.At), do)
		}
	}
	for _, h := range w.hosts {
		h.boot(0)
	}
	w.run(at)
	if len(w.check.found) > 0 {
		t.Fatalf("violation %v", w.check.found)
	}
	return w
}

// age is how long ago by says that it has heard of, as host at knows it.
func (w *World) age(at, by, of cluster.HostID) (time.Duration, bool) {
	a := w.host(at).agent
	a.hear(a.host.clock())
	word, known := a.ears.words[by]
	return a.host.clock().Sub(word.Heard[of]), known
}

// TestWords checks what agents know of one another's hearing.
func TestWords(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name       string
		text       string
		at, by, of cluster.HostID
		least      time.Duration
		most       time.Duration
	}{
		{"all well", "", "h1", "h2", "h3", 0, second / 2},
		{"one way: not heard", "at 10s mute h1 h2", "h3", "h2", "h1", 9 * second, 11 * second},
		{"one way: hears", "at 10s mute h1 h2", "h3", "h1", "h2", 0, second / 2},
		{"the store alone is cut", "at 10s cut h1 store", "h2", "h3", "h1", 0, second / 2},
		{"firewall", "at 10s cut all beats", "h1", "h1", "h2", 9 * second, 11 * second},
		{"sender's agent stuck", "at 10s agent h1 freeze", "h3", "h2", "h1", 9 * second, 11 * second},
		{"never heard since it listens", "at 0s mute h1 h2\nat 14s agent h2 crash", "h2", "h2", "h1", 4 * second, 6 * second},
		{"the listener stood still", "at 10s cut h1 beats\nat 15s freeze h2\nat 19.9s thaw h2", "h2", "h2", "h1", 0, second / 2},
		{"slow", "at 10s slow h1 beats 3s", "h2", "h2", "h1", 0, second / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := after(t, 20*second, c.text)
			age, known := w.age(c.at, c.by, c.of)
			if !known || age < c.least || age > c.most {
				t.Errorf("%s knows of %s that it heard %s %s ago (%t), want %s to %s", c.at, c.by, c.of, age, known, c.least, c.most)
			}
		})
	}
}

// TestForgets checks that an agent which stood still forgets what others said.
func TestForgets(t *testing.T) {
	w := after(t, 15*time.Second, "at 10s freeze h2\nat 12s cut h2 beats")
	w.host("h2").thaw()
	for _, h := range []cluster.HostID{"h1", "h3"} {
		if _, known := w.age("h2", h, "h1"); known {
			t.Errorf("after 5 s without a look at its mail h2 still counts a word of %s", h)
		}
	}
}

// TestDevices checks how orders to fence devices end, by mode.
func TestDevices(t *testing.T) {
	for mode, want := range map[string]struct {
		why  string
		off  bool // 1 s after the answer
		took time.Duration
	}{
		"ok":      {"", true, offLeast + readTakes},
		"slow":    {"", true, fenceSlow + readTakes},
		"dead":    {noAnswer, false, fenceSilent},
		"lies-on": {staysOn, false, offLeast},
		"foreign": {notItsOwn, false, offLeast},
		"late":    {noAnswer, true, fenceSilent},
		"verbose": {longText(), false, offLeast},
	} {
		t.Run(mode, func(t *testing.T) {
			w := after(t, 5*time.Second, "fence h3 "+mode)
			answered := time.Duration(-1)
			why := "none"
			w.host("h3").bmc.switchOff(w.host("h1"), func(s string) { answered, why = time.Duration(w.now)-5*time.Second, s })
			w.run(5*time.Second + want.took + time.Second)
			if why != want.why || answered != want.took || w.host("h3").power == want.off {
				t.Errorf("answer %q after %s, power %t; want %q after %s", why, answered, w.host("h3").power, want.why, want.took)
			}
		})
	}
	if len(bmcModes()) != 7 {
		t.Errorf("modes %v: want each in the table above", bmcModes())
	}
}

// TestDeviceOutOfReach: an order from a host without a network gets no answer.
func TestDeviceOutOfReach(t *testing.T) {
	w := after(t, 5*time.Second, "fence h3 ok\nat 4s isolate h1")
	why := "none"
	w.host("h3").bmc.switchOff(w.host("h1"), func(s string) { why = s })
	w.run(20 * time.Second)
	if why != noAnswer || !w.host("h3").power {
		t.Errorf("answer %q, power %t", why, w.host("h3").power)
	}
}

// TestFenceFailureToldOnce: a failure that repeats is one event.
func TestFenceFailureToldOnce(t *testing.T) {
	w := after(t, 26*time.Second, "fence all ok\nat 2s want run\nat 20s fence h1 lies-on\nat 20s isolate h1")
	n := 0
	for _, l := range w.lines {
		if strings.HasPrefix(l.Text, string(cluster.EvFenceFail)) {
			n++
		}
	}
	if f := w.host("h2").agent.core.Memory.Fences["h1"]; n != 1 || !f.Told || f.Off {
		t.Errorf("%d events, result %+v", n, f)
	}
}

func TestRestoreRefused(t *testing.T) {
	w := after(t, 30*time.Second, "at 2s want run\nat 10s restore 5s\nat 20s quorum off\nat 22.9s restore 5s")
	if w.store.restores != 0 || w.store.gen != 1 {
		t.Errorf("restored %d times, generation %d: the old store answered", w.store.restores, w.store.gen)
	}
}

// TestRestoreContent checks what a restore brings back and what it does not.
func TestRestoreContent(t *testing.T) {
	w := after(t, 24*time.Second, "at 2s want run\nat 15s handsoff on\nat 18s move h2\nat 20s quorum off\nat 23.5s restore 7s")
	s := &w.store
	if s.gen != 2 || s.rev <= restoreJump || len(s.hosts) != 0 || s.owner.State != cluster.Running || s.owner.Host != "h1" {
		t.Errorf("generation %d, revision %d, %d hosts, owner %s on %s", s.gen, s.rev, len(s.hosts), s.owner.State, s.owner.Host)
	}
	if !s.want.HandsOff || s.want.MoveTo != "" {
		t.Errorf("wish %+v: want that of 7 s before", s.want.Want)
	}
}

// TestOlderGeneration: an agent does not follow a store of an older generation
// than its host has seen.
func TestOlderGeneration(t *testing.T) {
	w := after(t, 10*time.Second, "at 5s agent h2 stop")
	h := w.host("h2")
	h.seen = 2
	h.agent.start()
	w.run(15 * time.Second)
	if h.agent.core.Synced {
		t.Error("it follows generation 1, and has seen 2")
	}
	w.store.gen = 2
	w.run(20 * time.Second)
	if !h.agent.core.Synced || h.agent.core.Gen != 2 {
		t.Error("it does not follow the generation that it has seen")
	}
}

// TestHonestWord: nobody says of a host with power that it is off.
func TestHonestWord(t *testing.T) {
	w := after(t, 20*time.Second, "at 10s power h3 off\nat 11s off h3 anna\nat 11s off h2 anna")
	want := []cluster.Off{{Host: "h3", Mod: w.store.hosts["h3"].mod, User: "anna"}}
	if got := w.store.want.Off; !slices.Equal(got, want) || want[0].Mod == 0 {
		t.Errorf("words %v, want %v", got, want)
	}
}
