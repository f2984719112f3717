package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

// Ports of the hostile device, and of another service at its address to which it leads.
const (
	hostilePort   = 8443
	elsewherePort = 8444
)

// hostileDevice is a Redfish service that answers wrongly, and notes what it is sent.
type hostileDevice struct {
	answer   func(w http.ResponseWriter, r *http.Request)
	password string
	cert     tls.Certificate // that it shows

	mu        sync.Mutex
	asked     int      // requests
	elsewhere []string // what came to the other service
	leaked    []string // requests with the password where nobody should send it
}

// hostileAnswers are what a device does in place of a session, with what the log has to say of it.
var hostileAnswers = map[string]struct {
	says   string
	answer func(d *hostileDevice, w http.ResponseWriter, r *http.Request)
}{
	"leads elsewhere": {"not at this address", func(d *hostileDevice, w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		http.Redirect(w, r, fmt.Sprintf("https://%s:%d%s", host, elsewherePort, r.URL.Path), http.StatusTemporaryRedirect)
	}},
	"answers without end": {"longer than", func(_ *hostileDevice, w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"a":"`)
		for some := bytes.Repeat([]byte("x"), 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(some); err != nil {
				return
			}
		}
	}},
	"answers byte by byte": {"not reachable", func(_ *hostileDevice, w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			clock.Sleep(r.Context(), 100*time.Millisecond)
		}
	}},
	"sends a bomb": {"longer than", func(_ *hostileDevice, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		some := bytes.Repeat([]byte(" "), 1<<20)
		for range 1024 {
			if _, err := z.Write(some); err != nil {
				return
			}
		}
	}},
	"is a web page": {"no JSON", func(_ *hostileDevice, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><script>alert(1)</script>\x1b[2J"+strings.Repeat("<p>", 10_000))
	}},
	"wants a password elsewhere": {"HTTP status 401", func(_ *hostileDevice, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="another"`)
		http.Error(w, "\x1b[31mlog in<script>", http.StatusUnauthorized)
	}},
	"is another machine's": {"not the device of this host", func(d *hostileDevice, w http.ResponseWriter, r *http.Request) {
		d.system(w, r, "00000000-1111-2222-3333-444444444444")
	}},
	"has another's certificate": {"another fingerprint", nil},
}

// system is a service that is as it should be, of a machine that is off.
func (d *hostileDevice) system(w http.ResponseWriter, r *http.Request, uuid string) {
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/Sessions"):
		w.Header().Set("X-Auth-Token", "token")
		w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(r.URL.Path, "/Systems"):
		fmt.Fprint(w, `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`)
	case strings.HasSuffix(r.URL.Path, "/Systems/1"):
		fmt.Fprintf(w, `{"Id":"1","UUID":%q,"PowerState":"Off",`, uuid)
		fmt.Fprint(w, `"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/1/Reset"}}}`)
	default:
		fmt.Fprint(w, `{}`)
	}
}

// ServeHTTP notes who sends the password how.
func (d *hostileDevice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // it is gone
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+d.password))
	opens := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/Sessions") // what the password is for
	d.mu.Lock()
	d.asked++
	if r.Header.Get("Authorization") == basic || !opens && bytes.Contains(body, []byte(d.password)) ||
		strings.Contains(r.URL.String(), d.password) {
		d.leaked = append(d.leaked, r.Method+" "+r.URL.Path)
	}
	answer := d.answer
	d.mu.Unlock()
	answer(w, r)
}

// certified is a certificate of an authority that nobody knows, as devices have them, and its fingerprint.
func certified(t testing.TB, at netip.Addr) (tls.Certificate, string) {
	t.Helper()
	var pair pki.Pair
	var cert tls.Certificate
	ca, err := pki.NewCA("device", time.Hour)
	if err == nil {
		pair, err = ca.Issue("device", []netip.Addr{at}, nil, time.Hour)
	}
	if err == nil {
		cert, err = tls.X509KeyPair(pair.CertPEM, pair.KeyPEM)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, fmt.Sprintf("%x", sha256.Sum256(cert.Certificate[0]))
}

// start serves at an address of the laboratory's switch until the test ends.
func (d *hostileDevice) start(t testing.TB, r *rig, at netip.Addr) {
	t.Helper()
	var device, other net.Listener
	if err := r.lab.InSwitch(func() (err error) {
		if device, err = net.Listen("tcp", netip.AddrPortFrom(at, hostilePort).String()); err == nil {
			other, err = net.Listen("tcp", netip.AddrPortFrom(at, elsewherePort).String())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	s := &http.Server{Handler: d, ErrorLog: quiet,
		TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			shown := d.cert
			return &shown, nil
		}}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.ServeTLS(device, "", "") }) // until Close
	wg.Go(func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.elsewhere = append(d.elsewhere, c.RemoteAddr().String())
			d.mu.Unlock()
			_ = c.Close() // that it came is all
		}
	})
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), other.Close()); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// TestAHostileFenceDevice: the device of the active host answers wrongly while the host is lost. Nothing is taken for
// a proof, the takeover comes by the deadline, the password goes nowhere else and no answer fills a host's memory.
func TestAHostileFenceDevice(t *testing.T) {
	need.Drill(t, "P2: a fence device that answers whatever it likes gives no proof, gets no password but its own, and fills no memory")
	onLab(t, fenced, aHostileFenceDevice)
}

func aHostileFenceDevice(t testing.TB, r *rig) {
	at := r.lab.BMCAddr("h1").Addr()
	password, err := os.ReadFile(r.disk("h1", "bmc.password"))
	if err != nil {
		t.Fatal(err)
	}
	good, fingerprint := certified(t, at)
	bad, _ := certified(t, at)
	d := &hostileDevice{password: strings.TrimSpace(string(password)), cert: good}
	d.answer = func(w http.ResponseWriter, req *http.Request) { d.system(w, req, r.lab.HostUUID("h1")) }
	d.start(t, r, at)
	r.anew(t, func(cl *config.Cluster) {
		x := &cl.Fencing.Hosts["h1"].Devices[0]
		x.Type, x.Address, x.Fingerprint = "redfish", netip.AddrPortFrom(at, hostilePort).String(), fingerprint
	})
	for _, name := range slices.Sorted(maps.Keys(hostileAnswers)) {
		c := hostileAnswers[name]
		if st := r.healthy(t); st.Owner.Host != "h1" {
			r.command(t, "h1", "migrate", "h1")
		}
		r.forgetPeaks(t)
		asked := 0
		fault := drill{
			fault: func(ctx context.Context, r *rig, h string) error {
				d.mu.Lock()
				asked = d.asked
				if d.answer = nil; c.answer != nil {
					d.answer = func(w http.ResponseWriter, req *http.Request) { c.answer(d, w, req) }
				} else {
					d.cert = bad
				}
				d.mu.Unlock()
				return r.lab.Isolate(ctx, h)
			},
			repair: func(ctx context.Context, r *rig, h string) error {
				d.mu.Lock()
				d.cert = good
				d.answer = func(w http.ResponseWriter, req *http.Request) { d.system(w, req, r.lab.HostUUID("h1")) }
				d.mu.Unlock()
				return back(ctx, r, h)
			},
			most: deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
			check: func(t testing.TB, r *rig, got course) {
				failedOnce(t, r, got)
				for _, e := range got.told(cluster.EvFenceFail) {
					if !strings.Contains(e.Detail, c.says) || strings.ContainsAny(e.Detail, "<>\x1b\n") || len(e.Detail) > 512 {
						t.Errorf("a device that %s: the event says %q, want %q", name, e.Detail, c.says)
					}
				}
			},
		}
		f := fault.run(t, r)
		report(t, "fenced: device "+name, []figures{f})
		d.mu.Lock()
		if c.answer != nil && d.asked == asked || c.answer == nil && d.asked != asked {
			t.Errorf("a device that %s got %d requests", name, d.asked-asked)
		}
		if len(d.elsewhere)+len(d.leaked) > 0 {
			t.Errorf("a device that %s: asked elsewhere by %v, sent the password by %v", name, d.elsewhere, d.leaked)
		}
		d.mu.Unlock()
		if p := r.peaks(t); max(p.agent, p.member) > mostMemory {
			t.Errorf("a device that %s: an agent had %d MB, a member %d MB", name, p.agent/1e6, p.member/1e6)
		}
	}
}
