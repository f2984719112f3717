package probe

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// within checks that a figure lies between two others.
func within[T int | int64 | time.Duration](t *testing.T, what string, got, least, most T) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: %v, want %v to %v", what, got, least, most)
	}
}

// TestRun is a whole one: guests move, one of them is silent for a while.
func TestRun(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h1", "h2", "h2", "h3"}, func(t *testing.T, w *world) {
		time.Sleep(time.Minute)
		if w.mem.Rev() != 2 || w.sent != 0 {
			t.Errorf("without a run: revision %d, %d packets", w.mem.Rev(), w.sent)
		}
		w.set(func() { w.run = "up1" })
		time.Sleep(time.Minute)
		s, g := w.sum("up1")
		for name, by := range map[string]cluster.HostID{"g1": "h3", "g2": "h1", "g3": "h1", "g4": "h2"} {
			x := g[name]
			if x.By != by || x.Lost != 0 || x.LongestMS != 0 || x.Note != "" {
				t.Errorf("%s: %+v, want one of %s without a loss", name, x, by)
			}
			within(t, name+" sent", x.Sent, 35, 60)
			within(t, name+" unwatched", x.Unwatched, 0, 8*time.Second)
		}
		if len(s.Guests) != 4 || len(s.Losses()) != 4 || s.Left != 0 {
			t.Errorf("summary %+v", s)
		}
		// g2 moves to h3, and is not heard for 3 s.
		w.set(func() { w.dead[addr(2)] = true })
		time.Sleep(3 * time.Second)
		w.set(func() { w.dead[addr(2)] = false; w.seen.VMs[1].Host = "h3" })
		time.Sleep(time.Minute)
		_, g = w.sum("up1")
		if x := g["g2"]; x.Lost != 3 || x.LongestMS < 2990 || x.LongestMS > 3010 || x.By != "h1" || x.Addr != "10.0.0.2" {
			t.Errorf("the guest that has moved: %+v", x)
		}
		if x := g["g3"]; x.Lost != 0 {
			t.Errorf("another guest: %+v", x)
		}
		w.set(func() { w.run = "" })
		time.Sleep(10 * time.Second)
		_, before := w.sum("up1")
		within(t, "sent in the end", before["g4"].Sent, 110, 123)
		rev, sent := w.mem.Rev(), w.sent
		time.Sleep(time.Hour)
		if w.mem.Rev() != rev || w.sent != sent {
			t.Errorf("after the run: revision %d, then %d; %d packets, then %d", rev, w.mem.Rev(), sent, w.sent)
		}
		if _, after := w.sum("up1"); !reflect.DeepEqual(before, after) {
			t.Errorf("the figures of a run that is over change: %v, then %v", before, after)
		}
	})
}

// TestRestartKeepsSums: an agent that is away loses no packets of guests.
func TestRestartKeepsSums(t *testing.T) {
	for _, c := range []struct {
		name        string
		end         func(*world, cluster.HostID)
		least, most time.Duration // unwatched
	}{
		{"stopped", (*world).stop, 39 * time.Second, 42 * time.Second},
		{"crashed", (*world).crash, 39 * time.Second, 52 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
				w.set(func() { w.run = "up1" })
				time.Sleep(30 * time.Second)
				w.set(func() { w.dead[addr(2)] = true })
				time.Sleep(5 * time.Second)
				w.set(func() { w.dead[addr(2)] = false })
				time.Sleep(25 * time.Second)
				_, g := w.sum("up1")
				before := g["g2"]
				if before.Lost != 5 || before.By != "h1" {
					t.Fatalf("before: %+v", before)
				}
				c.end(w, "h1")
				w.set(func() { w.dead[addr(2)] = true }) // nobody looks
				time.Sleep(38 * time.Second)
				w.set(func() { w.dead[addr(2)] = false })
				time.Sleep(2 * time.Second)
				w.start("h1")
				time.Sleep(60 * time.Second)
				_, g = w.sum("up1")
				after := g["g2"]
				if after.Lost != 5 || after.LongestMS != before.LongestMS || !after.First.Equal(before.First) {
					t.Errorf("%+v, then %+v", before, after)
				}
				within(t, "sent", after.Sent, before.Sent+48, before.Sent+72)
				within(t, "unwatched", after.Unwatched-before.Unwatched, c.least, c.most)
				within(t, "all of the time", time.Duration(after.Sent)*time.Second+after.Unwatched, 145*time.Second, 162*time.Second)
			})
		})
	}
}

// TestTimeWithoutARecord: a host that goes down for good, and one that was never there.
func TestTimeWithoutARecord(t *testing.T) {
	inWorld(t, 4, []cluster.HostID{"h1", "h2", "h3"}, func(t *testing.T, w *world) {
		w.crash("h4")
		w.set(func() { w.run = "up1" })
		time.Sleep(time.Minute)
		w.crash("h2")
		time.Sleep(5 * time.Minute)
		_, g := w.sum("up1")
		if x := g["g1"]; x.By != "h4" || x.Sent != 0 || !strings.Contains(x.Note, "host h4") {
			t.Errorf("of the host that was never there: %+v", x)
		}
		within(t, "unwatched by h4", g["g1"].Unwatched, 340*time.Second, 360*time.Second)
		if x := g["g3"]; x.By != "h2" || x.Lost != 0 || x.Sent < 30 {
			t.Errorf("of the host that went down: %+v", x)
		}
		within(t, "unwatched by h2", g["g3"].Unwatched, 290*time.Second, 320*time.Second)
		within(t, "unwatched by h1", g["g2"].Unwatched, 0, 10*time.Second)
	})
}

// TestNewRunRemovesOldOnes: also what a host writes that has not noticed yet.
func TestNewRunRemovesOldOnes(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.put(keyAll+"older/plan", `{}`)
		w.put(keyAll+"older/h9", `{}`)
		w.put(keyAddrs+"h9", `{"run":"older"}`)
		w.set(func() { w.run = "up1" })
		time.Sleep(30 * time.Second)
		keys := slices.Sorted(maps.Keys(w.keys()))
		id := strings.Split(keys[5], "/")[3]
		want := []string{keyAddrs + "h1", keyAddrs + "h2", runKey("up1") + "h1", runKey("up1") + "h2", planKey("up1"),
			partKeys("up1", id) + "h1", partKeys("up1", id) + "h2", clockKey("up1")}
		if !slices.Equal(keys, want) {
			t.Errorf("%q, want %q", keys, want)
		}
		w.hosts["h2"].client.HoldWrites(true)
		time.Sleep(15 * time.Second)
		w.set(func() { w.run = "up2" })
		time.Sleep(5 * time.Second)
		w.hosts["h2"].client.HoldWrites(false) // what is on its way arrives
		time.Sleep(30 * time.Second)
		for key := range w.keys() {
			if strings.HasPrefix(key, runKey("up1")) {
				t.Errorf("%s is there", key)
			}
		}
		if _, err := Sum(t.Context(), w.mem.NewClient("test"), "up1"); !errors.Is(err, ErrNone) {
			t.Errorf("of an old run: %v", err)
		}
		if _, g := w.sum("up2"); g["g1"].Sent < 10 || g["g2"].Sent < 10 {
			t.Errorf("the new run: %+v", g)
		}
	})
}

// TestPlanInParts: what a coordinator has written that ended before the plan was whole
// does not stay, neither when another one makes the plan nor when the run ends before.
// The parts of a plan that is there are left alone.
func TestPlanInParts(t *testing.T) {
	parts := func(w *world) (out []string) {
		for key := range w.keys() {
			if strings.HasPrefix(key, planKey("up1")) {
				out = append(out, key)
			}
		}
		return out
	}
	unread := func(w *world) { // h1 measures, and the run ends before it has read anything
		w.hosts["h1"].client.Refuse(true)
		w.set(func() { w.run = "up1" })
		time.Sleep(10*time.Second + step/2) // between two steps of the host: one that had begun would make the plan
		w.set(func() { w.run = "" })
		w.hosts["h1"].client.Refuse(false)
		time.Sleep(20 * time.Second)
	}
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.put(partKeys("up1", "cut")+"h1", `{}`)
		w.put(partKeys("up1", "cut")+"h9", `{}`)
		w.set(func() { w.run = "up1" })
		time.Sleep(20 * time.Second)
		if got := parts(w); len(got) != 3 || strings.Contains(fmt.Sprint(got), "cut") {
			t.Errorf("%q", got)
		}
		w.set(func() { w.run = "" })
		w.stop("h1")
		w.start("h1")
		unread(w)
		if got := parts(w); len(got) != 3 {
			t.Errorf("when the run ends: %q", got)
		}
	})
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.put(partKeys("up1", "cut")+"h1", `{}`)
		unread(w)
		if got := parts(w); len(got) > 0 {
			t.Errorf("of a run that was not measured: %q", got)
		}
	})
}

// TestCoordinators: only one makes a plan, and its successor keeps it. One that was
// deposed does nothing.
func TestCoordinators(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h1", "h2", "h3"}, func(t *testing.T, w *world) {
		w.set(func() { w.term--; w.run = "up1" }) // it does not know yet that another one was elected
		time.Sleep(20 * time.Second)
		for key := range w.keys() {
			if !strings.HasPrefix(key, keyAddrs) {
				t.Errorf("a deposed coordinator has written %s", key)
			}
		}
		w.put(coordKey, "h2")
		w.set(func() { w.lead = "h2" })
		time.Sleep(20 * time.Second)
		_, g := w.sum("up1")
		w.put(coordKey, "h3")
		w.set(func() { w.lead = "h3"; w.seen.VMs[0].Host = "h2" })
		w.stop("h3")
		w.start("h3")
		time.Sleep(20 * time.Second)
		_, h := w.sum("up1")
		for name, x := range h {
			if x.By != g[name].By || x.Sent < g[name].Sent+5 { // a record is up to 10 of the 20 seconds old
				t.Errorf("%s: %+v, then %+v", name, g[name], x)
			}
		}
	})
}

// TestStoreFaults: no packet is counted twice, and none is forgotten.
func TestStoreFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		on   func(*member, bool)
	}{
		{"lost answers", func(m *member, on bool) { m.client.LoseReplies(on) }},
		{"late writes", func(m *member, on bool) { m.client.HoldWrites(on) }},
		{"no leader", func(m *member, on bool) { m.client.Refuse(on) }},
		{"cut off", func(m *member, on bool) { m.client.Partition(on) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
				w.set(func() { w.run = "up1" })
				time.Sleep(20 * time.Second)
				for range 3 {
					c.on(w.hosts["h1"], true)
					w.set(func() { w.dead[addr(2)] = true })
					time.Sleep(20 * time.Second)
					w.set(func() { w.dead[addr(2)] = false })
					time.Sleep(5 * time.Second)
					c.on(w.hosts["h1"], false)
					time.Sleep(15 * time.Second)
				}
				time.Sleep(20 * time.Second)
				_, g := w.sum("up1")
				x := g["g2"]
				within(t, "lost", x.Lost, 60, 60)
				within(t, "sent", x.Sent, 135, 162)
				within(t, "unwatched", x.Unwatched, 0, 10*time.Second)
			})
		})
	}
}

// TestWriteOfThePredecessor: what a process has sent arrives when the next one has
// begun, whose own counts come on top.
func TestWriteOfThePredecessor(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(25 * time.Second)
		old := w.hosts["h1"].client
		old.HoldWrites(true)
		w.stop("h1") // its last word is on its way
		w.start("h1")
		time.Sleep(5 * time.Second)
		w.hosts["h1"].client.HoldWrites(true)
		time.Sleep(10 * time.Second)
		old.HoldWrites(false)
		w.hosts["h1"].client.HoldWrites(false)
		time.Sleep(25 * time.Second)
		_, g := w.sum("up1")
		x := g["g2"]
		if x.Lost != 0 {
			t.Errorf("%+v", x)
		}
		within(t, "all of the time", time.Duration(x.Sent)*time.Second+x.Unwatched, 52*time.Second, 67*time.Second)
		within(t, "unwatched", x.Unwatched, 0, 12*time.Second)
	})
}

// TestManyGuests: 200 are pinged by a host, and all records stay small.
func TestManyGuests(t *testing.T) {
	var guests []cluster.HostID
	for range 450 {
		guests = append(guests, "h2")
	}
	guests = append(guests, "h1")
	inWorld(t, 2, guests, func(t *testing.T, w *world) {
		w.set(func() {
			w.run = "up1"
			for i := range w.seen.VMs {
				u := fmt.Sprintf("98000000-0000-4000-8000-%012d", i)
				w.seen.VMs[i].UUID = u
				w.seen.VMs[i].Name = fmt.Sprintf("%03d", i) + strings.Repeat("<é\x00", 80)
				w.addrs[u] = []netip.Addr{addr(1000 + i), netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"),
					netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:7777"), netip.MustParseAddr("fe80::1")}
			}
		})
		time.Sleep(3 * time.Minute)
		s, _ := w.sum("up1")
		sizes := w.keys()
		t.Logf("%d bytes of a plan, %d of addresses, %d of a record; %d guests, %d left out", sizes[planKey("up1")],
			sizes[addrKey("h2")], sizes[runKey("up1")+"h1"], len(s.Guests), s.Left)
		if n := len(s.Guests); n+s.Left != 451 || n > 201 || n < 100 {
			t.Errorf("%d guests, %d left out", n, s.Left)
		}
		for _, g := range s.Guests {
			if g.Sent < 100 || g.Lost != 0 {
				t.Fatalf("%+v", g)
			}
		}
	})
}

// TestAddresses: which one is pinged is found out, and changes when it must.
func TestAddresses(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h2", "h2", "h2", "h2", "h2"}, func(t *testing.T, w *world) {
		v6 := netip.MustParseAddr("2001:db8::1")
		w.set(func() {
			w.addrs["u1"] = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.1.1"), v6, addr(11), addr(12)}
			w.dead[addr(11)] = true
			w.dead[addr(2)] = true // a firewall
			w.addrs["u3"] = nil
			w.hung["u4"] = true
			w.run = "up1"
		})
		time.Sleep(2 * time.Minute)
		_, g := w.sum("up1")
		if x := g["g1"]; x.Addr != addr(12).String() || x.Lost != 0 || x.Sent < 90 {
			t.Errorf("one of several: %+v", x)
		}
		for _, n := range []string{"g2", "g3", "g4"} {
			if x := g[n]; x.Addr != "" || x.Sent != 0 || x.Lost != 0 || x.Note == "" || x.Unwatched < 100*time.Second {
				t.Errorf("one that never answers: %+v", x)
			}
		}
		if x := g["g5"]; x.Sent < 90 {
			t.Errorf("one beside a guest that hangs: %+v", x)
		}
		// g5 starts anew with another address; g3 gets one.
		w.set(func() {
			w.addrs["u5"], w.dead[addr(5)] = []netip.Addr{addr(55)}, true
			w.addrs["u3"] = []netip.Addr{addr(3)}
		})
		time.Sleep(4 * time.Minute)
		_, h := w.sum("up1")
		if x := h["g3"]; x.Addr != addr(3).String() || x.Sent < 180 || x.Lost != 0 || x.Note != "" {
			t.Errorf("one whose address came late: %+v", x)
		}
		x := h["g5"]
		if x.Addr != addr(55).String() || !x.First.Equal(g["g5"].First) || x.LongestMS != 1000*x.Lost {
			t.Errorf("one whose address has changed: %+v", x)
		}
		within(t, "lost", x.Lost, 30, 110)
		within(t, "sent", x.Sent, g["g5"].Sent+215, g["g5"].Sent+245)
	})
}

// TestGuestOfADeadHost: it was started elsewhere, with another address; what the
// dead host has told last is of no use.
func TestGuestOfADeadHost(t *testing.T) {
	inWorld(t, 3, []cluster.HostID{"h2"}, func(t *testing.T, w *world) {
		w.set(func() { w.run = "up1" })
		time.Sleep(time.Minute)
		w.crash("h2")
		w.set(func() {
			w.dead[addr(1)], w.addrs["u1"] = true, []netip.Addr{addr(9)}
			w.seen.Hosts[1].Up = false
			w.seen.VMs = append(w.seen.VMs, VM{Name: "g1", UUID: "u1", Host: "h3", Running: true})
			slices.Reverse(w.seen.VMs)
		})
		time.Sleep(2 * time.Minute)
		_, g := w.sum("up1")
		x := g["g1"]
		if x.Addr != addr(9).String() || x.By != "h1" {
			t.Errorf("%+v", x)
		}
		within(t, "lost", x.Lost, 29, 50)
		within(t, "sent", x.Sent, 140, 180)
	})
}

// TestNoSockets: a host that can not ping says so.
func TestNoSockets(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h1", "h2"}, func(t *testing.T, w *world) {
		w.set(func() { w.run, w.nic = "up1", errors.New("operation not permitted") })
		time.Sleep(45 * time.Second)
		_, g := w.sum("up1")
		if x := g["g1"]; !strings.Contains(x.Note, "operation not permitted") || x.Unwatched < 30*time.Second {
			t.Errorf("%+v", x)
		}
		w.set(func() { w.nic = nil })
		time.Sleep(45 * time.Second)
		if _, g = w.sum("up1"); g["g1"].Note != "" || g["g1"].Sent < 20 {
			t.Errorf("%+v", g["g1"])
		}
	})
}

func TestAssignment(t *testing.T) {
	vm := func(n string, h cluster.HostID, on bool) VM { return VM{Name: n, UUID: "u" + n, Host: h, Running: on} }
	for _, c := range []struct {
		name string
		seen Seen
		want string
	}{
		{"nothing", Seen{}, ""},
		{"alone", Seen{[]Host{{"h1", true}}, []VM{vm("a", "h1", true)}}, "h1>h1:a "},
		{"a ring", Seen{[]Host{{"h3", true}, {"h1", true}, {"h2", true}},
			[]VM{vm("b", "h1", true), vm("a", "h1", true), vm("c", "h3", true)}}, "h2>h3:c h3>h1:ab "},
		{"a host is down", Seen{[]Host{{"h1", true}, {"h2", false}, {"h3", true}}, []VM{vm("b", "h2", true), vm("c", "h3", true)}}, "h1>h3:c "},
		{"said of a host that died, too", Seen{[]Host{{"h1", false}, {"h2", true}}, []VM{vm("a", "h1", true), vm("a", "h2", true)}}, "h2>h2:a "},
		{"off, and defined twice", Seen{[]Host{{"h1", true}, {"h2", true}},
			[]VM{vm("b", "h1", false), vm("b", "h2", true), vm("d", "h1", true), vm("d", "h2", true)}}, "h1>h2:b h2>h1:d "},
		{"a host called plan", Seen{[]Host{{"plan", true}, {"h1", true}}, []VM{vm("a", "h1", true), vm("b", "plan", true)}}, "h1>h1:a "},
	} {
		got := ""
		out := assign(c.seen, nil)
		for _, h := range slices.Sorted(maps.Keys(out)) {
			got += fmt.Sprintf("%s>%s:", h, out[h].Of)
			for _, n := range out[h].Guests {
				got += n.Name
			}
			got += " "
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSumOfStrangeRecords: names that are used twice, and records that are none.
func TestSumOfStrangeRecords(t *testing.T) {
	inWorld(t, 1, nil, func(t *testing.T, w *world) {
		for _, run := range []string{"", "addr", "a/b", "none"} {
			if _, err := Sum(t.Context(), w.mem.NewClient("test"), run); !errors.Is(err, ErrNone) {
				t.Errorf("run %q: %v", run, err)
			}
		}
		w.put(planKey("r"), `{"run":"r","id":"x","began":"2000-01-01T00:00:00Z","guests":2}`)
		w.put(partKeys("r", "x")+"h1", `{"of":"h2","guests":[{"uuid":"u1","name":"a"},{"uuid":"u2","name":"a"}]}`)
		w.put(partKeys("r", "y")+"h1", `{"of":"h2","guests":[{"uuid":"u3","name":"b"}]}`)
		w.put(recordKey("r", "h1"), `{"run":"r","host":"h1","by":"z","at":"2000-01-01T00:01:00Z","guests":[{"uuid":"u2","addr":"10.0.0.1","sent":9,"lost":2,"longest":400}]}`)
		s, _ := w.sum("r")
		got := fmt.Sprint(s.Losses())
		if want := "[{a (u1) 0 0 0 0 it has never answered, or no address of it is known} {a (u2) 9 2 400 0 }]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		w.put(recordKey("r", "h1"), `{`)
		if s, _ := w.sum("r"); len(s.Guests) != 2 || !strings.Contains(s.Guests[0].Note, "can not be read") || s.Guests[1].Sent != 0 {
			t.Errorf("counts that can not be read: %+v", s)
		}
		w.put(partKeys("r", "x")+"h1", `{`) // the coordinator's own
		if _, err := Sum(t.Context(), w.mem.NewClient("test"), "r"); err == nil {
			t.Error("a plan that can not be read is no error")
		}
		refused := w.mem.NewClient("test")
		refused.Refuse(true)
		if _, err := Sum(t.Context(), refused, "r"); !errors.Is(err, store.ErrRetry) {
			t.Errorf("without a store: %v", err)
		}
	})
}
