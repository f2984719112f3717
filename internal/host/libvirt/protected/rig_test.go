package protected

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/ceph"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// This file is what a simulated host carries out for the tests of this package: calls of a Driver of its own, and
// questions about its guest.

func TestMain(m *testing.M) {
	virthost.Main(m, func(in *virthost.Inside) virthost.Serve { return (&simHost{Inside: in}).serve })
}

const (
	testUUID = "98000000-0000-4000-8000-00000000c0de"
	testName = "mnvm"
)

// host is a simulated host, seen from the test.
type host struct {
	*virthost.Host
	t *testing.T
}

// request is one thing for the host to do.
type request struct {
	Op      string
	Timeout time.Duration
	Text    string
	Number  int
	Spec    cluster.GuestSpec
	TLS     bool // the target has said that it can
}

// asked is what this package adds to a request.
type asked struct {
	Spec cluster.GuestSpec
	TLS  bool
}

type reply struct {
	virthost.Reply
	told
}

// told is what this package adds to a reply.
type told struct {
	NotStarted bool
	NotProved  bool
	Guest      cluster.Guest
	Security   migration.Security
}

// newHosts starts n simulated hosts, each with a driver.
func newHosts(t *testing.T, n int) []*host {
	t.Helper()
	return withDrivers(t, virthost.New(t, n, nil), "")
}

// withDrivers gives hosts a driver each. uri is that of a migration's target, "" for plain TCP.
func withDrivers(t *testing.T, hosts []*virthost.Host, uri string) []*host {
	t.Helper()
	var out []*host
	for _, one := range hosts {
		h := &host{one, t}
		h.must(request{Op: "new", Text: uri})
		out = append(out, h)
	}
	return out
}

// newHostsLocking is newHosts, with virtlockd.
func newHostsLocking(t *testing.T, n int, lockspace string) []*host {
	t.Helper()
	return withDrivers(t, virthost.New(t, n, func(_ *virthost.Host, files map[string]string) {
		files["virtlockd.conf"] = "" // tells the host to start it
		files["qemu.conf"] += "lock_manager = \"lockd\"\n"
		files["qemu-lockd.conf"] = "# where\nfile_lockspace_dir = \"" + lockspace + "\"\n"
	}), "")
}

// newTLSHosts is newHosts, where everything goes by TLS: memory by certificates of the authority that memory gives
// for each.
func newTLSHosts(t *testing.T, n int, memory func(i int) pki.CA) []*host {
	t.Helper()
	return withDrivers(t, virthost.NewTLS(t, n, virthost.Authority(t, "libvirtd"), memory, nil), virthost.TLSURI)
}

// needArm64 is virthost.Need, for guests of arm64.
func needArm64(t *testing.T) {
	t.Helper()
	virthost.Need(t, need.Programs("qemu-system-arm", "qemu-system-aarch64"))
}

// begin asks for something and returns at once.
func (h *host) begin(r request) virthost.Pending {
	h.t.Helper()
	return h.Begin(virthost.Request{Op: r.Op, Timeout: r.Timeout, Text: r.Text, Number: r.Number}, asked{r.Spec, r.TLS})
}

// end waits for the answer. A call whose context has ended returns although what it asked still hangs:
// a test lets that go on only after the answer.
func (h *host) end(p virthost.Pending) (reply, error) {
	h.t.Helper()
	var a reply
	a.Reply = h.End(p, &a.told)
	return a, a.err()
}

// do asks for something and waits.
func (h *host) do(r request) (reply, error) {
	h.t.Helper()
	return h.end(h.begin(r))
}

func (h *host) must(r request) reply {
	h.t.Helper()
	a, err := h.do(r)
	if err != nil {
		h.t.Fatalf("%s: %v", r.Op, err)
	}
	return a
}

// until observes until the guest is as asked for.
func (h *host) until(what string, ok func(cluster.Guest) bool) cluster.Guest {
	h.t.Helper()
	var a reply
	try.Until(h.t, "a guest that is "+what, func() (done bool) {
		var err error
		a, err = h.do(request{Op: "observe", Timeout: 2 * time.Second})
		return err == nil && ok(a.Guest)
	})
	return a.Guest
}

func is(s cluster.GuestState) func(cluster.Guest) bool {
	return func(g cluster.Guest) bool { return g.State == s }
}

func (a reply) err() error {
	if a.Err == "" {
		return nil
	}
	kinds := []error{errors.New(a.Err)}
	if a.NotStarted {
		kinds = append(kinds, cluster.ErrNotStarted)
	}
	if a.NotProved {
		kinds = append(kinds, cluster.ErrNotProved)
	}
	return errors.Join(kinds...)
}

// guest is a spec with an image of its own: qcow2 without a system in it.
func guest(t *testing.T) cluster.GuestSpec {
	t.Helper()
	image := filepath.Join(t.TempDir(), "mnvm.img")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
	seed := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(seed, make([]byte, 64<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	return cluster.GuestSpec{
		Resource: cluster.MgmtVM, Epoch: cluster.Epoch{Gen: 1, Seq: 7}, UUID: testUUID, Name: testName,
		MemoryMiB: 64, CPUs: 1, Image: image, Seed: seed, Emulate: true,
		NICs: []cluster.NIC{{Bridge: "br0", MAC: "52:54:00:98:07:01"}},
	}
}

// filler gives the guest an image by which it fills its memory.
func filler(t *testing.T, spec *cluster.GuestSpec, forever bool) {
	t.Helper()
	spec.Image = filepath.Join(t.TempDir(), "filler.img")
	virthost.Filler(t, spec.Image, forever)
}

// simHost is a simulated host, seen from inside.
type simHost struct {
	*virthost.Inside
	mu    sync.Mutex
	drv   *Driver
	taken taken
}

func (h *simHost) serve(ctx context.Context, r virthost.Request, more json.RawMessage, a *virthost.Reply) (any, error) {
	var q asked
	if err := json.Unmarshal(more, &q); err != nil {
		return nil, err
	}
	var out told
	err := h.do(ctx, r, q, a, &out)
	out.NotStarted, out.NotProved = errors.Is(err, cluster.ErrNotStarted), errors.Is(err, cluster.ErrNotProved)
	return out, err
}

func (h *simHost) do(ctx context.Context, r virthost.Request, q asked, a *virthost.Reply, out *told) (err error) {
	h.mu.Lock()
	d := h.drv
	h.mu.Unlock()
	switch r.Op {
	case "new":
		d, err = New(Options{
			MigrateURI: cmp.Or(r.Text, "qemu+tcp://%s/system"), RunDir: h.Dir,
			Resource: cluster.MgmtVM, UUID: testUUID, Name: testName,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
			RBD: func(r cluster.RBD) RBD { return ceph.New(ceph.Options{RBD: r}) },
		})
		h.mu.Lock()
		h.drv = d
		h.mu.Unlock()
		return err
	case "close":
		return d.Close()
	case "observe":
		out.Guest, err = d.Observe(ctx)
		return err
	case "check":
		return d.Check(ctx, q.Spec)
	case "start":
		return d.Start(ctx, q.Spec)
	case "start-late": // the deadline passes when libvirtd is about to be asked
		return d.Start(lateContext{ctx, filepath.Join(h.Dir, "libvirt-start-"+testUUID+".json")}, q.Spec)
	case "shutdown":
		return d.Shutdown(ctx)
	case "password":
		return d.SetPassword(ctx, "root", "s3cret")
	case "kill":
		return d.Kill(ctx)
	case "migrate":
		ctx, cancel := h.Cancellable(ctx)
		defer cancel()
		return d.Migrate(ctx, r.Text, q.TLS)
	case "security":
		out.Security = d.MigrationSecurity()
		return nil
	case "resume":
		return d.Resume(ctx)
	case "abort":
		return d.AbortMigration(ctx)
	case "wake":
		select {
		case <-d.Wake():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case "command-line": // of the guest's process
		a.Text, err = commandLine(ctx)
		return err
	case "vnc": // ADDRESS PASSWORD
		addr, password, _ := strings.Cut(r.Text, " ")
		return vncLogin(addr, password)
	case "serve-nbd": // IMAGE ADDRESS PORT ARGUMENT..., until the host ends
		return serveNBDHere(ctx, r.Text)
	case "slow-emulator": // asked what it can do, QEMU takes Number seconds
		return slowEmulator(h.Dir, r.Number)
	case "note": // as an agent leaves it that dies during a start
		daemons, err := table("/proc").daemons(ctx)
		if err != nil {
			return err
		}
		note, err := openStartNote(h.Dir, testUUID)
		if err != nil {
			return err
		}
		return note.begin(daemons, 0)
	case "monitor", "xml", "speed", "answers", "downtime":
		return onDomain(ctx, r, a)
	}
	return h.doTaken(ctx, r)
}

// onDomain calls libvirtd about the guest.
func onDomain(ctx context.Context, r virthost.Request, a *virthost.Reply) error {
	uuid, err := libvirt.ParseUUID(testUUID)
	if err != nil {
		return err
	}
	dom := golibvirt.Domain{Name: testName, UUID: uuid}
	return virthost.Libvirtd(ctx, r.Op, func(l *golibvirt.Libvirt) (err error) {
		switch r.Op {
		case "monitor": // what QEMU answers on its monitor
			a.Text, err = l.QEMUDomainMonitorCommand(dom, r.Text, 1)
		case "xml": // of the guest, as libvirt has it
			a.Text, err = l.DomainGetXMLDesc(dom, golibvirt.DomainXMLFlags(r.Number))
		case "speed": // of migrations, MiB/s
			err = l.DomainMigrateSetMaxSpeed(dom, uint64(r.Number), 0)
		case "downtime": // that the end of a migration may take, ms
			err = l.DomainMigrateSetMaxDowntime(dom, uint64(r.Number), 0)
		case "answers": // does QEMU, and the guest run
			var out string
			out, err = l.QEMUDomainMonitorCommand(dom, "info status", 1)
			if err == nil && !strings.Contains(out, "VM status: running") {
				err = errors.New(out)
			}
		}
		return err
	})
}

func commandLine(ctx context.Context) (string, error) {
	t := table("/proc")
	found, err := t.guests(ctx)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d guests, %v", len(found), err)
	}
	argv, err := t.dir.Args(found[0].PID)
	return strings.Join(argv, " "), err
}
