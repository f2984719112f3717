package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/web/notify/plan"
	"holdfast/internal/web/notify/send"
	"holdfast/testbed/try"
)

// world is a cluster of hosts whose agents tell receivers, in virtual time.
type world struct {
	t   *testing.T
	mem *storetest.Mem
	own *storetest.Client

	mu     sync.Mutex
	cfg    config.Notifications
	sent   []delivery // that a service took
	asked  []delivery // all attempts
	answer func(delivery) error
	events int
}

// delivery is a message that a host hands to a service.
type delivery struct {
	host string
	send.Request
}

// host is the agent of one.
type host struct {
	w      *world
	name   string
	client *storetest.Client
	svc    *Service

	mu    sync.Mutex
	term  int64
	end   context.CancelFunc
	ended sync.WaitGroup
}

func (h *host) Coordinator() (int64, string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.term, records.KeyCoord, h.term != 0
}

func (h *host) InForce(context.Context) (config.Cluster, bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	n := h.w.cfg
	return config.Cluster{Notifications: &n}, true
}

func newWorld(t *testing.T, receivers ...config.Receiver) *world {
	w := &world{t: t, mem: storetest.NewMem(), cfg: config.Notifications{Receivers: receivers}}
	w.own = w.mem.NewClient("test")
	w.answer = func(delivery) error { return nil }
	return w
}

// begin starts the agent of a host, which does not coordinate yet.
func (w *world) begin(name string) *host {
	h := &host{w: w, name: name, client: w.mem.NewClient(name)}
	h.svc = newService(Options{Agent: h, Store: h.client, Host: cluster.HostID(name), Cluster: "prod", Log: slog.New(slog.DiscardHandler),
		Send: func(ctx context.Context, r send.Request) (string, error) { return w.take(ctx, delivery{name, r}) }})
	ctx, cancel := context.WithCancel(w.t.Context())
	h.end = cancel
	h.ended.Go(func() { try.Must(w.t, h.svc.Run(ctx)) })
	return h
}

// take is a service.
func (w *world) take(_ context.Context, d delivery) (string, error) {
	w.mu.Lock()
	w.asked = append(w.asked, d)
	answer := w.answer
	w.mu.Unlock()
	if err := answer(d); err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, d)
	return "ok", nil
}

func (w *world) answers(f func(delivery) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// coordinates makes a host the coordinator; the one before may not know it yet.
func (h *host) coordinates() {
	rev, ok, err := h.w.own.Txn(h.w.t.Context(), nil, []store.Op{{Key: records.KeyCoord, Value: []byte(h.name)}})
	if err != nil || !ok {
		h.w.t.Fatal(ok, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.term = rev
}

func (h *host) steps() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.term = 0
}

// dies ends the process of a host: whatever it does afterwards does not reach the store.
func (h *host) dies() {
	h.client.Partition(true)
	h.steps()
	h.end()
}

// happens writes events into the log.
func (w *world) happens(kinds ...cluster.EventKind) {
	w.t.Helper()
	for _, k := range kinds {
		w.events++
		e := cluster.Event{Time: time.Now().UTC(), Kind: k, By: "h1", Detail: fmt.Sprintf("event %d.", w.events)}
		_, _, err := w.own.Txn(w.t.Context(), nil, []store.Op{{Key: records.LogKey(e, uint64(w.events)), Value: records.Encode(e)}})
		try.Must(w.t, err)
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // of the bubble: nobody waits
	synctest.Wait()
}

func (w *world) sentTo(name string) (out []delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.sent {
		if d.To == name {
			out = append(out, d)
		}
	}
	return out
}

func (w *world) attempts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

func (w *world) state(name string) plan.State {
	w.t.Helper()
	kv, found, err := w.own.Get(w.t.Context(), records.KeyNotify+name)
	if err != nil || !found {
		w.t.Fatal(found, err)
	}
	s, err := records.Decode[plan.State](kv, false)
	try.Must(w.t, err)
	return s
}

// receiver is one whose messages are told apart by To.
func receiver(name string) config.Receiver {
	return config.Receiver{Name: name, Service: config.Mail, Server: "smtp://192.0.2.1", From: "a@example.com", To: name}
}

// in runs a test in virtual time, and ends its hosts.
func in(t *testing.T, f func(t *testing.T, w *world), receivers ...config.Receiver) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, receivers...)
		f(t, w)
	})
}

// numbers are those of the events that messages tell.
func numbers(ds []delivery) (out []string) {
	for _, d := range ds {
		for l := range strings.Lines(d.Body) {
			if _, after, is := strings.Cut(strings.TrimSpace(l), "event "); is {
				out = append(out, strings.TrimSuffix(after, "."))
			}
		}
	}
	return out
}

func (w *world) stop(hosts ...*host) {
	for _, h := range hosts {
		h.end()
	}
	for _, h := range hosts {
		h.ended.Wait()
	}
	w.pass(10 * time.Minute) // attempts under way end
}

func TestAReceiverIsToldWhatHappensFromNowOn(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.happens(cluster.EvTakeover) // before anybody was told
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent, cluster.EvElected, cluster.EvTakeover)
		w.pass(20 * time.Second)
		w.happens(cluster.EvStarted)
		if n := w.attempts(); n != 0 {
			t.Fatalf("%d messages before the grouping interval has passed", n)
		}
		w.pass(time.Minute)
		got := w.sentTo("ops")
		if len(got) != 1 || fmt.Sprint(numbers(got)) != "[2 4 5]" || got[0].Subject != "[prod] critical: 3 events" || got[0].Events != 3 {
			t.Fatalf("%+v, want one message about events 2, 4 and 5", got)
		}
		s := w.state("ops")
		if s.SentID != got[0].ID || s.Message != nil || s.Failing || s.Sent.IsZero() {
			t.Errorf("%+v", s)
		}
		w.pass(time.Hour)
		if n := w.attempts(); n != 1 {
			t.Errorf("%d attempts", n)
		}
	}, receiver("ops"))
}

func TestAStormIsOneMessage(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		for range 500 {
			w.happens(cluster.EvSilent, cluster.EvJoined)
		}
		w.pass(time.Minute)
		got := w.sentTo("ops")
		if len(got) != 1 || got[0].Events != 1000 || !strings.Contains(got[0].Body, " x host-joined") {
			t.Fatalf("%d messages, want one about 1000 events", len(got))
		}
	}, receiver("ops"))
}

func TestAReceiverThatHangsCostsOnlyItsOwnMessages(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		w.answers(func(d delivery) error {
			if d.To == "bad" {
				time.Sleep(send.Longest)
				return errors.New("no answer within 20s")
			}
			return nil
		})
		h.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent)
		w.pass(35 * time.Second)
		if got := w.sentTo("good"); len(got) != 1 {
			t.Fatalf("%d messages while the other receiver hangs, want one", len(got))
		}
		w.pass(5 * time.Minute)
		s := w.state("bad")
		if !s.Failing || s.Why != "no answer within 20s" || s.Message == nil || s.Message.Attempts < 3 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		w.answers(func(delivery) error { return nil })
		w.pass(time.Hour)
		if got := w.sentTo("bad"); len(got) != 1 || numbers(got)[0] != "1" {
			t.Errorf("%+v, want the message once it is well again", got)
		}
		if s := w.state("bad"); s.Failing || s.Why == "" {
			t.Errorf("%+v: it is well, and its last failure is still told", s)
		}
	}, receiver("bad"), receiver("good"))
}

func TestAMessageThatIsGivenUpIsSeenAsLostAndToldToOthers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		w.answers(func(d delivery) error {
			if d.To == "a" || d.To == "b" {
				return errors.New("refused\n<script>")
			}
			return nil
		})
		h.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent)
		w.pass(9 * time.Hour)
		a, b := w.state("a"), w.state("b")
		if a.Lost < 1 || a.LostAt.IsZero() || !a.Failing || a.Message != nil || b.Lost < 1 {
			t.Fatalf("%+v\n%+v", a, b)
		}
		got := w.sentTo("c")
		told := 0
		for _, d := range got {
			told += strings.Count(d.Body, "a message with 1 events was given up after 20 attempts: refused (script>")
		}
		if told != 2 {
			t.Errorf("the third receiver was told %d times, want of both:\n%+v", told, got)
		}
		n := w.attempts()
		w.pass(9 * time.Hour)
		if more := w.attempts(); more != n {
			t.Errorf("%d attempts more: losses lead to messages without end", more-n)
		}
		for _, d := range w.asked {
			if strings.Contains(d.Body, "receiver "+d.To+":") {
				t.Errorf("%s is told of its own loss", d.To)
			}
		}
	}, receiver("a"), receiver("b"), receiver("c"))
}

func TestReceiversThatComeAndGo(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		h := w.begin("h1")
		defer w.stop(h)
		h.coordinates()
		w.pass(5 * time.Second)
		w.happens(cluster.EvSilent)
		w.pass(time.Minute)
		w.mu.Lock()
		w.cfg.Receivers = []config.Receiver{receiver("new")}
		w.mu.Unlock()
		w.pass(5 * time.Second)
		if _, found, err := w.own.Get(t.Context(), records.KeyNotify+"ops"); found || err != nil {
			t.Errorf("the record of a receiver that was removed is there: %t, %v", found, err)
		}
		w.happens(cluster.EvTakeover)
		w.pass(time.Minute)
		if got := w.sentTo("new"); len(got) != 1 || fmt.Sprint(numbers(got)) != "[2]" {
			t.Errorf("%+v, want what has happened since", got)
		}
	}, receiver("ops"))
}

func TestTheFileWithTheSecretIsReadOnTheHost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	r := config.Receiver{Name: "f", Service: config.Feishu, Credential: "file:" + file}
	s := newService(Options{Host: "h2", Cluster: "prod", Log: slog.New(slog.DiscardHandler)})
	if _, err := s.request(r, plan.Text{}, "x"); err == nil ||
		!strings.Contains(err.Error(), "host h2: the file with the secret: open "+file) {
		t.Error(err)
	}
	try.Must(t, os.WriteFile(file, []byte("https://open.feishu.cn/open-apis/bot/v2/hook/abc \r\n key \n"), 0o600))
	got, err := s.request(r, plan.Text{Subject: "s", Body: "b"}, "x")
	if err != nil || got.URL != "https://open.feishu.cn/open-apis/bot/v2/hook/abc" || got.Secret != "key" {
		t.Errorf("%+v, %v", got, err)
	}
	try.Must(t, os.Chmod(file, 0o644))
	if _, err := s.request(r, plan.Text{}, "x"); err == nil || !strings.Contains(err.Error(), "others may read") {
		t.Error(err)
	}
}
