package array

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
)

// Error codes of the array.
const (
	codeOK            = 0
	codeUnauthorized  = -401       // the session is not valid
	codeOffline       = 1077949069 // the session has ended
	codeTimeout       = 1077949001 // inside of the array: it may have been done
	codeBusy          = 1077949006
	codeExists        = 1077948993 // the name is taken
	codeNoSnapshot    = 1073754118
	codeManySessions  = 1077949067
	maxReply          = 4 << 20 // bytes
	attempts          = 3       // of a request whose reply was lost
	defaultLimit      = 30 * time.Second
	defaultAgain      = 500 * time.Millisecond
	connectLimit      = 10 * time.Second
	root              = "/deviceManager/rest/"
	healthy           = "1"
	typeFileSystem    = 40
	rollbackIsRunning = "1"
	rollbackIsPaused  = "2"
	rollbackIsStopped = "4"
)

// Error is what the array answered in place of success.
type Error struct {
	Code        int64
	Description string
}

func (e *Error) Error() string {
	hint := ""
	if e.Code == codeManySessions {
		hint = ": too many sessions are open, end some of them or wait until they expire"
	}
	return fmt.Sprintf("the storage array says %d %q%s", e.Code, e.Description, hint)
}

// lostError is a request without a reply that can be understood: it may have been
// done.
type lostError struct {
	err      error
	answered bool // by something that speaks HTTP
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// client is a session with the array.
type client struct {
	base    string
	user    string
	options Options
	http    *http.Client
	log     *slog.Logger
	limit   time.Duration
	again   time.Duration
	device  string
	token   string
}

func (p Provider) client(o Options) (*client, error) {
	host, err := o.check()
	if err != nil {
		return nil, err
	}
	security, err := o.tls()
	if err != nil {
		return nil, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &client{base: "https://" + host + root, user: o.User, options: o, log: p.Log, limit: p.Request, again: p.Again}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.limit == 0 {
		c.limit = defaultLimit
	}
	if c.again == 0 {
		c.again = defaultAgain
	}
	c.http = &http.Client{
		Jar: jar,
		Transport: &http.Transport{
			TLSClientConfig: security, DialContext: (&net.Dialer{Timeout: connectLimit}).DialContext,
			TLSHandshakeTimeout: connectLimit, MaxIdleConns: 1, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the storage array redirects to another address")
		},
	}
	return c, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// tls trusts the CA or the one certificate that the options name, and nothing else.
func (o Options) tls() (*tls.Config, error) {
	if o.CA != "" {
		b, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the array's ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("read the array's ca: %s has no certificate", o.CA)
		}
		return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
	}
	pin, err := o.pin()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the certificate itself is compared
		VerifyConnection: func(s tls.ConnectionState) error {
			got := sha256.Sum256(s.PeerCertificates[0].Raw)
			if !bytes.Equal(got[:], pin) {
				return fmt.Errorf("%w: it has the fingerprint %x", errCertificate, got)
			}
			return nil
		},
	}, nil
}

// errCertificate is a certificate that is not the pinned one.
var errCertificate = errors.New("the certificate is not the array's")

// login opens a session. A refusal is final; without an answer it is tried again,
// although a session may then be open that nobody knows.
func (c *client) login(ctx context.Context) error {
	password, err := c.options.Password.Read()
	if err != nil {
		return err
	}
	c.token, c.device = "", "xxxxx" // what a request for a session has in place of the device
	var s struct {
		Device string `json:"deviceid"`
		Token  string `json:"iBaseToken"`
	}
	err = c.patiently(ctx, func() error {
		return c.once(ctx, http.MethodPost, "sessions", map[string]any{"username": c.user, "password": password, "scope": 0}, &s)
	})
	if err != nil {
		return fmt.Errorf("log in to the storage array as %s: %w", c.user, err)
	}
	if s.Device == "" || s.Token == "" || strings.ContainsAny(s.Device, "/?#%") {
		return errors.New("log in to the storage array: its answer has no device or no token")
	}
	c.device, c.token = s.Device, s.Token
	return nil
}

func (c *client) logout(ctx context.Context) error {
	return c.once(ctx, http.MethodDelete, "sessions", nil, nil)
}

// patiently calls f until it gives an answer, a few times with a wait between. What
// never had one is ErrArrayUnreachable.
func (c *client) patiently(ctx context.Context, f func() error) error {
	wait := c.again
	for n := 1; ; n++ {
		err := f()
		var lost *lostError
		var said *Error
		busy := errors.As(err, &said) && said.Code == codeBusy
		if err == nil || !busy && !errors.As(err, &lost) {
			return err
		}
		if n == attempts || ctx.Err() != nil {
			if lost != nil && !lost.answered && !errors.Is(ctx.Err(), context.Canceled) {
				err = fmt.Errorf("%w: %w", ErrArrayUnreachable, err)
			}
			return err
		}
		if !clock.Sleep(ctx, wait) {
			return errors.Join(context.Cause(ctx), err)
		}
		wait *= 2
	}
}

// call is one request within the session. When the session has ended it opens
// another, once.
func (c *client) call(ctx context.Context, method, path string, body, into any) error {
	err := c.once(ctx, method, path, body, into)
	var said *Error
	if !errors.As(err, &said) || said.Code != codeUnauthorized && said.Code != codeOffline {
		return err
	}
	if err := c.login(ctx); err != nil {
		return err
	}
	return c.once(ctx, method, path, body, into)
}

// ask repeats a request that changes nothing, or whose repetition does.
func (c *client) ask(ctx context.Context, method, path string, body, into any) error {
	return c.patiently(ctx, func() error { return c.call(ctx, method, path, body, into) })
}

// once sends a request and reads the reply. Its error is an *Error, a *lostError,
// or one that a repetition does not change.
func (c *client) once(ctx context.Context, method, path string, body, into any) error {
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(limited, method, c.base+c.device+"/"+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("iBaseToken", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failure(ctx, err)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return &lostError{fmt.Errorf("the reply broke off: %w", err), true}
	}
	return understand(resp, b, into)
}

// failure sorts out requests that had no reply at all.
func (c *client) failure(ctx context.Context, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, errCertificate), errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &invalid):
		return err // somebody answers, and it is not the array
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), &lostError{err, false})
	}
	return &lostError{err, false}
}

// reply is the form of every reply.
type reply struct {
	Data  json.RawMessage `json:"data"`
	Error *struct {
		Code        json.RawMessage `json:"code"` // a number, on some versions in quotes
		Description string          `json:"description"`
	} `json:"error"`
}

// understand reads a reply.
func understand(resp *http.Response, b []byte, into any) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return &Error{Code: codeUnauthorized, Description: resp.Status}
	case resp.StatusCode >= 500:
		return &lostError{fmt.Errorf("the storage array answers %s", resp.Status), true}
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the storage array answers %s", resp.Status)
	case len(b) > maxReply:
		return fmt.Errorf("the reply has more than %d bytes", maxReply)
	}
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return &lostError{fmt.Errorf("the reply can not be read: %w", err), true}
	}
	if r.Error == nil {
		return &lostError{errors.New("the reply does not say whether it succeeded"), true}
	}
	code, err := strconv.ParseInt(strings.Trim(string(r.Error.Code), `"`), 10, 64)
	switch {
	case err != nil:
		return &lostError{fmt.Errorf("the reply has the code %q", r.Error.Code), true}
	case code == codeTimeout:
		return &lostError{&Error{Code: code, Description: r.Error.Description}, true}
	case code != codeOK:
		return &Error{Code: code, Description: r.Error.Description}
	}
	if into == nil || len(r.Data) == 0 || string(r.Data) == "{}" { // an empty list has this form, too
		return nil
	}
	if err := json.Unmarshal(r.Data, into); err != nil {
		return &lostError{fmt.Errorf("the reply's data can not be read: %w", err), true}
	}
	return nil
}

// scalar is a value that some versions give as a string and others as a number.
type scalar string

// UnmarshalJSON takes both.
func (t *scalar) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		var n json.Number
		if err := json.Unmarshal(b, &n); err != nil {
			return fmt.Errorf("%.40q is neither a string nor a number", b)
		}
		s = n.String()
	}
	*t = scalar(s)
	return nil
}

// filter writes a condition of a query.
func filter(field, value string) string { return "filter=" + field + "::" + url.QueryEscape(value) }
