package bmc

import (
	"fmt"
	"io"
	"net/http"

	"holdfast/internal/lib/text"
)

const (
	// maxAnswer is what is read of one answer by HTTP, body and header each. A
	// computer system's resource has 5 to 20 KiB on servers of several makes.
	maxAnswer = 64 << 10
	// maxText is the longest text of an error of this package, in bytes: errors of
	// devices get into events, statuses and records of the store, which bounds them.
	maxText = 512
)

// errTooLong: an answer that should be parsed is longer than maxAnswer.
var errTooLong = fmt.Errorf("%w: its answer is longer than %d bytes", ErrRefused, maxAnswer)

// cleanError is an error whose text is fit to be shown, whatever a device has put into
// it. What it wraps is found as before.
type cleanError struct{ error }

func (e cleanError) Error() string { return text.Line(e.error.Error(), maxText) }
func (e cleanError) Unwrap() error { return e.error }

// bounded reads no more than maxAnswer of each answer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body := &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	if resp.StatusCode < http.StatusBadRequest {
		body.over = errTooLong
	} else {
		body.over = io.EOF // an error's beginning says what there is to say
	}
	resp.Body = body
	return resp, nil
}

// boundedBody ends with over where more than left bytes would come.
type boundedBody struct {
	io.ReadCloser
	left int
	over error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 {
		// Is there more, or is this the end?
		n, err := b.ReadCloser.Read(p[:1])
		if n > 0 {
			err = b.over
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
