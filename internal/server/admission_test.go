package server

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

// counted is the body of a request that counts what is read of it.
type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

func (c *counted) Close() error { return nil }

// sorted is a cluster with a member, node1, and a host that runs guests only, g1; admin is no host.
func sorted(name string) (host, guestsOnly bool, err error) {
	return name != "admin", name[0] == 'g', nil
}

// limitedServer makes a server with all services but that of a pair.
func limitedServer(t *testing.T, ca *servertest.Authority, log *slog.Logger) (*Server, *servertest.Fake) {
	t.Helper()
	fake, up := servertest.New(servertest.Three(testTime())), newUpgrades()
	s, err := New(fake, Options{
		Socket: filepath.Join(try.ShortDir(t), "s"), Listen: "127.0.0.1:0", Log: log,
		TLS:  &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
		Jobs: up, Upgrade: up, Agents: up, Certificates: up, Hosts: sorted,
		Access: noUsers{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, fake
}

// callAs makes a request as the TLS listener hands it on.
func callAs(t *testing.T, cert *x509.Certificate, path, contentType string, body io.Reader) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(try.Context(t), http.MethodPost, path, body)
	r.Header.Set("Content-Type", contentType)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	return r
}

// noUsers has none, and is not asked.
type noUsers struct{ Access }

// packed is what 64 MiB of zeros are as gzip: 65 kB.
func packed(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestNothingIsReadOfWhatIsRefused: a call without a right to it, and what is no call, is answered in its own
// protocol while its body, which takes much memory when it is unpacked, was not touched.
func TestNothingIsReadOfWhatIsRefused(t *testing.T) {
	ca := servertest.NewAuthority(t)
	s, _ := limitedServer(t, ca, slog.New(slog.DiscardHandler))
	h, bomb := s.httpServer().Handler, packed(t)
	guestHost, operator := ca.PeerCert(t, "g1").Leaf, ca.PeerCert(t, "admin").Leaf
	types := map[string]string{ // to where the code of the refusal is
		"application/proto": "body", "application/json": "body", "application/connect+proto": "body",
		"application/grpc": "trailer", "application/grpc-web+proto": "header",
	}
	call := func(cert *x509.Certificate, path, contentType string) *http.Response {
		body := &counted{Reader: bytes.NewReader(bomb)}
		r := callAs(t, cert, path, contentType, body)
		for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
			r.Header.Set(name, "gzip")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if body.read != 0 {
			t.Errorf("%s by %s: %d bytes of the body were read", path, contentType, body.read)
		}
		return w.Result()
	}
	for procedure, of := range rights {
		cert, name := guestHost, "g1"
		switch {
		case of == ofAll || strings.Contains(procedure, ".PairService/"):
			continue // the one is refused to nobody, the other to everybody
		case of != ofOperators && of != ofAdmins:
			cert, name = operator, "admin"
		}
		for contentType, in := range types {
			resp := call(cert, procedure, contentType)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			said := map[string]string{
				"body": string(body), "trailer": resp.Trailer.Get("Grpc-Message"), "header": resp.Header.Get("Grpc-Message"),
			}[in]
			if !strings.Contains(said, "not allowed: "+name+" is ") || in == "body" && !strings.Contains(said, "permission_denied") {
				t.Errorf("%s by %s: %s %q, %v", procedure, contentType, resp.Status, said, resp.Header)
			}
		}
	}
	resp := call(guestHost, apiv1connect.PairServiceGetPairProcedure, "application/proto")
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a service that this cluster does not have: %s", resp.Status)
	}
	none := []string{"/", "/holdfast.v1.UpgradeService/New", "/holdfast.v1.NewService/Get", apiv1connect.ClusterServiceStartProcedure + "/"}
	for _, path := range none {
		if resp := call(operator, path, "application/proto"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	body := &counted{Reader: bytes.NewReader(bomb)}
	r := callAs(t, guestHost, apiv1connect.ClusterServiceGetStatusProcedure, "application/proto", body)
	r.TLS = nil // neither a certificate nor a unix socket
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || body.read != 0 {
		t.Errorf("a caller that is not known: %d %s, %d bytes were read", w.Code, w.Body, body.read)
	}
}

// TestRefusedOverTheWire: the same over TLS and HTTP/2, while the client still sends.
func TestRefusedOverTheWire(t *testing.T) {
	ca := servertest.NewAuthority(t)
	ready := make(chan string, 1)
	s, _ := limitedServer(t, ca, servertest.ListenLog(func(at string) { ready <- at }))
	serve(t, s)
	addr := <-ready
	tr := httpAs(t, ca, "g1")
	for range 20 {
		resp, err := post(t, tr, addr, apiv1connect.UpgradeServiceRunUpgradeProcedure, io.LimitReader(zeros{}, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "g1 is a host that runs guests only") {
			t.Fatalf("%s %q, %v", resp.Status, body, err)
		}
		resp.Body.Close()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
