package layout

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast/testbed/try"
)

// TestStream: a part is sent when it is another one, else a sign of life: who types on the page is left alone. What it has begins no
// event of its own.
func TestStream(t *testing.T) {
	parts := []string{"a\rb\n\nevent: c", "a\rb\n\nevent: c", "d"}
	now := make(chan struct{})
	close(now)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Stream(w, r, func() (string, <-chan struct{}, error) {
			if len(parts) == 0 {
				return "", nil, errors.New("no more")
			}
			p := parts[0]
			parts = parts[1:]
			return p, now, nil
		})
	}))
	defer s.Close()
	r, err := s.Client().Get(s.URL)
	try.Must(t, err)
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	try.Must(t, err)
	const want = "event: part\ndata: ab\ndata: \ndata: event: c\n\nevent: beat\ndata:\n\nevent: part\ndata: d\n\n"
	if string(got) != want || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%q: %q\nwant %q", r.Header.Get("Content-Type"), got, want)
	}
}
