package provider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Bounds of asking the provider. A login takes at most four requests, together less than the console has for an answer.
const (
	askWithin = 5 * time.Second // one request, with its answer
	maxAnswer = 1 << 20         // bytes
	maxHeader = 64 << 10
	freshFor  = time.Hour   // what a provider tells of itself; keys that are new are asked for at once
	againIn   = time.Minute // after it did not answer, while what is old serves
)

// discovered is what the provider tells of itself.
type discovered struct {
	*oidc.Provider
	http     *http.Client
	endpoint oauth2.Endpoint
	scopes   []string
}

// asking is a request that is under way, for all who wait for it.
type asking struct {
	done  chan struct{} // closed once the others are set
	known *discovered
	err   error
}

// discovered asks the provider about itself, once for all who want to know. What is older than freshFor serves when the
// provider does not answer.
func (c *Client) discovered(ctx context.Context) (*discovered, error) {
	c.mu.Lock()
	old := c.known
	if old != nil && c.now().Before(c.next) {
		c.mu.Unlock()
		return old, nil
	}
	a := c.asking
	if a == nil {
		a = &asking{done: make(chan struct{})}
		c.asking = a
		go c.ask(context.WithoutCancel(ctx), a)
	}
	c.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if a.err != nil && old != nil {
		return old, nil
	}
	return a.known, a.err
}

// ask asks, and ends within askWithin.
func (c *Client) ask(ctx context.Context, a *asking) {
	a.known, a.err = c.discover(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.err == nil {
		c.known, c.next = a.known, c.now().Add(freshFor)
	} else if c.known != nil {
		c.next = c.now().Add(againIn)
		c.log.Warn("console: the OpenID provider does not tell of itself, what it told before serves", "issuer", c.conf.Issuer,
			"err", short(a.err.Error()))
	}
	c.asking = nil
	close(a.done)
}

func (c *Client) discover(ctx context.Context) (*discovered, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, client), c.conf.Issuer)
	if err != nil {
		return nil, err
	}
	var more struct {
		Keys    string   `json:"jwks_uri"`
		Scopes  []string `json:"scopes_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, err
	}
	d := &discovered{Provider: p, http: client, endpoint: p.Endpoint(),
		scopes: []string{oidc.ScopeOpenID, "profile", "email"}}
	for what, at := range map[string]string{"authorization_endpoint": d.endpoint.AuthURL, "token_endpoint": d.endpoint.TokenURL,
		"jwks_uri": more.Keys, "userinfo_endpoint": p.UserInfoEndpoint()} {
		u, err := url.Parse(at)
		if at == "" && what == "userinfo_endpoint" {
			continue
		}
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("its %s is %.200q: want an address with https", what, at)
		}
	}
	if slices.Contains(more.Scopes, "groups") { // some send them only then, others refuse a scope that they do not know
		d.scopes = append(d.scopes, "groups")
	}
	d.endpoint.AuthStyle = oauth2.AuthStyleInHeader // the standard's default
	if len(more.Methods) > 0 && !slices.Contains(more.Methods, "client_secret_basic") {
		d.endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return d, nil
}

// client makes what asks the provider: by TLS, without following elsewhere, within the bounds.
func (c *Client) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.conf.CA != "" {
		pem, err := os.ReadFile(c.conf.CA)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", c.conf.CA)
		}
	}
	return &http.Client{
		Timeout: askWithin,
		Transport: bounded{&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true,
			DialContext: (&net.Dialer{Timeout: askWithin}).DialContext, TLSHandshakeTimeout: askWithin, IdleConnTimeout: askWithin,
			MaxResponseHeaderBytes: maxHeader}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it leads elsewhere, which is not followed")
		},
	}, nil
}

// bounded refuses answers that are longer than maxAnswer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &limited{resp.Body, maxAnswer}
	}
	return resp, err
}

type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return n, err
}
