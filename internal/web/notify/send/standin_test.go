package send

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/try"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == Command {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sends hands a message to a service by a process of its own, as an agent does.
func sends(t *testing.T, r Request) (string, error) {
	t.Helper()
	return Run(try.Context(t), r, os.Args[0], Command)
}

// authority vouches for the stand-ins, by a file.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	try.Must(t, err)
	a := authority{filepath.Join(t.TempDir(), "ca.pem"), &x509.Certificate{SerialNumber: big.NewInt(1),
		Subject:   pkix.Name{CommonName: "stand-in"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, key}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	try.Must(t, err)
	try.Must(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// tls is the certificate of a server with some names.
func (a authority) tls(t *testing.T, names ...string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	try.Must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	try.Must(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// asked is a request that a stand-in got.
type asked struct {
	*http.Request
	body string
}

// service is a stand-in of services at their own names: it is reached by a proxy, as in many networks of operators.
type service struct {
	t  *testing.T
	ca authority

	mu  sync.Mutex
	got []asked
}

// hosts are the names of the services.
var hosts = []string{"hooks.slack.com", "open.feishu.cn", "open.larksuite.com", "qyapi.weixin.qq.com", "oapi.dingtalk.com",
	"api.telegram.org", "flow.example.com"}

// serve begins a stand-in that answers in a way.
func serve(t *testing.T, answer http.HandlerFunc) *service {
	t.Helper()
	s := &service{t: t, ca: newAuthority(t)}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.got = append(s.got, asked{r, string(b)})
		s.mu.Unlock()
		answer(w, r)
	}))
	srv.TLS = s.ca.tls(t, hosts...)
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	t.Setenv("HTTPS_PROXY", proxy(t, srv.Listener.Addr().String()))
	return s
}

// only is the one request that came.
func (s *service) only() asked {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) != 1 {
		s.t.Fatalf("%d requests, want one", len(s.got))
	}
	return s.got[0]
}

// proxy leads every host to one address.
func proxy(t *testing.T, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go connect(c, to)
		}
	}()
	return "http://" + ln.Addr().String()
}

func connect(c net.Conn, to string) {
	defer c.Close()
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { _, _ = io.Copy(out, in); out.Close() }()
	_, _ = io.Copy(c, out)
}

// mailServer is a stand-in of a server of mail.
type mailServer struct {
	t      *testing.T
	conf   *tls.Config
	refuse string // the answer to a command that begins with the first word
	addr   string

	mu    sync.Mutex
	lines []string // commands, and lines of mails
	tls   bool     // the last mail came encrypted
}

func (m *mailServer) begin(implicit bool) *mailServer {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(m.t, err)
	m.t.Cleanup(func() { ln.Close() })
	m.addr = ln.Addr().String()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if implicit {
				c = tls.Server(c, m.conf)
			}
			go m.talk(c, implicit)
		}
	}()
	return m
}

func (m *mailServer) said(l string, secure bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines, m.tls = append(m.lines, l), secure
}

func (m *mailServer) heard() (lines string, secure bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines, "\n"), m.tls
}

func (m *mailServer) talk(c net.Conn, secure bool) {
	defer func() { c.Close() }()
	in := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 mail.example.com ESMTP")
	for {
		l, err := in.ReadString('\n')
		if err != nil {
			return
		}
		l = strings.TrimRight(l, "\r\n")
		m.said(l, secure)
		verb, _, _ := strings.Cut(strings.ToUpper(l), " ")
		verb, _, _ = strings.Cut(verb, ":")
		if at, answer, is := strings.Cut(m.refuse, " "); is && at == verb {
			say(answer)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-mail.example.com")
			if m.conf != nil && !secure {
				say("250-STARTTLS")
			}
			say("250-8BITMIME")
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go ahead")
			t := tls.Server(c, m.conf)
			if t.Handshake() != nil {
				return
			}
			c, in, secure = t, bufio.NewReader(t), true
		case "AUTH":
			say("235 welcome")
		case "DATA":
			say("354 go on")
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				m.said(strings.TrimRight(l, "\r\n"), secure)
			}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
