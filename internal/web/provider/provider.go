package provider

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
)

// Callback is the path of the console to which the provider sends browsers back.
const Callback = "/login/oidc/callback"

// Mark stands before the name of everybody who has logged in by the provider. No user of the cluster has a colon in the
// name.
const Mark = "oidc:"

// Client is the console as a client of the provider. Make it with New. All methods may be called concurrently.
type Client struct {
	conf   config.OIDC
	issuer string // its host, as people are told of it
	stamp  string
	log    *slog.Logger
	now    func() time.Time
	starts starts

	mu     sync.Mutex
	known  *discovered // what the provider told of itself last
	next   time.Time   // known serves until then
	asking *asking     // nil: nobody asks it now
}

// New makes a client that has asked nothing yet.
func New(conf config.OIDC, log *slog.Logger) *Client {
	c := &Client{conf: conf, issuer: conf.Issuer, log: log, now: time.Now}
	if u, err := url.Parse(conf.Issuer); err == nil {
		c.issuer = u.Host
	}
	c.starts.now = func() time.Time { return c.now() }
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", conf))
	c.stamp = hex.EncodeToString(sum[:8])
	return c
}

// Issuer is how people are told of the provider: its host.
func (c *Client) Issuer() string { return c.issuer }

// Stamp is another one with other settings: a session goes on only while it is the one of its login.
func (c *Client) Stamp() string { return c.stamp }

// Begun is a login that has begun, which the browser's session keeps until it comes back.
type Begun struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // of PKCE
	Next     string    `json:"next"`     // the page that was asked for
	At       time.Time `json:"at"`
}

// BeginWithin is how long somebody has for the provider's pages.
const BeginWithin = 10 * time.Minute

// Begin makes the address of the provider to which the browser goes. from is what starts are counted by.
func (c *Client) Begin(ctx context.Context, from string) (to string, b Begun, err error) {
	if err := c.starts.may(from); err != nil {
		return "", Begun{}, err
	}
	p, err := c.discovered(ctx)
	if err != nil {
		return "", Begun{}, c.away(err)
	}
	b = Begun{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), At: c.now()}
	conf := c.oauth(p, "")
	return conf.AuthCodeURL(b.State, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier)), b, nil
}

// oauth is the console as a client, with its secret for requests of its own.
func (c *Client) oauth(p *discovered, secret string) oauth2.Config {
	return oauth2.Config{ClientID: c.conf.ClientID, ClientSecret: secret, Endpoint: p.endpoint, Scopes: p.scopes,
		RedirectURL: c.conf.URL + Callback}
}

// Who is somebody who has logged in by the provider.
type Who struct {
	Name string // with Mark
	Role cluster.Role
}

// errState is for an answer of the provider to no login of this browser.
var errState = fail.Errorf(fail.Denied, "this login was not begun in this browser within 10 minutes, or it has been ended already").
	With("begin it again")

// Finish reads with what the browser comes back from the provider. b is what Begin gave to the same browser, used once;
// the zero value: nothing.
func (c *Client) Finish(ctx context.Context, b Begun, answer url.Values) (Who, error) {
	state := answer.Get("state")
	if b.State == "" || subtle.ConstantTimeCompare([]byte(state), []byte(b.State)) != 1 || c.now().Sub(b.At) > BeginWithin {
		return Who{}, errState
	}
	if iss := answer.Get("iss"); iss != "" && iss != c.conf.Issuer { // RFC 9207
		return Who{}, c.wrong(fmt.Errorf("the answer is one of the issuer %.200q", iss))
	}
	if code := answer.Get("error"); code != "" {
		c.log.Warn("console: the OpenID provider has refused a login", "issuer", c.conf.Issuer, "error", short(code),
			"description", short(answer.Get("error_description")))
		return Who{}, fail.Errorf(fail.Denied, "the OpenID provider %s has refused the login", c.issuer).
			With("its reason is in the log of this host's agent")
	}
	p, err := c.discovered(ctx)
	if err != nil {
		return Who{}, c.away(err)
	}
	secret, err := durable.ReadSecret(c.conf.SecretFile)
	if err != nil {
		c.log.Warn("console: no login by the OpenID provider: its secret can not be read", "file", c.conf.SecretFile, "err", err)
		return Who{}, fail.Errorf(fail.Failed, "the secret for the OpenID provider can not be read on this host").
			With("look at the file of console.oidc.client_secret_file: the log of this host's agent says what is wrong")
	}
	ctx = oidc.ClientContext(ctx, p.http)
	conf := c.oauth(p, secret)
	token, err := conf.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(b.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < 500 {
			return Who{}, c.wrong(fmt.Errorf("exchange the code: %w", err))
		}
		return Who{}, c.away(fmt.Errorf("exchange the code: %w", err))
	}
	claims, err := c.claims(ctx, p, b, token)
	if err != nil {
		return Who{}, c.wrong(err)
	}
	return c.who(claims)
}

// claims are those of the ID token, and, where it lacks a name or the groups, those of the user info.
func (c *Client) claims(ctx context.Context, p *discovered, b Begun, token *oauth2.Token) (map[string]any, error) {
	raw, is := token.Extra("id_token").(string)
	if !is {
		return nil, errors.New("there is no ID token")
	}
	id, err := p.Verifier(&oidc.Config{ClientID: c.conf.ClientID, Now: c.now}).Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(b.Nonce)) != 1 {
		return nil, errors.New("the ID token has the nonce of another login")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, err
	}
	if azp, has := claims["azp"]; (has || len(id.Audience) > 1) && azp != c.conf.ClientID {
		return nil, fmt.Errorf("the ID token was made for %v", azp)
	}
	if find(claims, c.conf.Claim) != nil && c.named(claims) != "" || p.UserInfoEndpoint() == "" {
		return claims, nil
	}
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, fmt.Errorf("ask for the user info: %w", err)
	}
	if info.Subject != id.Subject {
		return nil, errors.New("the user info is of another user")
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil, err
	}
	for name, value := range more {
		if _, has := claims[name]; !has {
			claims[name] = value
		}
	}
	return claims, nil
}

// who is somebody by claims that were verified.
func (c *Client) who(claims map[string]any) (Who, error) {
	name := c.named(claims)
	if !isName(name) {
		c.log.Warn("console: no login by the OpenID provider: a name is not one to show", "claims", c.conf.Names(), "name", short(name))
		return Who{}, fail.Errorf(fail.Denied, "the OpenID provider %s gives you no name that can stand in the events", c.issuer).
			With("want 1 to 64 letters, digits and . _ - @ + : | in one of the claims " + quoted(c.conf.Names()))
	}
	w := Who{Name: Mark + name}
	for _, group := range texts(find(claims, c.conf.Claim)) {
		if r := cluster.Role(c.conf.Roles[group]); r != "" && (w.Role == "" || r.May(w.Role)) {
			w.Role = r
		}
	}
	if w.Role == "" {
		c.log.Warn("console: no login by the OpenID provider: no group has a role", "user", w.Name, "claim", c.conf.Claim)
		return Who{}, fail.Errorf(fail.Denied, "%s may not use this console: no group in the claim %s of the OpenID provider has a role here",
			w.Name, c.conf.Claim).With("who manages the provider can put you into a group that console.oidc.roles names")
	}
	c.log.Info("console: a login by the OpenID provider", "user", w.Name, "role", string(w.Role), "sub", short(fmt.Sprint(claims["sub"])))
	return w, nil
}

// named is the name that claims give, "" for none. An address that was not verified is none.
func (c *Client) named(claims map[string]any) string {
	for _, claim := range c.conf.Names() {
		if claim == "email" && slices.Contains([]any{false, "false"}, claims["email_verified"]) {
			continue
		}
		if name, is := find(claims, claim).(string); is && name != "" {
			return name
		}
	}
	return ""
}

// away is told when the provider can not be asked; the details are in the log.
func (c *Client) away(err error) error {
	c.log.Warn("console: the OpenID provider can not be asked", "issuer", c.conf.Issuer, "err", short(err.Error()))
	return fail.Errorf(fail.Unavailable, "the OpenID provider %s does not answer as one, or not in time", c.issuer).
		With("log in as a user of this cluster, or try again; the log of this host's agent has the details")
}

// wrong is told of an answer that lets nobody in; the details are in the log.
func (c *Client) wrong(err error) error {
	c.log.Warn("console: an answer of the OpenID provider lets nobody in", "issuer", c.conf.Issuer, "err", short(err.Error()))
	return fail.Errorf(fail.Denied, "the answer of the OpenID provider %s lets nobody in", c.issuer).
		With("log in again; if it stays so, the log of this host's agent says what is wrong")
}
