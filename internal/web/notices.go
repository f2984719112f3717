package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

const noticesPath = "/notifications"

// noticesPart is the part of the page of who is told of events.
func noticesPart(ctx context.Context, v *view) (templ.Component, error) {
	all, err := v.api.Receivers(ctx)
	if err != nil {
		return nil, err
	}
	return notices(v, all), nil
}

// testReceiver sends a message that says that it is a test, and shows what the service answered. A service may take longer
// than pages do.
func (c *Console) testReceiver(w http.ResponseWriter, r *http.Request, v *view) {
	name := r.PathValue("name")
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * answerTime)); err != nil {
		c.fails(w, r, err)
		return
	}
	said, err := v.api.TestReceiver(r.Context(), name)
	v.Title = v.T("A test of " + name)
	if err != nil {
		v.Fail(err)
		c.show(w, r, httpCode(err), tested(v, ""))
		return
	}
	v.Message = v.T("The service has taken the message.")
	c.show(w, r, http.StatusOK, tested(v, told.Clean(said)))
}

// testPath is where a test of a receiver is asked for.
func testPath(name string) templ.SafeURL {
	return templ.SafeURL(noticesPath + "/" + url.PathEscape(name) + "/test")
}

// toldOf says what a receiver is told of, and when.
func toldOf(v *view, r cluster.Receiver) (lines []string) {
	what := v.T("all events from " + v.T(string(r.Least)) + " on")
	if len(r.Kinds) > 0 {
		var kinds []string
		for _, k := range r.Kinds {
			kinds = append(kinds, v.T(kindOf(v, k)))
		}
		what = v.T("only these events from "+v.T(string(r.Least))+" on") + colon(v) + strings.Join(kinds, ", ")
	}
	lines = append(lines, what, v.T("what happens within "+span(v, r.Group)+" is one message"))
	if r.Quiet != "" {
		zone := r.Zone
		if zone == "" {
			zone = v.T("time of the host that sends")
		}
		lines = append(lines, v.T("only what is critical during "+r.Quiet)+" ("+zone+")")
	}
	return lines
}

// receiverTone is the tone of a receiver's state.
func receiverTone(r cluster.Receiver) told.Tone {
	switch {
	case r.Failing:
		return told.Bad
	case r.Lost > 0:
		return told.Warn
	case r.Sent.IsZero():
		return told.Plain
	}
	return told.Good
}
