// Package tracestest has a stand-in of a collector of OpenTelemetry, for tests.
package tracestest

import (
	"compress/gzip"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Token is what the stand-in is to be shown.
const Token = "s3cret-token"

// Collector takes what a collector takes, and keeps it.
type Collector struct {
	URL, CA, TokenFile string            // for the settings
	Facts              map[string]string // of who has sent spans; complete when that has ended
	Request            string            // the last one: method, path, and by whom

	t     testing.TB
	mu    sync.Mutex
	spans map[string][]*otlp.Span
}

// New serves one by TLS until the test ends.
func New(t testing.TB) *Collector {
	t.Helper()
	dir := t.TempDir()
	c := &Collector{t: t, spans: map[string][]*otlp.Span{}, Facts: map[string]string{}, CA: filepath.Join(dir, "ca.pem"),
		TokenFile: filepath.Join(dir, "token")}
	s := httptest.NewTLSServer(c)
	t.Cleanup(s.Close)
	c.URL = s.URL
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := errors.Join(os.WriteFile(c.CA, cert, 0o600), os.WriteFile(c.TokenFile, []byte(Token+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ServeHTTP takes a message of OTLP.
func (c *Collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m collector.ExportTraceServiceRequest
	z, err := gzip.NewReader(r.Body)
	if err == nil {
		var b []byte
		if b, err = io.ReadAll(z); err == nil {
			err = proto.Unmarshal(b, &m)
		}
	}
	if err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Request = r.Method + " " + r.URL.Path + " by " + r.Header.Get("Authorization")
	for _, from := range m.ResourceSpans {
		for _, a := range from.Resource.Attributes {
			c.Facts[a.Key] = a.Value.GetStringValue()
		}
		for _, scope := range from.ScopeSpans {
			for _, x := range scope.Spans {
				c.spans[x.Name] = append(c.spans[x.Name], x)
			}
		}
	}
}

// Spans are those that have come, by name.
func (c *Collector) Spans() map[string][]*otlp.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.spans)
}

// FactsOf are the facts of a span.
func FactsOf(x *otlp.Span) map[string]string {
	out := map[string]string{}
	for _, a := range x.Attributes {
		out[a.Key] = a.Value.GetStringValue()
	}
	return out
}
