package neutron

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/testbed/try"
)

// stand is a stand-in for the API: it keeps what is posted, and fails as faults says.
type stand struct {
	mu      sync.Mutex
	rows    map[string]bool
	posts   int
	doubled int
	faults  []string // of the next requests: busy, down, cut or "" for none
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := ""
	if len(s.faults) > 0 && (r.Method == http.MethodPost || s.faults[0] != "cut") {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	switch fault {
	case "busy":
		w.Header().Set("Retry-After", "0")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	case "down":
		http.Error(w, "no server", http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodGet {
		if !s.rows[r.URL.Path] {
			http.Error(w, "{}", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "{}") // a client that has gone says so itself
		return
	}
	var body map[string]map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.posts++
	for _, o := range body {
		path := r.URL.Path + "/" + o["id"].(string)
		if s.rows[path] {
			s.doubled++
			http.Error(w, "duplicate", http.StatusInternalServerError)
			return
		}
		s.rows[path] = true
	}
	if fault == "late" { // what has made it was an earlier request
		http.Error(w, `{"NeutronError": {"message": "Requested subnet overlaps with another subnet."}}`, http.StatusBadRequest)
		return
	}
	if fault == "cut" { // carried out, and the answer is lost
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "{}")
}

// TestCreateInSpiteOfFaults: an object is made once, whatever becomes of requests and answers.
func TestCreateInSpiteOfFaults(t *testing.T) {
	for name, faults := range map[string][]string{
		"none": nil, "too many requests": {"busy", "", "busy"}, "a server that is away": {"down", "down", "", "down"},
		"an answer that is lost":                       {"cut"},
		"an earlier request that was carried out late": {"", "late"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stand{rows: map[string]bool{}, faults: faults}
			srv := httptest.NewServer(s)
			defer srv.Close()
			c, err := New(srv.URL)
			try.Must(t, err)
			try.Must(t, c.Network(try.Context(t), net.Network{ID: "a", Segments: []net.Segment{{NetworkType: "local"}}}))
			if len(s.rows) != 1 || s.posts != 1 || s.doubled != 0 || len(s.faults) != 0 {
				t.Errorf("%d objects by %d POSTs, %d of them doubled, faults left %v: want one of each, none doubled",
					len(s.rows), s.posts, s.doubled, s.faults)
			}
			// What is there is not sent again.
			try.Must(t, c.Network(try.Context(t), net.Network{ID: "a", Segments: []net.Segment{{NetworkType: "local"}}}))
			if s.posts != 1 {
				t.Errorf("%d POSTs for an object that is there", s.posts)
			}
		})
	}
}

// TestGivenUp: a caller that gives up hears that it has, and not what a server said last.
func TestGivenUp(t *testing.T) {
	for range 20 {
		ctx, cancel := context.WithCancel(try.Context(t))
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				cancel()
				http.Error(w, "no server", http.StatusServiceUnavailable)
				return
			}
			http.Error(w, "{}", http.StatusNotFound)
		}))
		c, err := New(srv.URL)
		try.Must(t, err)
		if err := c.Network(ctx, net.Network{ID: "a"}); !errors.Is(err, context.Canceled) {
			t.Errorf("create: %v", err)
		}
		cancel()
		srv.Close()
	}
}

// TestRefusalOfIDs: the remedy names the extension, and nothing is tried again.
func TestRefusalOfIDs(t *testing.T) {
	posts := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.Error(w, "{}", http.StatusNotFound)
			return
		}
		posts++
		http.Error(w, `{"NeutronError": {"message": "Attribute 'id' not allowed in POST"}}`, http.StatusBadRequest)
	}))
	defer srv.Close()
	c, err := New(srv.URL)
	try.Must(t, err)
	var e *fail.Error
	if err := c.Group(try.Context(t), net.Group{ID: "a"}); !errors.As(err, &e) || e.Kind != fail.Refused ||
		!strings.Contains(e.Remedy, "holdfast_client_ids") || posts != 1 {
		t.Errorf("%v after %d POSTs: want it refused with a remedy after one", err, posts)
	}
}

// TestEndpoints: what is no address of an API is bad input.
func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:9696", "ftp://127.0.0.1", "http://", "http://x?y=z"} {
		var e *fail.Error
		if _, err := New(bad); !errors.As(err, &e) || e.Kind != fail.Invalid {
			t.Errorf("New(%q): %v, want bad input", bad, err)
		}
	}
}

// TestDeleteWaits: a request whose answer was lost, and which is carried out later, is not sent again: it would remove
// what has been made anew meanwhile.
func TestDeleteWaits(t *testing.T) {
	var mu sync.Mutex
	deletes, gets := 0, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodDelete {
			deletes++
			panic(http.ErrAbortHandler)
		}
		if gets++; gets > 2 {
			http.Error(w, "{}", http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "{}") // a client that has gone says so itself
	}))
	defer srv.Close()
	c, err := New(srv.URL)
	try.Must(t, err)
	try.Must(t, c.Delete(try.Context(t), "ports", "a"))
	if deletes != 1 || gets != 3 {
		t.Errorf("%d DELETEs, and %d looks whether it has gone: want 1 and 3", deletes, gets)
	}
}
