package protected

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// serveNBD serves a file by a real qemu-nbd, until the test ends. It returns the
// server's process.
func serveNBD(t *testing.T, image, export string, args ...string) *os.Process {
	t.Helper()
	need.Real(t, need.Programs("qemu-utils", "qemu-nbd"))
	args = append([]string{"--format=raw", "--cache=none", "--persistent", "--export-name=" + export}, args...)
	cmd := exec.Command("qemu-nbd", append(args, image)...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
		if t.Failed() {
			t.Logf("qemu-nbd said: %s", said.String())
		}
	})
	return cmd.Process
}

// await waits until a server listens.
func await(t *testing.T, network, addr string) {
	t.Helper()
	try.Until(t, "a server at "+addr, func() bool {
		c, err := net.Dial(network, addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// nbdSocket serves an image at a Unix socket, which hosts reach without a
// network, and returns the image's name.
func nbdSocket(t *testing.T, image string, args ...string) string {
	t.Helper()
	dir := try.ShortDir(t)
	socket := filepath.Join(dir, "s")
	serveNBD(t, image, "mnvm", append([]string{"--socket=" + socket}, args...)...)
	await(t, "unix", socket)
	return "nbd+unix:///mnvm?socket=" + socket
}

func TestParseImage(t *testing.T) {
	for image, want := range map[string]*nbdExport{
		"/share/mnvm.img":                     nil,
		"/share/a://b":                        nil,
		"mnvm.img":                            nil, // refused later, as a file
		"nbd://10.0.0.1":                      {host: "10.0.0.1", port: "10809"},
		"nbd://stor:99/mnvm":                  {host: "stor", port: "99", name: "mnvm"},
		"nbd://[fd00::1]:99/a/b%20c":          {host: "fd00::1", port: "99", name: "a/b c"},
		"nbds://stor/mnvm":                    {host: "stor", port: "10809", name: "mnvm", tls: "yes"},
		"nbds://10.0.0.1/m?tls-hostname=a+b":  {host: "10.0.0.1", port: "10809", name: "m", tls: "yes", tlsName: "a b"},
		"nbds+unix:///m?socket=/s":            {socket: "/s", name: "m", tls: "yes"},
		"nbd+unix:///?socket=/run/s":          {socket: "/run/s"},
		"nbd+unix:///mnvm?socket=/run/a%20b":  {socket: "/run/a b", name: "mnvm"},
		"nbd+unix:///m,n=1?socket=/run/nbd,s": {socket: "/run/nbd,s", name: "m,n=1"},
	} {
		got, err := parseImage(image)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", image, got, err, want)
		}
	}
	for _, image := range []string{
		"nbd:///mnvm", "nbd://:99/mnvm", "nbd://h:0/x", "nbd://h:65536/x", "nbd://h:nbd/x", "nbd://u@h/x",
		"nbd://h/x#y", "nbd://h/x?socket=/s", "nbd://h/a%0ab",
		"nbd+unix:///x", "nbd+unix:///x?socket=s", "nbd+unix://h/x?socket=/s", "nbd+unix:///x?socket=/s&tls=1",
		"nbds://h/x?tls=1", "nbds://h/x?tls-hostname=%0a",
		"nbds:///x", "nbds+unix:///x", "nbdsx://h/x", "nbds://h/x?tls-hostname=a&tls-hostname=b", "rbd://pool/x", "iscsi://h/x", "nbd://%zz",
	} {
		if e, err := parseImage(image); err == nil {
			t.Errorf("%s: accepted as %+v", image, e)
		}
	}
}

// TestInspectRealServer: the format and the faults of real exports.
func TestInspectRealServer(t *testing.T) {
	need.Real(t, need.Programs("qemu-utils", "qemu-nbd", "qemu-img"))
	dir := t.TempDir()
	raw, qcow2, empty := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2"), filepath.Join(dir, "empty")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", qcow2, "8M")
	for _, c := range []struct{ name, image, format, want string }{
		{"raw", nbdSocket(t, raw, "--shared=3"), formatRaw, ""},
		{"qcow2", nbdSocket(t, qcow2, "--shared=3"), formatQcow2, ""},
		{"empty", nbdSocket(t, empty), "", "is empty"},
		{"read only", nbdSocket(t, raw, "--read-only"), "", "can only be read"},
		{"no such export", strings.Replace(nbdSocket(t, raw), "mnvm", "other", 1), "", "no such export"},
		{"no server", "nbd+unix:///x?socket=" + dir + "/none", "", "can not be reached"},
	} {
		e, err := parseImage(c.image)
		if err != nil {
			t.Fatal(err)
		}
		format, err := e.inspect(context.Background(), libvirt.Certificates{})
		if format != c.format || (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %q, %q", c.name, format, err, c.format, c.want)
		}
	}
}

// TestInspectIsBounded: servers that stop in the middle, and one that only lets
// in one client, which another one is.
func TestInspectIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := &nbdExport{host: "127.0.0.1", port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port)}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err = e.inspect(ctx, libvirt.Certificates{}) // nobody accepts, the kernel does
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "--shared") {
		t.Errorf("no greeting: %v", err)
	}
}

// TestNBDAnswers: what servers may say, up to lies about lengths.
func TestNBDAnswers(t *testing.T) {
	const hello = "NBDMAGICIHAVEOPT\x00\x03"
	reply := func(kind uint32, data string) string {
		b := binary.BigEndian.AppendUint64(nil, nbdReplyMagic)
		b = binary.BigEndian.AppendUint32(b, nbdOptGo)
		b = binary.BigEndian.AppendUint32(b, kind)
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		return string(b) + data
	}
	export := func(size uint64, flags uint16) string {
		return reply(nbdRepInfo, string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64([]byte{0, 0}, size), flags)))
	}
	answer := func(code uint32, data string) string {
		b := binary.BigEndian.AppendUint32(nil, nbdAnswerMagic)
		b = binary.BigEndian.AppendUint32(b, code)
		return string(binary.BigEndian.AppendUint64(b, 1)) + data
	}
	long := reply(nbdRepInfo, "")
	long = long[:len(long)-4] + "\xff\xff\xff\xff"
	for _, c := range []struct{ name, says, head, want string }{
		{"small export", hello + export(3, 1) + reply(nbdRepAck, "") + answer(0, "QFI"), "QFI", ""},
		{"other infos", hello + reply(nbdRepInfo, "\x00\x03abcdefghijkl") + export(2, 1) + reply(nbdRepAck, "") + answer(0, "ab"), "ab", ""},
		{"nothing", "", "", "EOF"},
		{"another service", "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "", "no NBD server"},
		{"old style", "NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00", "", "no NBD server"},
		{"TLS", hello + reply(nbdErrTLS, "tls"), "", "name the image by nbds://"},
		{"refused", hello + reply(nbdRepError|2, "by policy"), "", "by policy"},
		{"long reply", hello + long, "", "not NBD's"},
		{"no info", hello + reply(nbdRepAck, ""), "", "is empty"},
		{"short info", hello + reply(nbdRepInfo, "\x00\x00\x01") + reply(nbdRepAck, ""), "", "is empty"},
		{"cut info", hello + export(3, 1)[:25], "", "EOF"},
		{"read fails", hello + export(3, 1) + reply(nbdRepAck, "") + answer(5, ""), "", "error 5"},
		{"cut data", hello + export(3, 1) + reply(nbdRepAck, "") + answer(0, "Q"), "", "EOF"},
		{"other answer", hello + export(3, 1) + reply(nbdRepAck, "") + strings.Repeat("x", 16), "", "not NBD's"},
	} {
		head, err := nbdHead(struct {
			io.Reader
			io.Writer
		}{strings.NewReader(c.says), io.Discard}, "mnvm", nil)
		if string(head) != c.head || (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %q, %q", c.name, head, err, c.head, c.want)
		}
	}
}

func TestGuestOnNBD(t *testing.T) {
	need.Drill(t, "guests on exports of a real NBD server start, run and are killed with proof")
	h := newHosts(t, 1)[0]
	spec := guest(t)
	file := spec.Image
	for _, raw := range []bool{false, true} {
		if raw {
			filler(t, &spec, false)
			file = spec.Image
		}
		spec.Image = nbdSocket(t, file, "--shared=8")
		h.must(request{Op: "check", Spec: spec})
		h.must(request{Op: "start", Spec: spec})
		g := h.until("running", is(cluster.GuestRunning))
		if g.Epoch != spec.Epoch || g.PID == 0 {
			t.Errorf("raw %v: %+v", raw, g)
		}
		h.must(request{Op: "check", Spec: spec}) // also while it runs
		kill := h.must(request{Op: "kill"})
		if g := h.must(request{Op: "observe"}).Guest; g != (cluster.Guest{State: cluster.GuestAbsent}) {
			t.Errorf("raw %v, after the kill: %+v", raw, g)
		}
		t.Logf("raw %v: kill with proof %v", raw, kill.Took)
	}
	spec.Image = strings.Replace(spec.Image, "/mnvm?", "/other?", 1)
	if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), "no such export") {
		t.Errorf("check of another export: %v", err)
	}
	if _, err := h.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("start from another export: %v", err)
	}
}

// serveNBDHere is the operation serve-nbd of a host.
func serveNBDHere(ctx context.Context, text string) error {
	words := strings.Fields(text)
	image, addr, port := words[0], words[1], words[2]
	path, err := exec.LookPath("qemu-nbd")
	if err != nil {
		return err
	}
	args := append([]string{path, "--format=raw", "--cache=none", "--persistent", "--shared=8",
		"--export-name=mnvm", "--bind=" + addr, "--port=" + port, image}, words[3:]...)
	p, err := os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{nil, os.Stderr, os.Stderr}})
	if err != nil {
		return err
	}
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(addr, port))
		if err == nil {
			return errors.Join(c.Close(), p.Release())
		}
		if !clock.Sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// TestGuestOnNBDByTCP: the server runs on one of two hosts, and the guest moves.
func TestGuestOnNBDByTCP(t *testing.T) {
	need.Drill(t, "a guest on an NBD export of one host moves to another")
	hosts := newHosts(t, 2)
	spec := guest(t)
	filler(t, &spec, false)
	hosts[0].IP("link", "set", "lo", "up") // by which a host reaches its own addresses
	const port = "10810"
	hosts[0].must(request{Op: "serve-nbd", Text: spec.Image + " " + hosts[0].Addr + " " + port})
	spec.Image = "nbd://" + hosts[0].Addr + ":" + port + "/mnvm"
	for _, h := range hosts {
		h.must(request{Op: "check", Spec: spec})
	}
	hosts[0].must(request{Op: "start", Spec: spec})
	hosts[0].until("running", is(cluster.GuestRunning))
	hosts[0].must(request{Op: "migrate", Text: hosts[1].Addr, Timeout: 30 * time.Second})
	hosts[1].must(request{Op: "resume"})
	if g := hosts[1].must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning || g.Epoch != spec.Epoch {
		t.Errorf("at the target: %+v", g)
	}
	hosts[0].until("absent at the source", is(cluster.GuestAbsent))
	hosts[1].must(request{Op: "kill"})
}
