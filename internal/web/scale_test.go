package web

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/testbed/try"
)

// Sizes of the largest cluster that is measured.
const (
	manyHosts   = 3000
	manyGuests  = 60_000
	manyViewers = 200
)

// large is a console of a cluster of that size, with a day's events.
func large(t testing.TB) *site {
	x := newSite(t)
	for i := range manyHosts {
		x.up.Jobs.Reported = append(x.up.Jobs.Reported, inventory.Summary{Name: cluster.HostID(fmt.Sprintf("cvk%04d", i)), Up: true,
			Addr: fmt.Sprintf("10.%d.%d.9", i/250, i%250), Agent: "1.0.0", Guests: manyGuests / manyHosts})
	}
	for i := range manyGuests {
		x.up.Jobs.VMs = append(x.up.Jobs.VMs, inventory.Guest{Name: fmt.Sprintf("web-%05d", i), UUID: fmt.Sprintf("%032x", i),
			Host: cluster.HostID(fmt.Sprintf("cvk%04d", i%manyHosts)), State: inventory.GuestRuns, MemoryMiB: 4096, CPUs: 2,
			Addresses: []string{fmt.Sprintf("10.200.%d.%d", i/250, i%250)}})
	}
	for i := range eventsKept {
		x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Host: "node2", Detail: fmt.Sprintf("reason %d", i)})
	}
	return x
}

// BenchmarkPages is the time that a whole page takes the server, with the login it comes with, and its size as it is sent.
func BenchmarkPages(b *testing.B) {
	x := large(b)
	for _, path := range []string{"/", "/hosts", "/hosts?q=cvk2999", "/guests", "/guests?q=web-59999", "/events", "/store"} {
		b.Run(strings.ReplaceAll(path, "/", ":"), func(b *testing.B) {
			c := x.as("the-operator")
			r := x.request(http.MethodGet, path)
			for _, k := range c.Jar.Cookies(r.URL) {
				r.AddCookie(k)
			}
			r.Header.Set("Accept-Encoding", "gzip")
			size := 0
			for b.Loop() {
				w := httptest.NewRecorder()
				x.console.handler.ServeHTTP(noDeadlines{w}, r)
				if w.Code != http.StatusOK || w.Header().Get("Content-Encoding") != "gzip" {
					b.Fatal(w.Code, w.Header())
				}
				size = w.Body.Len()
			}
			b.ReportMetric(float64(size), "bytes/page")
		})
	}
}

// noDeadlines takes deadlines, as a connection does.
type noDeadlines struct{ *httptest.ResponseRecorder }

func (noDeadlines) SetReadDeadline(time.Time) error  { return nil }
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkViewers is the processor time of the server, and of those who look, for a change that all see: half of them in
// Chinese, by TLS.
func BenchmarkViewers(b *testing.B) {
	x := large(b)
	for _, path := range []string{"/", "/hosts"} {
		b.Run(strings.ReplaceAll(path, "/", ":"), func(b *testing.B) { viewers(b, x, path) })
	}
}

func viewers(b *testing.B, x *site, path string) {
	c := x.as("the-operator")
	seen := make(chan struct{}, manyViewers)
	var all sync.WaitGroup
	var open []io.Closer
	for i := range manyViewers {
		r := x.request(http.MethodGet, "/live"+path)
		r.Header.Set("Accept-Language", []string{"en", "zh"}[i%2])
		resp, err := c.Do(r)
		try.Must(b, err)
		open = append(open, resp.Body)
		all.Go(func() {
			part := []byte("event: part")
			buf := make([]byte, 64<<10)
			for {
				n, err := resp.Body.Read(buf)
				if bytes.Contains(buf[:n], part) {
					seen <- struct{}{}
				}
				if err != nil {
					return
				}
			}
		})
	}
	wait := func() {
		for range manyViewers {
			<-seen
		}
	}
	wait() // what they see first
	begun, n := processorTime(b), 0
	for b.Loop() {
		n++
		x.cluster.Update(func(s *cluster.Status) {
			s.Owner.Epoch.Seq++
			s.Hosts[0].Addr = fmt.Sprintf("10.0.%d.%d", n/250, n%250)
		})
		wait()
	}
	b.ReportMetric(float64((processorTime(b)-begun).Milliseconds())/float64(n), "cpu-ms/change")
	for _, o := range open {
		try.Must(b, o.Close())
	}
	all.Wait()
}

// processorTime is that of this process.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	try.Must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestPagesAreCompressed: as browsers ask for it; streams and answers to forms are not.
func TestPagesAreCompressed(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	for path, want := range map[string]string{"/": "gzip", "/static/console.css": "gzip", "/live/": "", "/healthz": ""} {
		r := x.request(http.MethodGet, path)
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := c.Do(r)
		try.Must(t, err)
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s is sent as %q, want %q", path, got, want)
		}
		if want != "" {
			plain, err := gzip.NewReader(resp.Body)
			try.Must(t, err)
			text, err := io.ReadAll(plain)
			if try.Must(t, err); len(text) == 0 {
				t.Errorf("%s is empty", path)
			}
		}
		try.Must(t, resp.Body.Close())
	}
	r := x.request(http.MethodPost, "/users", "name", "bob", "role", "viewer")
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := c.Do(r)
	try.Must(t, err)
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Encoding"); resp.StatusCode != http.StatusOK || got != "" {
		t.Errorf("%d, a password for once is sent as %q", resp.StatusCode, got)
	}
}
