package ceph

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/cephnode"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

func TestContractOfARealCluster(t *testing.T) {
	need.Drill(t, "P2: who holds an image is locked out of a real Ceph cluster, by the same contract as of the fake",
		need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	n := nettest.New(t, 3)
	r := &real{net: n, node: cephnode.New(t, n.Addr(0), func(c *exec.Cmd) error { return n.Start(0, c) })}
	contract(t, r)
}

// real is a cluster of one node, on the first host of a network.
type real struct {
	net  *nettest.Net
	node cephnode.Node
}

func (r *real) rbd() cluster.RBD {
	return cluster.RBD{Mons: []string{r.net.Addr(0).String()}, Pool: cephnode.Pool, Image: cephnode.Image,
		User: cephnode.User, Keyring: r.node.Keyring()}
}

func (r *real) client(_ *testing.T, host int, edit func(*cluster.RBD)) *Client {
	image := r.rbd()
	if edit != nil {
		edit(&image)
	}
	return New(Options{RBD: image, Local: func(a netip.Addr) bool { return a == r.net.Addr(host) },
		Run: func(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
			return program(ctx, stdin, func(c *exec.Cmd) error { return r.net.Start(host, c) }, name, args...)
		}})
}

// counter counts in the image's first bytes, a hundred times a second, until it can not.
const counter = `
import rados, rbd, struct, sys, time
cluster = rados.Rados(rados_id=sys.argv[1], conf={"keyring": sys.argv[2], "mon_host": sys.argv[3], "rbd_cache": "false"})
cluster.connect()
image = rbd.Image(cluster.open_ioctx(sys.argv[4]), sys.argv[5])
n = struct.unpack("<Q", image.read(0, 8))[0]
while True:
    n += 1
    image.write(struct.pack("<Q", n), 0)
    time.sleep(0.01)
`

// realWriter is a process that runs counter.
type realWriter struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func (r *real) write(t *testing.T, host int) writer {
	t.Helper()
	i := r.rbd()
	cmd := exec.Command("/usr/bin/python3", "-c", counter, i.User, i.Keyring, i.Mons[0], i.Pool, i.Image)
	var said bytes.Buffer
	cmd.Stderr = &said
	try.Must(t, r.net.Start(host, cmd))
	w := realWriter{cmd, make(chan struct{})}
	go func() {
		defer close(w.ended)
		_ = cmd.Wait() // it fails, or is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, else
		<-w.ended
		if t.Failed() {
			t.Logf("the writer on %d said: %s", host, said.String())
		}
	})
	c := r.client(t, host, nil)
	try.Until(t, "the writer to have the image open", func() bool {
		select {
		case <-w.ended:
			t.Fatalf("the writer has ended: %s", said.String())
		default:
		}
		here, _, err := c.Open(t.Context())
		return err == nil && len(here) > 0
	})
	return w
}

func (w realWriter) freeze(on bool) {
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	_ = w.cmd.Process.Signal(sig) // it has ended, else: the test sees it
}

func (w realWriter) failed() <-chan struct{} { return w.ended }

// written is what counter has counted.
func (r *real) written(t *testing.T) int {
	t.Helper()
	c := r.client(t, 0, nil)
	i, err := c.Info(t.Context())
	try.Must(t, err)
	out := r.run(t, "sh", "-c", fmt.Sprintf("rados -p %s get rbd_data.%s.%016x - 2>/dev/null | head -c 8", cephnode.Pool, i.ID, 0))
	if len(out) < 8 {
		return 0
	}
	return int(binary.LittleEndian.Uint64([]byte(out)))
}

func (r *real) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := r.node.Run(t.Context(), "", argv...)
	try.Must(t, err)
	return out
}

func (r *real) admin(t *testing.T, what string) {
	t.Helper()
	switch what {
	case unlocked:
		r.run(t, "rbd", "feature", "disable", cephnode.Pool+"/"+cephnode.Image, "object-map", "fast-diff", "exclusive-lock")
	case reader:
		r.run(t, "ceph", "auth", "caps", "client."+cephnode.User, "mon", "allow r", "osd", "profile rbd pool="+cephnode.Pool)
	}
}
