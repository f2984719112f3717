package bmc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

// readable tells what is wrong with an error that is shown to people.
func readable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if s := err.Error(); len(s) > maxText || !utf8.ValidString(s) || strings.ContainsAny(s, "<>\r\n\x00\x1b") {
		t.Errorf("error of %d bytes: %.600q", len(s), s)
	}
}

// babbling is a service that answers some requests with a page of 1.7 MB.
func babbling(t *testing.T, status int, to func(*http.Request) bool) Options {
	t.Helper()
	s := &redfish{m: newMachine(t), systems: []string{"1"}, uuid: strings.ToUpper(machineID),
		sessions: map[string]string{}, resets: []string{"On", "ForceOff"}}
	h := s.handler()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !to(r) {
			h.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "\x1b[2J\x00 internal error \xff ")
		for range 100_000 {
			if _, err := io.WriteString(w, "<p>error page</p>"); err != nil {
				return // nobody reads on, which is what is wanted
			}
		}
	}))
	t.Cleanup(srv.Close)
	sum := sha256.Sum256(srv.Certificate().Raw)
	return Options{Type: "redfish", Address: srv.URL, User: "admin", PasswordFile: secret(t, rightPassword),
		Machine: machineID, Fingerprint: hex.EncodeToString(sum[:])}
}

// A page of 1.7 MB became an error of 1.7 MB, an event too large for the store,
// and a takeover that never came.
func TestLongAnswers(t *testing.T) {
	reset := func(r *http.Request) bool {
		return r.Method == http.MethodPost && strings.Contains(r.URL.Path, "Reset")
	}
	system := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "Systems/1")
	}
	root := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Trim(r.URL.Path, "/") == "redfish/v1"
	}
	for name, c := range map[string]struct {
		status int
		to     func(*http.Request) bool
		kind   error
		says   string
	}{
		"the order is refused":    {http.StatusInternalServerError, reset, ErrRefused, "internal error"},
		"the system is refused":   {http.StatusServiceUnavailable, system, ErrRefused, "internal error"},
		"the system is no system": {http.StatusOK, system, nil, ""},
		"the root is no root":     {http.StatusOK, root, nil, ""},
		"the root is not there":   {http.StatusNotFound, root, ErrRefused, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			d := device(t, babbling(t, c.status, c.to))
			err := d.Off(within(t, 10*time.Second))
			readable(t, err)
			if c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: want %v and %q", err, c.kind, c.says)
			}
			_, err = d.Check(within(t, 10*time.Second))
			if c.status != http.StatusInternalServerError { // Check orders nothing
				readable(t, err)
			}
			_, err = Chain{d, d}.Off(within(t, 10*time.Second))
			if err == nil || len(err.Error()) > 2*maxText+1 {
				t.Errorf("a chain of two: %v", err)
			}
		})
	}
}

// What a library makes of an IPMI device's answer passes the same bound.
func TestLongErrorsOfSessions(t *testing.T) {
	long := fmt.Errorf("%w: \x1b]0;<b>%s", ErrRefused, strings.Repeat("ä", 1<<20))
	for _, typ := range []string{"ipmi", "redfish"} {
		d := &Device{opts: Options{Type: typ, User: "admin", Address: "bmc.example"}}
		err := d.failed("switch off", "order", long)
		readable(t, err)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "switch off by "+typ+" admin@bmc.example: order: refused: ?]0;(b)ää") {
			t.Errorf("%v", err)
		}
	}
}

func TestBoundedBody(t *testing.T) {
	for _, c := range []struct {
		size int
		want error
	}{{0, nil}, {1, nil}, {maxAnswer, nil}, {maxAnswer + 1, errTooLong}, {3 * maxAnswer, errTooLong}} {
		b := &boundedBody{ReadCloser: io.NopCloser(iotest.OneByteReader(strings.NewReader(strings.Repeat("x",
			c.size)))), left: maxAnswer, over: errTooLong}
		got, err := io.ReadAll(b)
		if !errors.Is(err, c.want) || len(got) != min(c.size, maxAnswer) {
			t.Errorf("%d bytes: read %d, %v, want %v", c.size, len(got), err, c.want)
		}
	}
}
