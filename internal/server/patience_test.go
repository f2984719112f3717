package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/testbed/try"
)

// TestNobodyReadsAfterTheCall: what still reads the body of a call when that has ended is told so. net/http would panic, as the answer of
// a call by HTTP/2 is no more by then.
func TestNobodyReadsAfterTheCall(t *testing.T) {
	over, read := make(chan struct{}), make(chan error)
	inner := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		go func() {
			<-over
			_, err := r.Body.Read(make([]byte, 5))
			read <- err
		}()
	})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		patience{body: time.Minute, take: time.Minute}.serve(inner, w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	body, sender := io.Pipe()
	defer sender.Close()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+apiv1connect.ScreenServiceOpenScreenProcedure, body)
	try.Must(t, err)
	r, err := s.Client().Do(q)
	try.Must(t, err)
	if r.ProtoMajor != 2 {
		t.Fatalf("it came by %s", r.Proto)
	}
	try.Must(t, r.Body.Close())
	// The client has the whole answer, so the call has ended.
	close(over)
	if err := <-read; err == nil {
		t.Error("it read something")
	}
}
