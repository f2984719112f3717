package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// inbox is h2, to which guests come from h1.
type inbox struct {
	t      *testing.T
	client *storetest.Client // of the receiver
	other  *storetest.Client // of everybody else

	mu    sync.Mutex
	vms   []guests.VM
	seen  map[cluster.HostID]report.Seen
	ready bool
	fails map[string]int // of the next calls of libvirt
	calls []string
	hook  func() // before autostart is set
	looks func() // at the end of a list
	hangs bool   // each start
}

func newInbox(t *testing.T) *inbox {
	t.Helper()
	mem := storetest.NewMem()
	return &inbox{t: t, client: mem.NewClient("h2"), other: mem.NewClient("h1"), seen: map[cluster.HostID]report.Seen{}, ready: true}
}

func (b *inbox) failing(call string) error {
	if b.fails[call] > 0 {
		b.fails[call]--
		return errors.New("libvirtd does not answer")
	}
	return nil
}

func (b *inbox) List(context.Context) ([]guests.VM, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.looks != nil {
		b.looks()
	}
	return slices.Clone(b.vms), b.failing("list")
}

func (b *inbox) Start(ctx context.Context, uuid string, _ guests.StartOptions) error {
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("start"); err != nil {
		return err
	}
	b.calls = append(b.calls, "start "+uuid)
	for i := range b.vms {
		if b.vms[i].UUID == uuid {
			b.vms[i].State = guests.VMRunning
		}
	}
	return nil
}

func (b *inbox) Resume(_ context.Context, uuid string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("resume"); err != nil {
		return err
	}
	b.calls = append(b.calls, "resume "+uuid)
	for i := range b.vms {
		if b.vms[i].UUID == uuid {
			b.vms[i].State, b.vms[i].Busy = guests.VMRunning, ""
		}
	}
	return nil
}

func (b *inbox) Discard(_ context.Context, uuid string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("discard"); err != nil {
		return err
	}
	b.calls = append(b.calls, "discard "+uuid)
	b.vms = slices.DeleteFunc(b.vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	return nil
}

func (b *inbox) SetAutostart(_ context.Context, uuid string, on bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("autostart"); err != nil {
		return err
	}
	if b.hook != nil {
		b.hook()
	}
	b.calls = append(b.calls, fmt.Sprint("autostart ", uuid, " ", on))
	return nil
}

// did are the calls of libvirt that changed something.
func (b *inbox) did() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.calls, ", ")
}

func (b *inbox) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// run runs the receiver until the test ends, or the returned function is called.
func (b *inbox) run() (stop func()) { return b.runs(b.receiver()) }

func (b *inbox) receiver() *Receiver {
	return &Receiver{
		Store: b.client, Host: "h2", Guests: b, Log: slog.New(slog.DiscardHandler),
		Seen: func() (map[cluster.HostID]report.Seen, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			out := map[cluster.HostID]report.Seen{}
			for h, s := range b.seen {
				out[h] = s
			}
			return out, b.ready
		},
	}
}

func (b *inbox) runs(r *Receiver) (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	stop = func() {
		cancel()
		wg.Wait()
	}
	b.t.Cleanup(stop)
	return stop
}

// put writes what a guest carries.
func (b *inbox) put(c carry) (rev int64) {
	b.t.Helper()
	c.From = "h1"
	if err := c.put(b.t.Context(), b.other, "h2"); err != nil {
		b.t.Fatal(err)
	}
	kv, ok, err := b.other.Get(b.t.Context(), "fleet-carry/h2/"+c.UUID)
	if err != nil || !ok {
		b.t.Fatalf("%t, %v", ok, err)
	}
	return kv.ModRev
}

// keys are what is still to be received.
func (b *inbox) keys() string {
	b.t.Helper()
	kvs, _, err := b.other.List(context.Background(), "fleet-carry/")
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, kv := range kvs {
		out = append(out, strings.TrimPrefix(kv.Key, "fleet-carry/h2/"))
	}
	return strings.Join(out, ", ")
}

// want compares after the receiver has had its time.
func (b *inbox) want(when, did, keys string) {
	b.t.Helper()
	time.Sleep(10 * time.Second)
	if got := b.did(); got != did {
		b.t.Errorf("%s: did %q, want %q", when, got, did)
	}
	if got := b.keys(); got != keys {
		b.t.Errorf("%s: keys %q, want %q", when, got, keys)
	}
}

func offVM(name string) guests.VM {
	v := vm(name, 100)
	v.State = guests.VMOff
	return v
}

// TestReceiverStartsWhatHasLeft: a guest is started only when the host that it
// left has said so, after it was sent.
func TestReceiverStartsWhatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.run()
		b.want("nothing comes", "", "")
		rev := b.put(carry{UUID: "uuid-a", Name: "a", Start: true, Autostart: true})
		b.want("it has not come", "", "uuid-a")
		b.set(func() { b.vms = []guests.VM{offVM("a"), offVM("b")} })
		b.want("the source is not known", "", "uuid-a")

		gone := report.Record{Host: inventory.Host{Name: "h1"}, VMs: []inventory.VM{{UUID: "uuid-z"}}}
		listed, trouble := gone, gone
		listed.VMs = []inventory.VM{{UUID: "uuid-z"}, {UUID: "uuid-a"}} // off or not
		trouble.Unobservable = true
		for what, s := range map[string]report.Seen{
			"an old report": {Record: gone, Mod: rev - 1}, "a report of the same moment": {Record: gone, Mod: rev},
			"it is there yet": {Record: listed, Mod: rev + 1}, "nobody knows what is there": {Record: trouble, Mod: rev + 1},
		} {
			b.set(func() { b.seen["h1"] = s })
			b.want(what, "", "uuid-a")
		}
		b.set(func() {
			b.seen["h3"], b.seen["h1"] = report.Seen{Record: gone, Mod: rev + 1}, report.Seen{Record: listed, Mod: rev + 1}
		})
		b.want("another host has not got it", "", "uuid-a")
		b.set(func() { b.seen["h1"], b.ready = report.Seen{Record: gone, Mod: rev + 1}, false })
		b.want("the reports are not read", "", "uuid-a")
		b.set(func() { b.vms[0].Job = "migration" })
		b.want("the reports are not read, and it is on its way", "", "uuid-a")
		b.set(func() { b.ready = true })
		b.want("it is on its way", "", "uuid-a")
		b.set(func() { b.vms[0].Job = "" })
		b.want("it has left", "start uuid-a, autostart uuid-a true", "")
		b.want("later", "start uuid-a, autostart uuid-a true", "")
	})
}

// TestReceiverGivesOthersWhatTheyCarry: guests that run are not started, and need
// nobody's word. Some that never come do not keep the others.
func TestReceiverGivesOthersWhatTheyCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		running := vm("run", 100)
		arriving := vm("arrives", 100)
		arriving.Job = "migration"
		b.vms = []guests.VM{vm("live", 100), running, arriving, vm("stranger", 100)}
		b.put(carry{UUID: "uuid-live", Name: "live", Autostart: true})
		b.put(carry{UUID: "uuid-run", Name: "run", Start: true})
		b.put(carry{UUID: "uuid-arrives", Name: "arrives", Autostart: true})
		b.put(carry{UUID: "uuid-never", Name: "never", Autostart: true, Start: true})
		if _, _, err := b.other.Txn(t.Context(), nil, []store.Op{{Key: "fleet-carry/h2/bad", Value: []byte("{")},
			{Key: "fleet-carry/h20/uuid-stranger", Value: []byte(`{"uuid":"uuid-stranger","autostart":true}`)}}); err != nil {
			t.Fatal(err)
		}
		b.run()
		b.want("at first", "autostart uuid-live true", "bad, uuid-arrives, uuid-never, fleet-carry/h20/uuid-stranger")
		b.set(func() { b.vms[2].Job = "" })
		b.want("later", "autostart uuid-live true, autostart uuid-arrives true", "bad, uuid-never, fleet-carry/h20/uuid-stranger")
		time.Sleep(time.Hour)
		b.want("an hour after", "autostart uuid-live true, autostart uuid-arrives true", "bad, uuid-never, fleet-carry/h20/uuid-stranger")
		// The source takes its word back.
		if err := (carry{UUID: "uuid-never", Start: true}).takeBack(t.Context(), b.other, "h2"); err != nil {
			t.Fatal(err)
		}
		b.want("taken back", "autostart uuid-live true, autostart uuid-arrives true", "bad, fleet-carry/h20/uuid-stranger")
	})
}

// TestReceiverKeepsANewWord: what is written anew meanwhile is not removed with
// what was done.
func TestReceiverKeepsANewWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		b.vms = []guests.VM{vm("a", 100)}
		b.hook = func() {
			b.hook = nil
			value, err := json.Marshal(carry{UUID: "uuid-a", Name: "a", From: "h3", Autostart: true})
			if err == nil {
				_, _, err = b.other.Txn(t.Context(), nil, []store.Op{{Key: "fleet-carry/h2/uuid-a", Value: value}})
			}
			if err != nil {
				t.Error(err)
			}
		}
		b.put(carry{UUID: "uuid-a", Name: "a", Autostart: true})
		b.run()
		b.want("after both", "autostart uuid-a true, autostart uuid-a true", "")
	})
}

// TestReceiverTriesAgain: libvirt and the store may be away for a while.
func TestReceiverTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, call := range []string{"list", "start", "autostart"} {
			b := newInbox(t)
			b.vms, b.fails = []guests.VM{offVM("a"), vm("b", 100)}, map[string]int{call: 3}
			rev := b.put(carry{UUID: "uuid-a", Name: "a", Start: true, Autostart: true})
			b.put(carry{UUID: "uuid-b", Name: "b", Autostart: true})
			b.seen["h1"] = report.Seen{Mod: rev + 1}
			stop := b.run()
			b.want(call+" fails", map[string]string{
				"list":      "start uuid-a, autostart uuid-a true, autostart uuid-b true",
				"start":     "autostart uuid-b true, start uuid-a, autostart uuid-a true", // one does not keep the others
				"autostart": "start uuid-a, autostart uuid-b true, autostart uuid-a true",
			}[call], "")
			stop()
		}

		for what, cut := range map[string]func(*storetest.Client, bool){
			"partitioned": (*storetest.Client).Partition, "refusing": (*storetest.Client).Refuse, "losing replies": (*storetest.Client).LoseReplies,
		} {
			b := newInbox(t)
			b.vms = []guests.VM{vm("a", 100)}
			stop := b.run()
			time.Sleep(5 * time.Second)
			cut(b.client, true)
			b.put(carry{UUID: "uuid-a", Name: "a", Autostart: true})
			time.Sleep(time.Minute)
			cut(b.client, false)
			time.Sleep(20 * time.Second)
			if b.keys() != "" || !strings.Contains(b.did(), "autostart uuid-a true") {
				t.Errorf("%s: did %q, keys %q", what, b.did(), b.keys())
			}
			stop()
		}
	})
}

// TestReceiverEndsWithItsContext: wherever it is. The bubble sees goroutines that
// are left.
func TestReceiverEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, prepare := range map[string]func(*inbox){
			"idle":              func(*inbox) {},
			"something to come": func(b *inbox) { b.put(carry{UUID: "uuid-a", Start: true}) },
			"no store":          func(b *inbox) { b.client.Partition(true) },
			"a store that says no": func(b *inbox) {
				b.client.Refuse(true)
			},
		} {
			b := newInbox(t)
			prepare(b)
			stop := b.run()
			time.Sleep(3 * time.Second)
			began := time.Now()
			stop()
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: it took %s to end", what, took)
			}
		}
	})
}
