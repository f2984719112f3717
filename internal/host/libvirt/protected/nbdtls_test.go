package protected

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// qemuFolder is a folder with QEMU's certificates for the name h1 and 127.0.0.1.
func qemuFolder(t *testing.T, ca pki.CA) string {
	t.Helper()
	pair, err := ca.IssueHypervisor("h1", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "qemu")
	if err := ca.WriteQEMU(dir, pair); err != nil {
		t.Fatal(err)
	}
	return dir
}

// clientWith is a host whose qemu.conf names dir, and has more lines.
func clientWith(t *testing.T, dir, more string) libvirt.Certificates {
	t.Helper()
	conf := t.TempDir()
	text := fmt.Sprintf("user = \"root\"\nnbd_tls_x509_cert_dir = \"%s\"\n%s", dir, more)
	if err := os.WriteFile(filepath.Join(conf, "qemu.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return libvirt.Certificates{ConfDir: conf, PKIDir: filepath.Join(conf, "pki")}
}

// serverCreds are the arguments by which a program of QEMU's serves by TLS.
func serverCreds(dir, more string) []string {
	return []string{"--object=tls-creds-x509,id=tls0,endpoint=server,dir=" + dir + more, "--tls-creds=tls0"}
}

func change(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, from := range files {
		to := filepath.Join(dir, name)
		if from == "" {
			if err := os.Remove(to); err != nil {
				t.Fatal(err)
			}
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(to, text, 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestProbeRealServerByTLS: what a host says of a real server, as QEMU on it would.
func TestProbeRealServerByTLS(t *testing.T) {
	need.Real(t, need.Programs("qemu-utils", "qemu-nbd"))
	ca, other := virthost.Authority(t, "storage"), virthost.Authority(t, "another")
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(args ...string) (addr string, server *os.Process) {
		port := freePort(t)
		server = serveNBD(t, image, "mnvm", append(args, "--shared=8", "--bind=127.0.0.1", fmt.Sprintf("--port=%d", port))...)
		addr = fmt.Sprintf("127.0.0.1:%d", port)
		await(t, "tcp", addr)
		return addr, server
	}
	plain, _ := serve()
	byTLS, server := serve(serverCreds(qemuFolder(t, ca), "")...)
	anybody, _ := serve(serverCreds(qemuFolder(t, ca), ",verify-peer=off")...)
	socket := strings.Replace(nbdSocket(t, image, append(serverCreds(qemuFolder(t, ca), ""), "--shared=8")...), "nbd", "nbds", 1)

	good := qemuFolder(t, ca)
	noClient := map[string]string{"client-cert.pem": "", "client-key.pem": ""}
	for _, c := range []struct {
		name string
		host libvirt.Certificates
		url  string
		want string // "": well
	}{
		{"by TLS", clientWith(t, good, ""), "nbds://" + byTLS + "/mnvm", ""},
		{"by TLS through a socket", clientWith(t, good, ""), socket, ""},
		{"by TLS that only qemu.conf asks for", clientWith(t, good, "nbd_tls = 1 # all\n"), "nbd://" + byTLS + "/mnvm", ""},
		{"a server that only speaks TLS", clientWith(t, good, "nbd_tls = 0\n"), "nbd://" + byTLS + "/mnvm",
			"the server wants TLS: name the image by nbds://"},
		{"a server without TLS", clientWith(t, good, ""), "nbds://" + plain + "/mnvm", "the server offers no TLS"},
		{"a server without TLS, by qemu.conf", clientWith(t, good, "nbd_tls = 1\n"), "nbd://" + plain + "/mnvm", "the server offers no TLS"},
		{"no such export", clientWith(t, good, ""), "nbds://" + byTLS + "/other", "no such export"},
		{"no authority", clientWith(t, change(t, qemuFolder(t, ca), map[string]string{"ca-cert.pem": ""}), ""),
			"nbds://" + byTLS + "/mnvm", "ca-cert.pem: no such file"},
		{"another authority", clientWith(t, qemuFolder(t, other), ""), "nbds://" + byTLS + "/mnvm", "not of the authority in"},
		{"a certificate of another authority", clientWith(t,
			change(t, qemuFolder(t, ca), map[string]string{"client-cert.pem": qemuFolder(t, other)}), ""),
			"nbds://" + byTLS + "/mnvm", "this host's certificate"},
		{"a key without a certificate", clientWith(t, change(t, qemuFolder(t, ca),
			map[string]string{"client-cert.pem": ""}), ""), "nbds://" + byTLS + "/mnvm", "client-cert.pem: no such file"},
		{"no certificate", clientWith(t, change(t, qemuFolder(t, ca), noClient), ""), "nbds://" + byTLS + "/mnvm", "this host has none"},
		{"no certificate, and nobody wants one", clientWith(t, change(t, qemuFolder(t, ca), noClient), ""), "nbds://" + anybody + "/mnvm", ""},
		{"another name", clientWith(t, good, ""), "nbds://" +
			strings.Replace(byTLS, "127.0.0.1", "localhost", 1) + "/mnvm", `not for localhost, but for 127.0.0.1, "h1"`},
		{"a name of its own", clientWith(t, good, ""), "nbds://" + byTLS + "/mnvm?tls-hostname=H1", ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := probeImage(ctx, c.host, c.url)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) || ctx.Err() != nil {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		cancel()
	}

	asked := &Driver{leave: migration.Settings{Certificates: clientWith(t, good, "nbd_tls = 1\n")}}
	for attr, want := range map[string]string{"": "", tlsYes: "", tlsNo: "the server wants TLS"} { // of a domain of the operator's
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := asked.checkExport(ctx, domainxml.Need{Kind: domainxml.Export, Value: "nbd://" + byTLS + "/mnvm", At: attr, Write: true})
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("tls=%q: %v, want %q", attr, err, want)
		}
		cancel()
	}

	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := probeImage(ctx, clientWith(t, good, ""), "nbds://"+byTLS+"/mnvm"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that stands still: %v", err)
	}
}

// selfSigned is a certificate of its own.
func selfSigned(t *testing.T, template x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestNBDServersCertificate: the times and the end of a connection that qemu-nbd does not show.
func TestNBDServersCertificate(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name     string
		from, to time.Time
		end      bool // after the handshake
		want     string
	}{
		{"expired", now.Add(-2 * time.Hour), now.Add(-time.Hour), false, "has expired at"},
		{"too early", now.Add(time.Hour), now.Add(2 * time.Hour), false, "is valid from"},
		{"the server hangs up", now.Add(-time.Hour), now.Add(time.Hour), true,
			"ended the connection after the TLS handshake: it may want a certificate"},
	} {
		pair := selfSigned(t, x509.Certificate{NotBefore: c.from, NotAfter: c.to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
		dir := t.TempDir()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
		if err := os.WriteFile(filepath.Join(dir, "ca-cert.pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			nc, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			if err := startsTLS(nc); err != nil {
				t.Error(err)
			}
			err = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
			if (err == nil) != c.end {
				t.Errorf("%s: the server's handshake: %v", c.name, err)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err = probeImage(ctx, clientWith(t, dir, ""), fmt.Sprintf("nbds://%s/mnvm", l.Addr()))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		cancel()
		<-ended
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// startsTLS is the server's part of what comes before TLS.
func startsTLS(nc net.Conn) error {
	if _, err := io.WriteString(nc, "NBDMAGICIHAVEOPT\x00\x03"); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, 4+16)); err != nil { // flags, and an option without data
		return err
	}
	return binary.Write(nc, binary.BigEndian, struct {
		Magic           uint64
		Opt, Kind, Size uint32
	}{nbdReplyMagic, nbdOptStartTLS, nbdRepAck, 0})
}

// TestNamesOfNBDServers has what QEMU 7.2 with GnuTLS 3.7.9 was seen to do.
func TestNamesOfNBDServers(t *testing.T) {
	server, client := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	ips := func(a string) []net.IP { return []net.IP{net.ParseIP(a)} }
	for _, c := range []struct {
		what, name string
		cert       x509.Certificate
		cn         string
		want       bool
	}{
		{"its address", "127.0.0.1", x509.Certificate{IPAddresses: ips("127.0.0.1")}, "x", true},
		{"its address as a name", "127.0.0.1", x509.Certificate{DNSNames: []string{"127.0.0.1"}}, "x", false},
		{"its address as common name", "127.0.0.1", x509.Certificate{}, "127.0.0.1", false},
		{"the common name beside another name", "h1", x509.Certificate{DNSNames: []string{"other"}}, "h1", false},
		{"the common name beside an address", "h1", x509.Certificate{IPAddresses: ips("10.0.0.1")}, "h1", false},
		{"the common name alone", "h1", x509.Certificate{ExtKeyUsage: server}, "h1", true},
		{"the common name, for no use", "h1", x509.Certificate{}, "h1", true},
		{"the common name of a client", "h1", x509.Certificate{ExtKeyUsage: client}, "h1", false},
		{"the name of a client", "h1", x509.Certificate{ExtKeyUsage: client, DNSNames: []string{"h1"}}, "x", true},
		{"capitals", "h1", x509.Certificate{DNSNames: []string{"H1"}}, "x", true},
		{"a dot at the end", "stor.example.", x509.Certificate{DNSNames: []string{"stor.example"}}, "x", false},
		{"a name in place of an address", "h1", x509.Certificate{IPAddresses: ips("127.0.0.1")}, "x", false},
	} {
		c.cert.Subject = pkix.Name{CommonName: c.cn}
		if got := isNBDServer(selfSigned(t, c.cert).Leaf, c.name); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// TestGuestOnNBDByTLS: libvirt and QEMU do what nbd.go says of them. The server runs on one of two hosts; a guest
// of the other reads its disk by TLS, also where only qemu.conf asks for that, and moves.
func TestGuestOnNBDByTLS(t *testing.T) {
	ca := virthost.Authority(t, "storage")
	hosts := withDrivers(t, virthost.New(t, 2, func(h *virthost.Host, files map[string]string) {
		if err := ca.WriteQEMU(filepath.Join(h.Dir, "etc/pki/qemu"), virthost.Issue(t, ca, h.Addr)); err != nil {
			t.Fatal(err)
		}
		files["qemu.conf"] += "nbd_tls_x509_cert_dir = \"/etc/libvirt/pki/qemu\"\n"
		if h.Number == 2 {
			files["qemu.conf"] += "nbd_tls = 1\n"
		}
	}), "")
	storage, h := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, false)
	virthost.Mark(t, spec.Image)
	storage.IP("link", "set", "lo", "up") // by which a host reaches its own addresses
	image, err := os.ReadFile(spec.Image)
	plain := filepath.Join(t.TempDir(), "plain")
	if err == nil {
		err = os.WriteFile(plain, image, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.IP("link", "set", "lo", "up")
	h.must(request{Op: "serve-nbd", Text: plain + " " + h.Addr + " 10809"})
	storage.must(request{Op: "serve-nbd", Text: strings.Join(append([]string{spec.Image, storage.Addr, "10810"},
		serverCreds("/etc/libvirt/pki/qemu", "")...), " ")})
	at := storage.Addr + ":10810/mnvm"
	for _, c := range []struct {
		host *host
		url  string
		more bool // the guest is needed afterwards
	}{
		{storage, "nbd://" + h.Addr + ":10809/mnvm", false}, // without TLS: so the marker would be seen
		{h, "nbd://" + at, false},
		{h, "nbds://" + at, true},
	} {
		spec.Image = c.url
		c.host.must(request{Op: "check", Spec: spec})
		c.host.must(request{Op: "sniff", Text: virthost.Marker})
		c.host.must(request{Op: "start", Spec: spec})
		c.host.until("running", is(cluster.GuestRunning)) // before that QEMU reads the first sector, for the disk's geometry
		seen := c.host.must(request{Op: "sniffed"}).Seen
		if (seen.Clear > 0) != (c.host == storage) || seen.Bytes < 1<<10 {
			t.Errorf("%s: %+v", c.url, seen)
		}
		if !c.more {
			c.host.must(request{Op: "kill"})
		}
	}
	h.must(request{Op: "migrate", Text: storage.Addr, Timeout: 30 * time.Second})
	storage.must(request{Op: "resume"})
	if g := storage.must(request{Op: "observe"}).Guest; g.State != cluster.GuestRunning || g.Epoch != spec.Epoch {
		t.Errorf("at the target: %+v", g)
	}
	h.until("absent at the source", is(cluster.GuestAbsent))
	storage.must(request{Op: "kill"})

	spec.Image = "nbd://" + at
	if _, err := storage.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), "the server wants TLS") {
		t.Errorf("check without TLS: %v", err)
	}
	if _, err := storage.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("start without TLS: %v", err)
	}
}
