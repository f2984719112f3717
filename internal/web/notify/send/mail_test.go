package send

import (
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/testbed/try"
)

func mail(addr, scheme string, ca authority) Request {
	r := to(config.Mail)
	r.URL, r.From, r.To, r.CA = scheme+"://"+addr, "holdfast@example.com", "ops@example.com", ca.file
	r.User, r.Secret = "holdfast", "p@ss w:rd/"+key
	r.Subject = "[prod] 严重: takeover"
	return r
}

func TestMail(t *testing.T) {
	ca := newAuthority(t)
	for name, implicit := range map[string]bool{"smtp": false, "smtps": true} {
		t.Run(name, func(t *testing.T) {
			m := (&mailServer{t: t, conf: ca.tls(t)}).begin(implicit)
			r := mail(m.addr, name, ca)
			said, err := sends(t, r)
			if err != nil || said != "the server has taken the mail" {
				t.Fatal(said, err)
			}
			heard, secure := m.heard()
			login := base64.StdEncoding.EncodeToString([]byte("\x00" + r.User + "\x00" + r.Secret))
			for _, want := range []string{"AUTH PLAIN " + login, "MAIL FROM:<holdfast@example.com>", "RCPT TO:<ops@example.com>",
				"Subject: =?utf-8?q?", "From: Holdfast <holdfast@example.com>", "To: ops@example.com", "Date: ",
				"Content-Type: text/plain; charset=\"UTF-8\"",
				"h1 -> h3 & co\nMessage: abc", "QUIT"} {
				if !strings.Contains(heard, want) {
					t.Errorf("no %q in\n%s", want, heard)
				}
			}
			if !secure || strings.Count(heard, "DATA") != 1 {
				t.Errorf("encrypted %t, mails %d", secure, strings.Count(heard, "DATA"))
			}
		})
	}
}

func TestMailWithoutLogin(t *testing.T) {
	ca := newAuthority(t)
	m := (&mailServer{t: t}).begin(false)
	r := mail(m.addr, "smtp", ca)
	r.User, r.Secret = "", ""
	if said, err := sends(t, r); err != nil {
		t.Fatal(said, err)
	}
	if heard, _ := m.heard(); strings.Contains(heard, "AUTH") {
		t.Error(heard)
	}
}

func TestMailThatIsNotTaken(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		server *mailServer
		ca     authority
		want   string
	}{
		"no encryption for a password": {&mailServer{}, ca, "StartTLS"},
		"nobody trusts it":             {&mailServer{conf: ca.tls(t)}, newAuthority(t), "unknown authority"},
		"wrong password":               {&mailServer{conf: ca.tls(t), refuse: "AUTH 535 5.7.8 authentication failed"}, ca, "authentication failed"},
		"no such address":              {&mailServer{conf: ca.tls(t), refuse: "RCPT 550 5.1.1 no such user"}, ca, "no such user"},
		"sender refused":               {&mailServer{conf: ca.tls(t), refuse: "MAIL 553 not yours"}, ca, "not yours"},
		"full":                         {&mailServer{conf: ca.tls(t), refuse: "DATA 452 4.3.1 full"}, ca, "full"},
	} {
		t.Run(name, func(t *testing.T) {
			c.server.t = t
			m := c.server.begin(false)
			r := mail(m.addr, "smtp", c.ca)
			_, err := sends(t, r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			tellsNoSecret(t, r, err)
		})
	}
}

// peer is a server that does something with each connection.
func peer(t *testing.T, does func(net.Conn)) string {
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
			t.Cleanup(func() { c.Close() })
			go does(c)
		}
	}()
	return ln.Addr().String()
}

func TestAServerOfMailThatMisbehaves(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		does   func(net.Conn)
		within time.Duration
		want   string
	}{
		"hangs":    {func(net.Conn) {}, 500 * time.Millisecond, "no answer within 500ms"},
		"nonsense": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() }, 0, "HTTP/1.1"},
		"hangs in the midst": {func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n250-"); _, _ = io.Copy(io.Discard, c) },
			500 * time.Millisecond, "no answer within 500ms"},
	} {
		t.Run(name, func(t *testing.T) {
			r := mail(peer(t, c.does), "smtp", ca)
			r.Within = c.within
			if _, err := sends(t, r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A line without end takes memory of the process that sends, which has little, and not of the agent.
func TestAServerOfMailThatTalksWithoutEnd(t *testing.T) {
	r := mail(peer(t, func(c net.Conn) {
		page := make([]byte, 1<<20)
		for i := range page {
			page[i] = 'x'
		}
		_, _ = io.WriteString(c, "220 ")
		for {
			if _, err := c.Write(page); err != nil {
				return
			}
		}
	}), "smtp", newAuthority(t))
	if _, err := sends(t, r); err == nil || !strings.Contains(err.Error(), "out of memory") && !strings.Contains(err.Error(), "no answer") &&
		!strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}
