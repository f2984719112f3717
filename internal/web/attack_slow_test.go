package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// smallBuffer has little of an answer wait in the client's kernel.
func smallBuffer(d *net.Dialer) {
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		}), err)
	}
}

// trickle sends a byte now and then until the server has ended the connection.
func trickle(ctx context.Context, c net.Conn) error {
	every := time.NewTicker(time.Second / 2)
	defer every.Stop()
	for {
		if _, err := c.Write([]byte("a")); err != nil {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// silent sends nothing more, and takes what comes, until the server has ended the connection.
func silent(ctx context.Context, c net.Conn) error {
	deadline, _ := ctx.Deadline()
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	return nil
}

// slow is a way to be slow.
type slow struct {
	n    int
	says string // after the handshake; "": there is none
	bare bool
	deaf bool // it takes nothing
	end  func(context.Context, net.Conn) error
}

// TestSlowClients: whoever is slow is ended by the server, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	need.Drill(t, "console: clients that are slow in each part of a connection are ended, and others served meanwhile")
	x := newServed(t)
	x.as("the-viewer")
	cookie := x.cookie("the-viewer")
	const head = " HTTP/1.1\r\nHost: a\r\n"
	post := "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10000\r\n\r\n"
	kinds := map[string]slow{
		"no handshake":              {n: 200, bare: true, end: silent},
		"a slow handshake":          {n: 200, bare: true, end: trickle},
		"a slow header":             {n: 200, says: "GET /login" + head + "X-A: ", end: trickle},
		"a slow body":               {n: 200, says: "POST /login" + head + post, end: trickle},
		"no body":                   {n: 200, says: "POST /login" + head + post, end: silent},
		"no body, of a page":        {n: 200, says: "GET /login" + head + post, end: silent},
		"no body, of no page":       {n: 200, says: "DELETE /nothing" + head + post, end: silent},
		"no body, of a bundle":      {n: 200, says: "POST " + bundlePath + head + post, end: silent},
		"no body, for programs":     {n: 200, says: "POST /api/v1/nothing" + head + post, end: silent},
		"no body, read by programs": {n: 200, says: "GET /api/v1/status" + head + post, end: silent},
		"answers that are not read": {n: 100, says: strings.Repeat("GET /static/htmx.min.js"+head+"\r\n", 200), deaf: true, end: trickle},
		"a stream that is not read": {n: 20, says: "GET /live/" + head + "Cookie: " + cookie + "\r\n\r\n", deaf: true, end: trickle},
	}
	ctx := try.Context(t)
	for _, together := range [][]string{
		{"no handshake", "a slow handshake", "a slow header", "answers that are not read", "a stream that is not read"},
		{"a slow body", "no body", "no body, of a page", "no body, of no page"},
		{"no body, of a bundle", "no body, for programs", "no body, read by programs"}} {
		var wg sync.WaitGroup
		var streams atomic.Int64
		for i, name := range together {
			k := kinds[name]
			for j := range k.n {
				var options []func(*net.Dialer)
				if k.deaf {
					options = append(options, smallBuffer)
				}
				c := x.bare(fmt.Sprintf("127.0.%d.%d", 10+i, j+1), options...)
				if !k.bare {
					s := x.shake(c)
					_, err := io.WriteString(s, k.says)
					try.Must(t, err)
					c = s
				}
				streams.Add(1)
				wg.Go(func() {
					defer streams.Add(-1)
					if err := k.end(ctx, c); err != nil {
						t.Errorf("%s: it is not ended: %v", name, err)
					}
				})
			}
			x.healthy(name)
		}
		for i := 0; streams.Load() > 0; i++ { // what is told grows over what the kernel keeps of a stream
			x.cluster.Update(func(s *cluster.Status) { s.Waiting = strings.Repeat(fmt.Sprint(i, " waits "), 10_000) })
			next := time.NewTimer(time.Second / 4)
			select {
			case <-next.C:
			case <-ctx.Done():
				t.Fatalf("%d are not ended", streams.Load())
			}
		}
		wg.Wait()
		x.healthy("all were ended")
	}
}

// cookie is what a browser of somebody who has logged in sends.
func (x *site) cookie(name string) string {
	x.t.Helper()
	r := x.request(http.MethodPost, "/login", "name", name, "password", secret)
	resp, err := x.browser().Do(r)
	try.Must(x.t, err)
	try.Must(x.t, resp.Body.Close())
	for _, k := range resp.Cookies() {
		return k.Name + "=" + k.Value
	}
	x.t.Fatal("no cookie")
	return ""
}

// endless is a body of n bytes that counts what was taken of it.
type endless struct {
	start string
	left  int64
	taken atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	for i := range p[:n] {
		p[i] = 'a'
	}
	if e.taken.Load() == 0 {
		copy(p, e.start)
	}
	e.left -= n
	e.taken.Add(n)
	return int(n), nil
}

// TestHugeRequests: what is larger than it may be is refused after a part of it, and takes no memory.
func TestHugeRequests(t *testing.T) {
	need.Drill(t, "console: bodies of 1 GiB and headers of 1 MiB are refused after little of them, and memory stays")
	x := newServed(t)
	const (
		huge = 1 << 30
		// maxConfigForm is the largest that is read; what is taken beyond it waits in the kernels, at most 16 MiB here
		most = maxConfigForm + 16<<20
	)
	cookie := x.cookie("the-admin")
	form, multi := "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	field := "--b\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"a\"\r\n\r\n"
	x.healthy("nothing happens")
	before := heap()
	for _, two := range []bool{false, true} {
		c := x.from("127.0.20.1", two)
		for _, u := range []struct{ path, kind, start string }{{"/login", form, "name="}, {"/users", form, "name="},
			{"/configuration/edit", form, "text="}, {"/login", multi, fmt.Sprintf(field, "name")},
			{bundlePath, multi, fmt.Sprintf(field, "signature")}, {bundlePath, multi, fmt.Sprintf(field, "bundle")},
			{"/nothing", form, "a="}, {"/api/v1/users", "application/json", `{"name":"`}} {
			body := &endless{start: u.start, left: huge}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, x.URL+u.path, body)
			try.Must(t, err)
			r.ContentLength = huge
			r.Header.Set("Content-Type", u.kind)
			r.Header.Set("Cookie", cookie)
			resp, err := c.Do(r)
			if err == nil { // else the connection was closed while the client sent
				if resp.StatusCode < http.StatusBadRequest {
					t.Errorf("%s, HTTP/2 %v: %d", u.path, two, resp.StatusCode)
				}
				try.Must(t, resp.Body.Close())
			}
			if got := body.taken.Load(); got > most {
				t.Errorf("%s, HTTP/2 %v: %d bytes were taken, want at most %d", u.path, two, got, most)
			}
		}
		c.CloseIdleConnections()
	}
	big := x.raw("127.0.20.2")
	go func() { // it is cut off at some point
		_, _ = io.WriteString(big, "GET /login HTTP/1.1\r\nHost: a\r\nX-A: "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
	}()
	if b, err := io.ReadAll(io.LimitReader(big, 1<<16)); err == nil && !bytes.HasPrefix(b, []byte("HTTP/1.1 431 ")) {
		t.Errorf("a header of 1 MiB: %.200s", b)
	}
	x.healthy("headers are huge")
	x.Client().CloseIdleConnections()
	keeps(t, before, 8<<20)
}

// TestOldAndPlain: neither TLS before 1.2 nor HTTP without TLS gets an answer.
func TestOldAndPlain(t *testing.T) {
	x := newServed(t)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conf := x.trusts()
		conf.ServerName, conf.MinVersion, conf.MaxVersion = "127.0.0.1", tls.VersionTLS10, version
		c := tls.Client(x.bare("127.0.0.1"), conf)
		if err := c.HandshakeContext(t.Context()); err == nil {
			t.Errorf("%s is let in", tls.VersionName(version))
		}
	}
	plain := x.bare("127.0.0.1")
	_, err := io.WriteString(plain, "GET /login HTTP/1.1\r\nHost: a\r\n\r\n")
	try.Must(t, err)
	if b, err := io.ReadAll(plain); bytes.Contains(b, []byte("200 OK")) || bytes.Contains(b, []byte("password")) {
		t.Errorf("without TLS: %q, %v", b, err)
	}
	x.healthy("others are refused")
}

// TestRapidReset: who opens streams and resets them at once ends his connection at most, not the service of others.
func TestRapidReset(t *testing.T) {
	need.Drill(t, "console: 10,000 streams of HTTP/2 that are opened and reset at once: others are served")
	x := newServed(t)
	x.healthy("nothing happens")
	before := heap()
	conn := x.shake(x.bare("127.0.30.1"), "h2")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn) // until it ends
	}()
	_, err := io.WriteString(conn, http2.ClientPreface)
	try.Must(t, err)
	fr := http2.NewFramer(conn, nil)
	try.Must(t, fr.WriteSettings())
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSize(0)
	sent := 0
	for i := range 10_000 {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/login"}} {
			try.Must(t, enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
		}
		id := uint32(2*i + 1)
		err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		if err != nil {
			break
		}
		if err = fr.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			break
		}
		if sent++; i%2_500 == 0 {
			x.healthy("streams are reset")
		}
	}
	t.Logf("%d streams were opened and reset, then: %v", sent, err)
	x.healthy("streams were reset")
	conn.Close()
	<-gone
	x.Client().CloseIdleConnections()
	keeps(t, before, 8<<20)
}
