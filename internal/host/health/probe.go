package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// bodyLimit is how much of an answer is read, in bytes.
const bodyLimit = 64 << 10

// newClient returns a client that makes a connection of its own for each probe:
// an old one that still works says nothing about new ones. It ignores proxies of
// the environment, they would answer in the service's place.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            new(net.Dialer).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: bodyLimit,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// probe asks once. It returns after Timeout at the latest.
func (p *Prober) probe(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	addr := net.JoinHostPort(host, strconv.Itoa(p.opt.Port))
	var err error
	if p.opt.Kind == HTTP {
		err = p.get(ctx, addr)
	} else {
		err = connect(ctx, addr)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return silent{addr, p.opt.Timeout, err}
	}
	return err
}

// silent says in plain words that the time was over.
type silent struct {
	addr  string
	limit time.Duration
	err   error
}

func (s silent) Error() string { return fmt.Sprintf("%s: no whole answer in %v", s.addr, s.limit) }
func (s silent) Unwrap() error { return s.err }

func connect(ctx context.Context, addr string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := c.Close(); err != nil {
		return fmt.Errorf("hang up on %s: %w", addr, err)
	}
	return nil
}

// get needs the answer's end too: a service whose answer stops in the middle
// is no better than one that says nothing.
func (p *Prober) get(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+p.opt.Path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	req.Header.Set("User-Agent", "holdfast-health")
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s%s answers %s", addr, p.opt.Path, resp.Status)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, bodyLimit); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer of %s%s: %w", addr, p.opt.Path, err)
	}
	return nil
}
