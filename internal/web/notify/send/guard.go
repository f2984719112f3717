package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const maxAnswer = 64 << 10 // bytes

// guard is the transport of the process: it asks once, follows nothing, reads little, and keeps what came.
type guard struct {
	ctx    context.Context
	next   http.RoundTripper
	silent error // at the end of ctx

	status int
	body   []byte
	err    error // why there is no answer; it has no secret but by the doing of the service
}

// errNotAsked is the error where the library did not even ask.
var errNotAsked = errors.New("the message was not handed to the service")

func newGuard(ctx context.Context, next http.RoundTripper, silent error) *guard {
	return &guard{ctx: ctx, next: next, silent: silent, err: errNotAsked}
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.err != errNotAsked {
		return nil, errors.New("it was asked once")
	}
	var res *http.Response
	res, g.err = g.ask(r)
	if errors.Is(g.err, context.DeadlineExceeded) {
		g.err = g.silent
	}
	return res, g.err
}

func (g *guard) ask(r *http.Request) (*http.Response, error) {
	res, err := g.next.RoundTrip(r.WithContext(g.ctx))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if cerr := res.Body.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return nil, fmt.Errorf("it answers %d, a redirect, which is not followed: enter the address that takes messages itself", res.StatusCode)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("it answers %d with more than %d bytes: that is no service of this kind", res.StatusCode, maxAnswer)
	}
	g.status, g.body = res.StatusCode, body
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}
