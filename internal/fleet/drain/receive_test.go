package drain

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// TestWhyAGuestStandsStill is told.
func TestWhyAGuestStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		still := vm("a", 100)
		still.State, still.Busy = guests.VMPaused, "paused"
		b.vms = []guests.VM{still, offVM("b")}
		r := b.receiver()
		stop := b.runs(r)
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "x"})
		b.put(carry{UUID: "uuid-b", Name: "b", Start: true})
		time.Sleep(5 * time.Second)
		for uuid, want := range map[string]string{"uuid-a": "virsh resume uuid-a",
			"uuid-b": "it came from h1, which has not told since that it is gone there", "uuid-c": ""} {
			if got := r.Waits(uuid); !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("%s: %q, want %q", uuid, got, want)
			}
		}
		b.set(func() { b.vms[0].State, b.vms[0].Busy = guests.VMRunning, "" })
		time.Sleep(5 * time.Second)
		if got := r.Waits("uuid-a"); got != "" {
			t.Errorf("it runs: %q", got)
		}
		stop()
	})
}

// still is a guest that stands still, complete.
func still(name string) guests.VM {
	v := vm(name, 100)
	v.State, v.Busy = guests.VMPaused, "paused"
	return v
}

// TestReceiverOfAGuestThatStays ends what is complete and stands still, and forgets the word only when
// nothing is left to do.
func TestReceiverOfAGuestThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		hung := still("hung")
		hung.Busy = "libvirtd does not tell about it"
		b.vms = []guests.VM{hung, vm("twice", 100), offVM("off"), still("came")}
		var rev int64
		for _, name := range []string{"hung", "twice", "off", "came"} {
			rev = b.put(carry{UUID: "uuid-" + name, Name: name, Live: true, ID: name, Says: saysStays})
		}
		r := b.receiver()
		b.runs(r)
		b.want("at first", "discard uuid-came", "uuid-hung, uuid-twice")
		for uuid, want := range map[string]string{"uuid-hung": "libvirtd does not tell", "uuid-twice": "end one by virsh destroy uuid-twice"} {
			if got := r.Waits(uuid); !strings.Contains(got, want) {
				t.Errorf("%s: %q", uuid, got)
			}
		}
		b.set(func() {
			b.vms[0].Busy = "paused"
			b.seen["h1"] = report.Seen{Record: report.Record{Host: inventory.Host{Name: "h1"}}, Mod: rev + 1}
		})
		b.want("it tells; the other was moved by hand", "discard uuid-came, discard uuid-hung", "")
	})
}

// TestAGuestThatCameIsReported at once, and not before it is let go on.
func TestAGuestThatCameIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.vms = []guests.VM{still("a"), still("b")}
		r := b.receiver()
		var came []string
		r.Came = func() { came = append(came, b.did()) }
		stop := b.runs(r)
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "1"})
		time.Sleep(5 * time.Second)
		if len(came) > 0 {
			t.Errorf("reported after %q, and it is not let go on yet", came)
		}
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "1", Says: saysGone})
		b.put(carry{UUID: "uuid-b", Name: "b", Live: true, ID: "2", Says: saysGone})
		time.Sleep(5 * time.Second)
		stop()
		if got := strings.Join(came, "; "); got != "resume uuid-a; resume uuid-a, resume uuid-b" &&
			got != "resume uuid-b; resume uuid-b, resume uuid-a" {
			t.Errorf("reported after: %q", got)
		}
	})
}

// TestReceiverReadsAgainBeforeItActs: the source may have said something else since.
func TestReceiverReadsAgainBeforeItActs(t *testing.T) {
	for first, then := range map[says]says{saysGone: saysStays, saysStays: saysGone} {
		synctest.Test(t, func(t *testing.T) {
			b := newInbox(t)
			b.vms = []guests.VM{still("a")}
			b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "1", Says: first})
			b.looks = func() {
				b.looks = nil
				b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "2", Says: then})
			}
			b.run()
			b.want(string(first), map[says]string{saysGone: "resume uuid-a", saysStays: "discard uuid-a"}[then], "")
		})
	}
}

// TestReceiverIsNotHeldUp: a guest that hangs when it is started does not keep others standing still.
func TestReceiverIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.hangs, b.vms = true, []guests.VM{offVM("a"), still("z")}
		rev := b.put(carry{UUID: "uuid-a", Name: "a", Start: true})
		b.put(carry{UUID: "uuid-z", Name: "z", Live: true, ID: "1", Says: saysGone})
		b.seen["h1"] = report.Seen{Mod: rev + 1}
		b.run()
		time.Sleep(time.Second)
		if got := b.did(); got != "resume uuid-z" {
			t.Errorf("at once: %q", got)
		}
		b.set(func() { b.vms = append(b.vms, still("y")) })
		b.put(carry{UUID: "uuid-y", Name: "y", Live: true, ID: "2", Says: saysGone})
		time.Sleep(giveWithin + time.Second)
		if got := b.did(); got != "resume uuid-z, resume uuid-y" {
			t.Errorf("the next one: %q", got)
		}
	})
}

// TestSilentThirdHost: its old report holds a guest, and people are told what to do.
func TestSilentThirdHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.vms = []guests.VM{still("a")}
		b.seen["h3"] = report.Seen{Record: report.Record{Host: inventory.Host{Name: "h3"},
			VMs: []inventory.VM{{UUID: "uuid-a", Running: true}}}, SeenAt: time.Now()}
		r := b.receiver()
		b.runs(r)
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "1", Says: saysGone})
		b.want("h3 reports", "", "uuid-a")
		if got := r.Waits("uuid-a"); got != "paused: h3 reports that it is there, too" {
			t.Errorf("%q", got)
		}
		time.Sleep(20 * time.Minute)
		want := "paused: h3, silent for 20m0s, has reported that it is there, too (if h3 is off for good: holdfast " +
			"host forget h3; or virsh resume uuid-a)"
		if got := r.Waits("uuid-a"); got != want {
			t.Errorf("%q", got)
		}
		b.set(func() { delete(b.seen, cluster.HostID("h3")) })
		b.want("forgotten", "resume uuid-a", "")
	})
}

// TestAForgedWord: a host may say what it likes of a guest that it never had. One that another host reports to run is not
// started here beside it, and a word under a key that is not the guest's is none.
func TestAForgedWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.vms = []guests.VM{offVM("a"), still("z")}
		b.seen["h3"] = report.Seen{Record: report.Record{Host: inventory.Host{Name: "h3"},
			VMs: []inventory.VM{{UUID: "uuid-a", Running: true}}}, SeenAt: time.Now()}
		rev := b.put(carry{UUID: "uuid-a", Name: "a", Start: true})
		b.seen["h1"] = report.Seen{Mod: rev + 1}
		r := b.receiver()
		b.runs(r)
		time.Sleep(20 * time.Second)
		if got := r.Waits("uuid-a"); b.did() != "" || got != "off: h3 reports that it is there, too" {
			t.Errorf("done: %q, waits: %q", b.did(), got)
		}
	})
	value := []byte(`{"uuid":"uuid-z","from":"h4","live":true,"says":"stays"}`)
	if words, errs := readWords([]store.KV{{Key: carryPrefix("h2") + "uuid-x", Value: value}}); len(words) != 0 || len(errs) != 1 {
		t.Errorf("a word under another guest's key: %+v, %v", words, errs)
	}
}
