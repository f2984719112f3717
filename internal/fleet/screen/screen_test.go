package screen

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/rfb"
	"holdfast/testbed/try"
)

const (
	managed = "00000000-0000-4000-8000-00000000000a"
	here    = "00000000-0000-4000-8000-000000000001"
	there   = "00000000-0000-4000-8000-000000000002"
	off     = "00000000-0000-4000-8000-000000000003"
	silent  = "00000000-0000-4000-8000-000000000004"
	both    = "00000000-0000-4000-8000-000000000005" // it has moved: its old host is silent
)

// stage is a Service on h1 with what it asks.
type stage struct {
	*Service
	mem    *storetest.Mem
	guest  *rfb.Server
	status cluster.Status
	asked  []string
	fails  error
}

func newStage(t *testing.T) *stage {
	t.Helper()
	x := &stage{mem: storetest.NewMem(), guest: rfb.New(t)}
	vm := func(uuid string, runs bool) inventory.VM {
		return inventory.VM{Name: "vm<" + uuid[35:], UUID: uuid, Running: runs}
	}
	host := func(at time.Time, vms ...inventory.VM) report.Seen {
		return report.Seen{Record: report.Record{VMs: vms}, SeenAt: at}
	}
	now := time.Now()
	seen := map[cluster.HostID]report.Seen{
		"h1": host(now, vm(here, true), vm(off, false)), "h2": host(now, vm(there, true), vm(both, true)),
		"h3": host(now.Add(-time.Hour), vm(silent, true), vm(both, true)),
	}
	x.Service = &Service{
		Host: "h1", Store: x.mem.NewClient("h1"), Status: func() cluster.Status { return x.status }, Managed: managed,
		Seen: func() (map[cluster.HostID]report.Seen, bool) { return seen, true }, Log: slog.New(slog.DiscardHandler),
		Open: func(_ context.Context, uuid string) (net.Conn, error) {
			x.asked = append(x.asked, "h1 "+uuid)
			return x.guest.Dial(), x.fails
		},
		Reach: func(h cluster.HostID) (Peer, error) { return peer{x, h}, x.fails },
	}
	return x
}

// peer is the agent of another host.
type peer struct {
	*stage
	host cluster.HostID
}

func (p peer) ServeScreen(_ context.Context, uuid string) (io.ReadWriteCloser, error) {
	p.asked = append(p.asked, string(p.host)+" "+uuid)
	return p.guest.Dial(), nil
}

// told are the events.
func (x *stage) told(t *testing.T) (out []cluster.Event) {
	t.Helper()
	kvs, _, err := x.Store.List(t.Context(), records.KeyLog)
	try.Must(t, err)
	for _, kv := range kvs {
		e, err := records.Decode[cluster.Event](kv, false)
		try.Must(t, err)
		out = append(out, e)
	}
	return out
}

// TestOpenScreen: a screen is opened where the guest runs, and who has, and has closed it, is in the events, once.
func TestOpenScreen(t *testing.T) {
	x := newStage(t)
	x.status.Owner = cluster.Owner{State: cluster.Running, Host: "h2"}
	for guest, host := range map[string]cluster.HostID{here: "h1", there: "h2", both: "h2", managed: "h2", string(cluster.MgmtVM): "h2"} {
		x.asked = nil
		before := len(x.told(t))
		h, name, s, err := x.OpenScreen(t.Context(), "alice (console, 192.0.2.1)", guest)
		try.Must(t, err)
		uuid := guest
		if guest == string(cluster.MgmtVM) {
			uuid = managed
		}
		if h != host || name == "" || !slices.Equal(x.asked, []string{string(host) + " " + uuid}) {
			t.Errorf("%s: on %s, %q, asked %q", guest, h, name, x.asked)
		}
		if _, _, _, err := rfb.Look(s); err != nil {
			t.Error(err)
		}
		try.Must(t, s.Close())
		try.Must(t, errorsOf(s.Close()))
		all := x.told(t)[before:]
		if len(all) != 2 {
			t.Fatalf("%s: %d events", guest, len(all))
		}
		for i, how := range []string{"was opened", "was closed after 0s"} {
			e := all[i]
			if e.Kind != cluster.EvScreen || e.User != "alice (console, 192.0.2.1)" || e.By != "h1" || e.Host != host ||
				!strings.HasSuffix(e.Detail, "("+uuid+") "+how) || !strings.HasPrefix(e.Detail, "the screen of "+name) {
				t.Errorf("%+v", e)
			}
		}
	}
}

// errorsOf leaves out that a pipe was closed before.
func errorsOf(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// TestNoScreen: what is so is told in a sentence, and nothing is noted.
func TestNoScreen(t *testing.T) {
	x := newStage(t)
	refused := func(guest string, kind fail.Kind, text string) {
		t.Helper()
		_, _, _, err := x.OpenScreen(t.Context(), "alice", guest)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, text) {
			t.Errorf("%s: %v, want %s with %q", guest, err, kind, text)
		}
	}
	refused(off, fail.Refused, "is shut off")
	refused(silent, fail.Unavailable, "is on host h3, which is not heard since 1h0m")
	refused("nobody", fail.Invalid, `guest "nobody": no host tells of one`)
	refused(managed, fail.Refused, "the management VM does not run")
	x.status.Type = cluster.PairConf
	refused(string(cluster.MgmtVM), fail.Refused, "this cluster is a pair")
	x.fails = errors.New("no route")
	refused(there, fail.Unavailable, "host h2 is not reached: no route")
	x.Seen = func() (map[cluster.HostID]report.Seen, bool) { return nil, false }
	if _, _, _, err := x.OpenScreen(t.Context(), "alice", here); !errors.Is(err, store.ErrRetry) {
		t.Error(err)
	}
	if all := x.told(t); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

// TestUnnotedScreen: one of which nobody could see later who has opened it is closed again.
func TestUnnotedScreen(t *testing.T) {
	x := newStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	open := x.Open
	x.Open = func(ctx context.Context, uuid string) (net.Conn, error) {
		defer cancel() // the store does not answer any more
		return open(ctx, uuid)
	}
	if _, _, _, err := x.OpenScreen(ctx, "alice", here); err == nil || !strings.Contains(err.Error(), "note who has opened it") {
		t.Error(err)
	}
	try.Until(t, "it is closed", func() bool { return x.guest.Open() == 0 })
}
