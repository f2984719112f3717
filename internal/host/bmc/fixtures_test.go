package bmc

import (
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
)

// What a request is for.
func atAll(*http.Request) bool     { return true }
func atRoot(r *http.Request) bool  { return r.Method == http.MethodGet && r.URL.Path == redfishRoot }
func atList(r *http.Request) bool  { return strings.HasSuffix(r.URL.Path, "/Systems") }
func atLogin(r *http.Request) bool { return r.Method == http.MethodPost && !atOrder(r) }
func atOrder(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "ComputerSystem.Reset") }
func atSystem(r *http.Request) bool {
	return strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), "/Systems/1")
}

// around puts f around what the service does so far.
func around(f func(s *redfish, next http.Handler) http.HandlerFunc) func(*redfish) {
	return func(s *redfish) {
		inner := s.wrap
		s.wrap = func(s *redfish, next http.Handler) http.Handler {
			if inner != nil {
				next = inner(s, next)
			}
			return f(s, next)
		}
	}
}

// before runs f at some requests; they are answered when it is true.
func before(at func(*http.Request) bool, f func(s *redfish, w http.ResponseWriter, r *http.Request) bool) func(*redfish) {
	return around(func(s *redfish, next http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !at(r) || !f(s, w, r) {
				next.ServeHTTP(w, r)
			}
		}
	})
}

// after runs f when some requests are carried out, before they are answered.
func after(at func(*http.Request) bool, f func(s *redfish)) func(*redfish) {
	return around(func(s *redfish, next http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if at(r) {
				f(s)
			}
		}
	})
}

// answer is one that may be changed.
type answer struct {
	r      *http.Request
	code   int
	header http.Header
	body   string
}

func (a *answer) replace(old, new string) { a.body = strings.ReplaceAll(a.body, old, new) }

// change changes the answers to some requests.
func change(at func(*http.Request) bool, f func(*answer)) func(*redfish) {
	return around(func(_ *redfish, next http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			a := &answer{r, rec.Code, rec.Header(), rec.Body.String()}
			if at(r) {
				f(a)
			}
			for k, v := range a.header {
				w.Header()[k] = v
			}
			w.WriteHeader(a.code)
			_, _ = io.WriteString(w, a.body) // the client may be gone
		}
	})
}

// noLogin refuses sessions.
func noLogin(code int, message string) func(*redfish) {
	return before(atLogin, func(_ *redfish, w http.ResponseWriter, _ *http.Request) bool {
		reply(w, code, object{"error": object{"code": "Base.1.8.GeneralError", "@Message.ExtendedInfo": []object{{"MessageId": message}}}})
		return true
	})
}

// slashes redirects what is asked for without a slash to the same with one, by the URL's
// beginning that is given, in which HOST is the service.
func slashes(code int, beginning string) func(*redfish) {
	return around(func(_ *redfish, next http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			path, with := strings.CutSuffix(r.URL.Path, "/")
			if r.URL.Path == redfishRoot {
				path = redfishRoot
			}
			if !with {
				w.Header().Set("Location", strings.ReplaceAll(beginning, "HOST", r.Host)+path+"/")
				w.WriteHeader(code)
				return
			}
			r.URL.Path = path
			next.ServeHTTP(w, r)
		}
	})
}

// refusesOff refuses orders while the host is off.
func refusesOff(code int) func(*redfish) {
	return before(atOrder, func(s *redfish, w http.ResponseWriter, _ *http.Request) bool {
		if s.m.lives() {
			return false
		}
		refuse(w, code, "the power is off already")
		return true
	})
}

// meanwhile gives another power state, twice after each order.
func meanwhile(state string) func(*redfish) {
	return func(s *redfish) {
		var left atomic.Int32
		after(atOrder, func(*redfish) { left.Store(2) })(s)
		change(atSystem, func(a *answer) {
			if a.r.Method == http.MethodGet && left.Add(-1) >= 0 {
				a.replace(`"PowerState":"Off"`, `"PowerState":`+state)
			}
		})(s)
	}
}

// garbled breaks answers about the system off behind the chunks, so many after each order.
func garbled(chunks string, times int32) func(*redfish) {
	return func(s *redfish) {
		var left atomic.Int32
		after(atOrder, func(*redfish) { left.Store(times) })(s)
		before(atSystem, func(s *redfish, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || left.Add(-1) < 0 {
				return false
			}
			s.m.state() // it was asked for
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks) // the client may be gone
				_ = conn.Close()
			}
			return true
		})(s)
	}
}

// etag gives a version of the system, and wants another form of it with orders. An order
// without one gets the status bare.
func etag(gives, wants string, bare int) func(*redfish) {
	return func(s *redfish) {
		change(atSystem, func(a *answer) { a.header.Set("ETag", gives) })(s)
		before(atOrder, func(_ *redfish, w http.ResponseWriter, r *http.Request) bool {
			switch got := r.Header.Get("If-Match"); got {
			case wants:
				return false
			case "":
				refuse(w, bare, "If-Match")
			default:
				refuse(w, http.StatusPreconditionFailed, "If-Match")
			}
			return true
		})(s)
	}
}

// compressed sends all bodies so.
func compressed(s *redfish) {
	change(atAll, func(a *answer) {
		if a.body == "" {
			return
		}
		var b strings.Builder
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, a.body) // to memory
		_ = z.Close()
		a.header.Set("Content-Encoding", "gzip")
		a.body = b.String()
	})(s)
}

// suite is the only one that the service has.
func suite(id uint16) func(*redfish) {
	return func(s *redfish) {
		s.tls = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}}
	}
}

// negative gives the service a certificate with a negative serial number.
func negative(s *redfish) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(0x7654321076543210)},
		&x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	i := strings.Index(string(der), "\x02\x08\x76\x54")
	der[i+2] |= 0x80 // the sign
	c := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.tls = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c, nil }}
}

// connKey is the key of a connection's count of requests.
type connKey struct{}

// once serves one request by a connection. What comes next is neither read nor answered.
var once = before(atAll, func(_ *redfish, _ http.ResponseWriter, r *http.Request) bool {
	if n := r.Context().Value(connKey{}).(*atomic.Int32); n.Add(1) > 1 {
		panic(http.ErrAbortHandler)
	}
	return false
})
