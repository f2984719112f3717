package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb" // calls that the store must not answer
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/pki"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/lab"
)

// Ports of a member of the store, as the laboratory has them.
const (
	clientPort = 2379
	peerPort   = 2380
)

// ports wants that nothing of a member listens but what is tried here.
func (r *rig) ports(t testing.TB, members []string) {
	t.Helper()
	for _, h := range members {
		of := proc.Table(filepath.Join("/proc", fmt.Sprint(r.init(t, h))))
		for proto, known := range map[string][]uint16{"tcp": {lab.APIPort, lab.ConsolePort, clientPort, peerPort}, "udp": {lab.APIPort}} {
			all, err := of.Listening(proto)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				if !l.At.Addr().IsLoopback() && !slices.Contains(known, l.At.Port()) && r.isOurs(t, h, l.Name()) {
					t.Errorf("%s listens at %s %s, which nobody has tried", h, proto, l.At)
				}
			}
		}
	}
}

func (r *rig) isOurs(t testing.TB, h, socket string) bool {
	t.Helper()
	for _, p := range r.ours(t, h) {
		if has, err := proc.Here.HasOpen(p.pid, socket); err == nil && has {
			return true
		}
	}
	return false
}

// strangers tries all ports of a member without a certificate, with one of another authority, and with
// that of a host that runs guests only at the port of the peers.
func (r *rig) strangers(t testing.TB, h string) {
	t.Helper()
	foreign, err := pki.NewCA("foreign", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := foreign.Issue("h2", []netip.Addr{r.lab.Addr("h2")}, []string{"localhost"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	guest := r.lab.Hosts()[3]
	own := r.shown(t, guest, r.pki(guest, guest+".pem"), r.pki(guest, guest+".key"))
	none, strange := own.tls.Clone(), own.tls.Clone()
	none.Certificates, none.GetClientCertificate = nil, nil
	strange.Certificates = nil
	strange.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	for _, port := range []int{lab.APIPort, clientPort, peerPort} {
		at := own.at(h, port)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, protocol := range []string{"h2", "http/1.1"} {
				for who, conf := range map[string]*tls.Config{"no certificate": none, "a certificate of a foreign authority": strange} {
					r.barred(t, who, conf, at, version, protocol)
				}
				if port == peerPort {
					r.barred(t, "the certificate of "+guest, own.tls, at, version, protocol)
				}
			}
		}
		r.bare(t, at)
	}
}

// barred wants a connection to end in its handshake, without an answer.
func (r *rig) barred(t testing.TB, who string, conf *tls.Config, at string, version uint16, protocol string) {
	t.Helper()
	raw, err := r.lab.Dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conf = conf.Clone()
	conf.ServerName, _, _ = strings.Cut(at, ":")
	conf.NextProtos, conf.MinVersion, conf.MaxVersion = []string{protocol}, version, version
	if err := raw.SetDeadline(time.Now().Add(4 * askFor)); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, conf)
	err = c.HandshakeContext(t.Context())
	n := 0
	if err == nil { // in TLS 1.3 the server says it after the client's part
		_, _ = io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n") // it may have ended already
		n, err = c.Read(make([]byte, 512))
	}
	if n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s at %s, %s: %d bytes of an answer, %v", who, at, tls.VersionName(version), n, err)
	}
}

// bare wants no page for who speaks no TLS.
func (r *rig) bare(t testing.TB, at string) {
	t.Helper()
	raw, err := r.lab.Dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(4 * askFor)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(raw, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(raw)
	if errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(text), " 200 ") {
		t.Errorf("without TLS at %s: %.100q, %v", at, text, err)
	}
}

// forgedBeats sends what looks like heartbeats, of which none has the secret.
func (r *rig) forgedBeats(t testing.TB, h string) {
	t.Helper()
	c, err := r.lab.Dial(t.Context(), "udp", fmt.Sprintf("%s:%d", r.lab.Addr(h), lab.APIPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{1, 4, 69, 70, 101, 102, 138, 870, 871, 1400, 9000, 65000} {
		for _, head := range []string{"", "HFHB\x01\x00", "HFHB\x01\x03", "HFHB\x01\xff", "HFHB\x02\x00"} {
			b := make([]byte, size)
			if _, err := rand.Read(b); err != nil {
				t.Fatal(err)
			}
			copy(b, head)
			if _, err := c.Write(b); err != nil {
				t.Fatalf("send %d bytes to %s: %v", size, h, err)
			}
		}
	}
}

// pages wants that what a member of the store tells beside its calls is not told.
func (r *rig) pages(t testing.TB, own showing, h string) {
	t.Helper()
	base := "https://" + own.at(h, clientPort)
	var conn net.Conn
	tr := own.transport(&conn) // a member lets a host connect twice a second
	defer tr.CloseIdleConnections()
	for _, page := range []string{
		"/", "/metrics", "/debug/vars", "/debug/pprof/", "/debug/pprof/heap", "/debug/requests", "/health", "/health?serializable=true",
		"/livez", "/readyz", "/version", "/config/local/log", "/members", "/members/x", "/raft", "/raft/snapshot", "/lease", "/lease/internal",
		"/downgrade/enabled", "/v2/keys/", "/v3/kv/range", "/v3/kv/put", "/v3/kv/txn", "/v3/maintenance/status", "/v3/auth/enable",
		"/v3beta/kv/range", "//metrics", "/x/../metrics", "/%6detrics", "/etcdserverpb.KV/Range",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			resp, text := own.ask(t, tr, method, base+page, false, []byte("{}"))
			if resp.StatusCode < 400 && resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusMovedPermanently {
				t.Errorf("%s %s of %s: %s %.80q", method, page, h, resp.Status, text)
			}
			if strings.Contains(text, "etcd_") || strings.Contains(text, "cluster_id") || strings.Contains(text, "etcdserver\":") {
				t.Errorf("%s %s of %s tells: %.80q", method, page, h, text)
			}
		}
	}
}

// console tries a member's console: a certificate lets nobody in there, and who has not logged in sees and changes nothing.
func (r *rig) console(t testing.TB, own showing, h string) {
	t.Helper()
	base := "https://" + own.at(h, lab.ConsolePort)
	var conn net.Conn
	tr := own.transport(&conn)
	defer tr.CloseIdleConnections()
	for _, page := range []string{
		"/", "/hosts", "/events", "/live/overview", "/password", "/hosts/h2/maintenance", "/logout", "/metrics", "/api/v1/hosts",
		"/holdfast.v1.ClusterService/Stop", "/holdfast.v1.AccessService/SetUser", "/../hosts", "//hosts", "/static/../hosts",
		"/vm/screen", "/vm/screen/ticket", "/vm/screen/socket", "/guests/" + loop.GuestUUID("lab") + "/screen/socket?ticket=A",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			resp, text := own.ask(t, tr, method, base+page, false, []byte("on=true"))
			if resp.StatusCode < 300 || strings.Contains(text, "10.98.") {
				t.Errorf("%s %s of the console of %s: %s %.80q", method, page, h, resp.Status, text)
			}
		}
	}
}

// everyCall tries all calls of etcd at a member of the store.
func (r *rig) everyCall(t testing.TB, own showing, h string) {
	t.Helper()
	open := []string{
		pb.KV_Range_FullMethodName, pb.KV_Txn_FullMethodName, pb.Watch_Watch_FullMethodName,
		pb.Maintenance_Status_FullMethodName, pb.Cluster_MemberList_FullMethodName,
	}
	c := own.dial(t, h, clientPort)
	all := procedures("etcdserverpb", "v3lockpb", "v3electionpb", "grpc.health.v1")
	if len(all) < 50 {
		t.Fatalf("etcd has %d calls", len(all))
	}
	for _, m := range all {
		name := procedure(m)
		err := oneCall(t.Context(), c, m, dynamicpb.NewMessage(m.Input()))
		is := slices.Contains(open, name)
		// An empty read is one of the key "", outside of what may be read.
		if refused := status.Code(err) == codes.PermissionDenied; refused == (is && name != pb.KV_Range_FullMethodName) {
			t.Errorf("%s of %s: %v; let in: %v", name, h, err, is)
		}
		if code := own.zeros(t, h, clientPort, name); code == codes.OK || !is && code != codes.PermissionDenied {
			t.Errorf("%s of %s, with a body that unpacks to %d MiB: %v", name, h, zeroMiB, code)
		}
	}
	alarms := pb.NewMaintenanceClient(c)
	for _, a := range []*pb.AlarmRequest{
		{}, {Action: pb.AlarmRequest_DEACTIVATE}, {Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE},
		{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}, {Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_CORRUPT},
	} {
		if _, err := alarms.Alarm(t.Context(), a); status.Code(err) != codes.PermissionDenied {
			t.Errorf("alarm %v of %s: %v", a, h, err)
		}
	}
}
