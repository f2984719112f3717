package provider

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// forger is a provider that answers what a test has it answer.
type forger struct {
	*httptest.Server
	t     *testing.T
	conf  config.OIDC
	log   *bytes.Buffer
	asked atomic.Int64 // discoveries

	mu     sync.Mutex
	key    *rsa.PrivateKey
	kid    string
	listed *rsa.PrivateKey // nil: key
	nonce  string
	header map[string]any
	claims map[string]any // beside the right ones, nil: without
	info   map[string]any
	token  string                      // instead of the one that is made
	hook   map[string]http.HandlerFunc // by path, instead of the right answer
	told   map[string]any              // of discovery, beside the right ones
}

func newForger(t *testing.T) (*forger, *Client) {
	t.Helper()
	f := &forger{t: t, log: &bytes.Buffer{}, kid: "1", header: map[string]any{}, claims: map[string]any{}, hook: map[string]http.HandlerFunc{}}
	f.key = newKey(t)
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	f.StartTLS()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	dir := t.TempDir()
	f.conf = config.OIDC{Issuer: f.URL, ClientID: "holdfast", SecretFile: filepath.Join(dir, "secret"), CA: filepath.Join(dir, "ca.pem"),
		Claim: "groups", URL: "https://console.example", Roles: map[string]string{"look": "viewer", "work": "operator", "rule": "admin"}}
	try.Must(t, os.WriteFile(f.conf.SecretFile, []byte("s"), 0o600))
	try.Must(t, os.WriteFile(f.conf.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}), 0o600))
	return f, f.client()
}

func (f *forger) client() *Client { return New(f.conf, slog.New(slog.NewTextHandler(f.log, nil))) }

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	try.Must(t, err)
	return k
}

func (f *forger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/.well-known/openid-configuration" {
		f.asked.Add(1)
	}
	if h := f.hook[r.URL.Path]; h != nil {
		h(w, r)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		told := map[string]any{"issuer": f.URL, "authorization_endpoint": f.URL + "/auth", "token_endpoint": f.URL + "/token",
			"jwks_uri": f.URL + "/keys", "userinfo_endpoint": f.URL + "/info",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"}}
		maps.Copy(told, f.told)
		answer = told
	case "/keys":
		k := f.key
		if f.listed != nil {
			k = f.listed
		}
		answer = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": f.kid,
			"n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}}}
	case "/token":
		answer = map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": f.idToken()}
	case "/info":
		answer = f.info
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		f.t.Log(err) // the client has gone
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// idToken makes a token by header and claims.
func (f *forger) idToken() string {
	if f.token != "" {
		return f.token
	}
	now := time.Now()
	header := map[string]any{"alg": "RS256", "kid": f.kid, "typ": "JWT"}
	claims := map[string]any{"iss": f.URL, "aud": "holdfast", "sub": "u1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"nonce": f.nonce, "preferred_username": "anna", "groups": []string{"look", "rule"}}
	for to, from := range map[*map[string]any]map[string]any{&header: f.header, &claims: f.claims} {
		for name, v := range from {
			if (*to)[name] = v; v == nil {
				delete(*to, name)
			}
		}
	}
	h, err := json.Marshal(header)
	try.Must(f.t, err)
	c, err := json.Marshal(claims)
	try.Must(f.t, err)
	text := b64(h) + "." + b64(c)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	switch header["alg"] {
	case "none":
	case "HS256": // with what everybody knows
		mac := hmac.New(sha256.New, f.key.N.Bytes())
		mac.Write([]byte(text))
		sig = mac.Sum(nil)
	default:
		sig, err = rsa.SignPKCS1v15(rand.Reader, f.key, crypto.SHA256, sum[:])
		try.Must(f.t, err)
	}
	return text + "." + b64(sig)
}

// login goes the whole way.
func (f *forger) login(c *Client) (Who, error) {
	f.t.Helper()
	to, b, err := c.Begin(f.t.Context(), "192.0.2.1")
	if err != nil {
		return Who{}, err
	}
	u, err := url.Parse(to)
	try.Must(f.t, err)
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("response_type") != "code" ||
		q.Get("redirect_uri") != "https://console.example/login/oidc/callback" || strings.Contains(to, b.Verifier) {
		f.t.Errorf("begins with %s", to)
	}
	f.mu.Lock()
	f.nonce = q.Get("nonce")
	f.mu.Unlock()
	return c.Finish(f.t.Context(), b, url.Values{"state": {q.Get("state")}, "code": {"c"}})
}

// denied is a login that lets nobody in, of which the log tells the reason, and the error does not.
func (f *forger) denied(c *Client, kind fail.Kind, says, logged string) {
	f.t.Helper()
	f.log.Reset()
	w, err := f.login(c)
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, says) || e.Remedy == "" || len(e.Message) > 300 {
		f.t.Errorf("%+v, %v, want %s", w, err, says)
	}
	if got := f.log.String(); !strings.Contains(got, logged) || len(got) > 2000 {
		f.t.Errorf("logged: %.2000s, want %s", got, logged)
	}
}

func TestRolesOfGroups(t *testing.T) {
	f, c := newForger(t)
	for _, tc := range []struct {
		claims map[string]any
		name   string
		role   cluster.Role
	}{
		{nil, "oidc:anna", cluster.Admin},
		{map[string]any{"groups": "work"}, "oidc:anna", cluster.Operator},
		{map[string]any{"groups": []any{"look", "x", 7, nil}}, "oidc:anna", cluster.Viewer},
		{map[string]any{"preferred_username": nil, "email": "a@example.org"}, "oidc:a@example.org", cluster.Admin},
		{map[string]any{"preferred_username": nil, "email": "a@example.org", "email_verified": false}, "oidc:u1", cluster.Admin},
		{map[string]any{"preferred_username": "a:b"}, "oidc:a:b", cluster.Admin},
		{map[string]any{"preferred_username": "安娜"}, "oidc:安娜", cluster.Admin},
		{map[string]any{"aud": []string{"holdfast", "x"}, "azp": "holdfast"}, "oidc:anna", cluster.Admin},
	} {
		f.claims = tc.claims
		if w, err := f.login(c); err != nil || w != (Who{tc.name, tc.role}) {
			t.Errorf("%v: %+v, %v", tc.claims, w, err)
		}
	}
	if n := f.asked.Load(); n != 1 {
		t.Errorf("asked %d times about itself", n)
	}
	// Keycloak's roles lie within another claim; what the token lacks is asked for.
	f.conf.Claim = "realm_access.roles"
	c = f.client()
	f.claims = map[string]any{"realm_access": map[string]any{"roles": []string{"work"}}}
	if w, err := f.login(c); err != nil || w.Role != cluster.Operator {
		t.Errorf("%+v, %v", w, err)
	}
	f.claims, f.info = nil, map[string]any{"sub": "u1", "preferred_username": "other",
		"realm_access": map[string]any{"roles": []string{"look"}}}
	if w, err := f.login(c); err != nil || w != (Who{"oidc:anna", cluster.Viewer}) {
		t.Errorf("%+v, %v", w, err)
	}
	f.info["sub"] = "u2"
	f.denied(c, fail.Denied, "lets nobody in", "of another user")
}

func TestTokensThatLetNobodyIn(t *testing.T) {
	f, c := newForger(t)
	const nobody = "lets nobody in"
	for _, tc := range []struct {
		name           string
		header, claims map[string]any
		says, logged   string
	}{
		{"another nonce", nil, map[string]any{"nonce": "x"}, nobody, "nonce of another login"},
		{"no nonce", nil, map[string]any{"nonce": nil}, nobody, "nonce of another login"},
		{"another audience", nil, map[string]any{"aud": "other"}, nobody, "expected audience"},
		{"made for another one", nil, map[string]any{"aud": []string{"holdfast", "x"}, "azp": "x"}, nobody, "was made for x"},
		{"made for many", nil, map[string]any{"aud": []string{"holdfast", "x"}}, nobody, "was made for"},
		{"expired", nil, map[string]any{"exp": time.Now().Add(-time.Second).Unix()}, nobody, "token is expired"},
		{"no end", nil, map[string]any{"exp": nil}, nobody, "token is expired"},
		{"another issuer", nil, map[string]any{"iss": "https://evil.example"}, nobody, "different provider"},
		{"no signature", map[string]any{"alg": "none"}, nil, nobody, "unexpected signature algorithm"},
		{"signed with the public key", map[string]any{"alg": "HS256"}, nil, nobody, "unexpected signature algorithm"},
		{"no group", nil, map[string]any{"groups": []string{"x"}},
			"oidc:anna may not use this console: no group in the claim groups", "no group has a role"},
		{"groups of another kind", nil, map[string]any{"groups": 7}, "no group in the claim groups", "no group has a role"},
		{"markup", nil, map[string]any{"preferred_username": "<script>alert(1)</script>"}, "gives you no name", "not one to show"},
		{"what looks like the audit", nil, map[string]any{"preferred_username": "anna (console, 10.0.0.1)"},
			"gives you no name", "not one to show"},
		{"10 kB", nil, map[string]any{"preferred_username": strings.Repeat("x", 10<<10)}, "gives you no name", "not one to show"},
		{"from right to left", nil, map[string]any{"preferred_username": "a\u202eb"}, "gives you no name", "not one to show"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.t, f.header, f.claims = t, tc.header, tc.claims
			f.denied(c, fail.Denied, tc.says, tc.logged)
		})
	}
	f.t, f.header, f.claims = t, nil, nil
	f.token = "x.y.z"
	f.denied(c, fail.Denied, nobody, "malformed jwt")
	f.token = ""
	f.listed = newKey(t)
	f.denied(f.client(), fail.Denied, nobody, "failed to verify")
}

// TestNewKeys are asked for when a token is signed with one.
func TestNewKeys(t *testing.T) {
	f, c := newForger(t)
	for i := range 3 {
		f.key, f.kid = newKey(t), fmt.Sprint(i)
		if w, err := f.login(c); err != nil || w.Role != cluster.Admin {
			t.Fatalf("%+v, %v", w, err)
		}
	}
}

// TestAnswersToNoLogin of this browser, or too late.
func TestAnswersToNoLogin(t *testing.T) {
	f, c := newForger(t)
	_, b, err := c.Begin(t.Context(), "192.0.2.1")
	try.Must(t, err)
	late := b
	late.At = b.At.Add(-BeginWithin - time.Second)
	for _, tc := range []struct {
		b Begun
		q url.Values
	}{{b, url.Values{"state": {"x"}}}, {b, nil}, {Begun{}, url.Values{"state": {""}}}, {late, url.Values{"state": {b.State}}}} {
		if w, err := c.Finish(t.Context(), tc.b, tc.q); !errors.Is(err, errState) {
			t.Errorf("%+v, %v", w, err)
		}
	}
	for _, q := range []url.Values{{"iss": {"https://evil.example"}}, {"error": {strings.Repeat("<script>", 10_000)}}} {
		f.log.Reset()
		q.Set("state", b.State)
		w, err := c.Finish(t.Context(), b, q)
		if err == nil || strings.Contains(err.Error(), "<script>") || f.log.Len() > 2000 {
			t.Errorf("%+v, %v, %d", w, err, f.log.Len())
		}
	}
}

// TestAProviderThatDoesNotAnswerAsOne.
func TestAProviderThatDoesNotAnswerAsOne(t *testing.T) {
	f, _ := newForger(t)
	const away = "does not answer as one, or not in time"
	huge := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for block := bytes.Repeat([]byte(" "), 64<<10); ; { // until nobody reads
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}
	const self, token, keys, info = "/.well-known/openid-configuration", "/token", "/keys", "/info"
	for _, tc := range []struct {
		path   string
		answer http.HandlerFunc
		kind   fail.Kind
		says   string
		logged string
	}{
		{self, huge, fail.Unavailable, away, "longer than"},
		{self, elsewhere, fail.Unavailable, away, "not followed"},
		{self, http.NotFound, fail.Unavailable, away, "404"},
		{token, huge, fail.Unavailable, away, "cannot parse"}, // the library has the same bound
		{token, elsewhere, fail.Unavailable, away, "not followed"},
		{keys, huge, fail.Denied, "lets nobody in", "longer than"},
		{keys, elsewhere, fail.Denied, "lets nobody in", "not followed"},
		{info, huge, fail.Denied, "lets nobody in", "longer than"},
	} {
		f.hook, f.claims = map[string]http.HandlerFunc{tc.path: tc.answer}, map[string]any{}
		if tc.path == info {
			f.claims["groups"] = nil
		}
		f.denied(f.client(), tc.kind, tc.says, tc.logged)
	}
	f.hook, f.claims = nil, nil
	for _, told := range []map[string]any{{"issuer": "https://evil.example"}, {"token_endpoint": "http://127.0.0.1/token"},
		{"jwks_uri": "file:///etc/passwd"}, {"authorization_endpoint": "javascript:alert(1)"}, {"userinfo_endpoint": "http://127.0.0.1/"},
		{"jwks_uri": ""}} {
		f.told = told
		f.denied(f.client(), fail.Unavailable, away, "")
	}
	f.told = nil
	f.conf.CA = ""
	f.denied(f.client(), fail.Unavailable, away, "certificate")
	f.conf.CA = f.conf.SecretFile
	f.denied(f.client(), fail.Unavailable, away, "has no certificate")
}

// TestAProviderThatHangs is asked once for all who wait, and who goes does not wait.
func TestAProviderThatHangs(t *testing.T) {
	f, c := newForger(t)
	come, let := make(chan struct{}, 1), make(chan struct{})
	f.hook["/.well-known/openid-configuration"] = func(_ http.ResponseWriter, r *http.Request) {
		come <- struct{}{}
		<-let
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 5)
	for range cap(ended) {
		go func() { _, _, err := c.Begin(ctx, "192.0.2.1"); ended <- err }()
	}
	<-come
	cancel()
	for range cap(ended) {
		if err := <-ended; err == nil {
			t.Error("begun")
		}
	}
	close(let)
	if n := f.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestWhatIsOldServes while the provider does not answer about itself.
func TestWhatIsOldServes(t *testing.T) {
	f, c := newForger(t)
	if _, err := f.login(c); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now.Add(2 * freshFor) }
	f.hook["/.well-known/openid-configuration"] = http.NotFound
	f.claims["exp"] = now.Add(3 * freshFor).Unix()
	if _, err := f.login(c); err != nil || f.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, f.asked.Load())
	}
}

// TestTheSecret is read at each login, and only from a file that is its owner's.
func TestTheSecret(t *testing.T) {
	f, c := newForger(t)
	try.Must(t, os.Chmod(f.conf.SecretFile, 0o644))
	f.denied(c, fail.Failed, "secret for the OpenID provider can not be read", "chmod 600")
	try.Must(t, os.Chmod(f.conf.SecretFile, 0o600))
	if _, err := f.login(c); err != nil {
		t.Error(err)
	}
}

// TestStartsAreBounded for each address apart.
func TestStartsAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := starts{now: func() time.Time { return now }}
	for range startsAtOnce {
		try.Must(t, s.may("192.0.2.1"))
	}
	if s.may("192.0.2.1") == nil {
		t.Error("one too many")
	}
	try.Must(t, s.may("192.0.2.2"))
	now = now.Add(startEvery)
	try.Must(t, s.may("192.0.2.1"))
	for i := range 2 * maxStarts {
		_ = s.may(fmt.Sprint(i)) // some are refused
	}
	if len(s.of) > maxStarts {
		t.Errorf("%d are remembered", len(s.of))
	}
	now = now.Add(time.Hour)
	try.Must(t, s.may("another"))
}

func TestStampsDifferWithSettings(t *testing.T) {
	a := New(config.OIDC{Roles: map[string]string{"g": "admin"}}, nil)
	b := New(config.OIDC{Roles: map[string]string{"g": "viewer"}}, nil)
	if a.Stamp() == b.Stamp() || a.Stamp() != New(a.conf, nil).Stamp() {
		t.Errorf("%s, %s", a.Stamp(), b.Stamp())
	}
}
