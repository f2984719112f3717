package layout

import (
	"net/http"
	"strings"
	"time"
)

// Times of a page that is open.
const (
	BeatEvery = 2 * time.Second  // longest silence of a stream: the page says when it has waited for longer
	takeTime  = 10 * time.Second // for a browser to take what comes
)

// Stream sends a part of a page whenever it is another one, and a sign of life in between, until the request ends, nobody takes
// it, or part fails. Part makes it, and gives what is closed when it is to be made anew.
func Stream(w http.ResponseWriter, r *http.Request, part func() (html string, changed <-chan struct{}, err error)) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	for last := ""; ; {
		now, changed, err := part()
		if err != nil {
			return
		}
		text := "event: beat\ndata:\n\n"
		if now != last {
			text = "event: part\n" + lines(now) + "\n"
			last = now
		}
		if rc.SetWriteDeadline(time.Now().Add(takeTime)) != nil {
			return
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		case <-changed:
		}
	}
}

// lines are the lines of data of an event.
func lines(html string) string {
	return "data: " + strings.ReplaceAll(strings.ReplaceAll(html, "\r", ""), "\n", "\ndata: ") + "\n"
}

// BodyTime is what there is for a browser to send the body of a request.
const BodyTime = 10 * time.Second

// Timely bounds the time for the body of each request, also of one that nobody reads: the server reads what is left of it.
func Timely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(BodyTime)); err != nil {
				http.Error(w, "the connection has ended", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
