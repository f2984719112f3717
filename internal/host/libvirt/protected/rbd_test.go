package protected

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/cephnode"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// cephAddr is where the hosts of these tests reach their Ceph cluster, which is in the
// network of the first.
const cephAddr = "10.98.7.9"

// newCeph makes hosts, and a guest in a pool of a real cluster.
func newCeph(t *testing.T) ([]*host, cephnode.Node, cluster.GuestSpec) {
	t.Helper()
	hosts := newHosts(t, 2)
	hosts[0].IP("link", "set", "lo", "up") // by which a host reaches its own addresses
	hosts[0].IP("addr", "add", cephAddr+"/24", "dev", "br0")
	n := cephnode.New(t, netip.MustParseAddr(cephAddr), func(c *exec.Cmd) error {
		path, err := exec.LookPath("nsenter")
		c.Path, c.Args = path, append([]string{"nsenter", "-t", hosts[0].PID(), "-n"}, c.Args...)
		return errors.Join(err, c.Start())
	})
	spec := guest(t)
	spec.Image = "rbd:" + cephnode.Pool + "/" + cephnode.Image
	spec.RBD = &cluster.RBD{Mons: []string{cephAddr}, Pool: cephnode.Pool, Image: cephnode.Image, User: cephnode.User, Keyring: n.Keyring()}
	return hosts, n, spec
}

// ticker makes a boot sector that counts in the disk's second sector by the BIOS, for
// ever.
func ticker() []byte {
	code := []byte{
		0x31, 0xc0, // xor ax,ax
		0x8e, 0xd8, // mov ds,ax
		0x8e, 0xd0, // mov ss,ax
		0xbc, 0x00, 0x7c, // mov sp,0x7c00
	}
	loop := len(code)
	code = append(code,
		0x66, 0xff, 0x06, 0x00, 0x80, // inc dword [0x8000]
		0xbe, 0x80, 0x7c, // mov si,0x7c80: the request
		0xb8, 0x00, 0x43, // mov ax,0x4300: write
		0xcd, 0x13, // int 0x13; dl is still the drive that was booted from
	)
	code = append(code, 0xeb, byte(loop-len(code)-2)) // jmp loop
	sector := make([]byte, 512)
	copy(sector, code)
	copy(sector[0x80:], []byte{16, 0, 1, 0, 0x00, 0x80, 0, 0, 1}) // size, sectors, memory at 0:8000, sector 1
	copy(sector[510:], []byte{0x55, 0xaa})                        // boot signature
	return sector
}

// boots puts ticker on the image.
func boots(t *testing.T, n cephnode.Node) {
	t.Helper()
	if _, err := n.Run(t.Context(), string(ticker()), "rados", "-p", cephnode.Pool, "put", object(t, n), "-"); err != nil {
		t.Fatal(err)
	}
}

// object is the first of the image's data.
func object(t *testing.T, n cephnode.Node) string {
	t.Helper()
	out, err := n.Run(t.Context(), "", "sh", "-c", "rbd info "+cephnode.Pool+"/"+cephnode.Image+" | sed -n 's/.*block_name_prefix: //p'")
	try.Must(t, err)
	return fmt.Sprintf("%s.%016x", strings.TrimSpace(out), 0)
}

// ticks is what the guests have counted on the image.
func ticks(t *testing.T, n cephnode.Node, object string) uint32 {
	t.Helper()
	out, err := n.Run(t.Context(), "", "rados", "-p", cephnode.Pool, "get", object, "-")
	try.Must(t, err)
	if len(out) < 516 {
		return 0
	}
	return binary.LittleEndian.Uint32([]byte(out[512:]))
}

// TestGuestInAPool: a guest that stood still while it was started elsewhere writes
// nothing when it goes on, is told to be locked out, and can only be killed.
func TestGuestInAPool(t *testing.T) {
	need.Drill(t, "P1: a guest on Ceph that stood still while it was started elsewhere writes nothing when it goes on")
	hosts, n, spec := newCeph(t)
	boots(t, n)
	obj := object(t, n)
	counts := func() {
		t.Helper()
		before := ticks(t, n, obj)
		try.Until(t, "the guest to write", func() bool { return ticks(t, n, obj) != before })
	}
	for _, h := range hosts {
		h.must(request{Op: "check", Spec: spec})
	}
	hosts[0].must(request{Op: "start", Spec: spec, Timeout: time.Minute})
	first := hosts[0].until("running", is(cluster.GuestRunning))
	counts()

	hosts[0].must(request{Op: "signal-pid", Text: fmt.Sprint(first.PID), Number: int(syscall.SIGSTOP)})
	hosts[1].must(request{Op: "start", Spec: spec, Timeout: time.Minute})
	hosts[1].until("running", is(cluster.GuestRunning))
	counts()
	hosts[1].must(request{Op: "kill"})
	still := ticks(t, n, obj)
	hosts[0].must(request{Op: "signal-pid", Text: fmt.Sprint(first.PID), Number: int(syscall.SIGCONT)})
	g := hosts[0].until("locked out", func(g cluster.Guest) bool { return g.LockedOut })
	if g.State != cluster.GuestPaused || !g.IOError || g.PID != first.PID {
		t.Errorf("%+v", g)
	}
	if now := ticks(t, n, obj); now != still {
		t.Errorf("it wrote %d times after it went on", now-still)
	}
	hosts[0].must(request{Op: "resume"}) // to no avail
	hosts[0].until("locked out", func(g cluster.Guest) bool { return g.LockedOut })
	if now := ticks(t, n, obj); now != still {
		t.Errorf("it wrote %d times after it was resumed", now-still)
	}
	hosts[0].must(request{Op: "kill"})

	// A guest that was killed without a word still has the image's lock.
	hosts[0].must(request{Op: "start", Spec: spec, Timeout: time.Minute})
	g = hosts[0].until("running", is(cluster.GuestRunning))
	counts()
	if g.LockedOut {
		t.Errorf("a later guest of the same host: %+v", g)
	}
	hosts[0].must(request{Op: "migrate", Text: hosts[1].Addr, Timeout: time.Minute})
	hosts[1].must(request{Op: "resume"})
	counts()
	if g := hosts[1].must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning || g.LockedOut {
		t.Errorf("after the migration: %+v", g)
	}
	hosts[1].must(request{Op: "kill"})
}

// TestNoStartWhereNobodyCanBeLockedOut: the cluster's answer is needed.
func TestNoStartWhereNobodyCanBeLockedOut(t *testing.T) {
	need.Drill(t, "P2: no start on Ceph without the cluster's word that the last holder is locked out")
	hosts, n, spec := newCeph(t)
	h := hosts[1]
	h.must(request{Op: "check", Spec: spec})
	h.must(request{Op: "start", Spec: spec, Timeout: time.Minute})
	h.until("running", is(cluster.GuestRunning))
	if _, err := n.Run(t.Context(), "", "ceph", "auth", "caps", "client."+cephnode.User, "mon", "allow r", "osd",
		"profile rbd pool="+cephnode.Pool); err != nil {
		t.Fatal(err)
	}
	if _, err := hosts[0].do(request{Op: "start", Spec: spec, Timeout: time.Minute}); !errors.Is(err,
		cluster.ErrNotStarted) || !strings.Contains(fmt.Sprint(err), "lock out who has image") {
		t.Errorf("a user that may lock nobody out: %v", err)
	}
	silent := spec
	silent.RBD = &cluster.RBD{Mons: []string{"10.98.7.99"}, Pool: spec.RBD.Pool, Image: spec.RBD.Image,
		User: spec.RBD.User, Keyring: spec.RBD.Keyring}
	if _, err := hosts[0].do(request{Op: "start", Spec: silent, Timeout: 5 * time.Second}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("a cluster that does not answer: %v", err)
	}
	if g := hosts[0].must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
		t.Errorf("%+v", g)
	}
	if g := h.must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning {
		t.Errorf("the one that ran: %+v", g)
	}
	h.must(request{Op: "kill"})
}
