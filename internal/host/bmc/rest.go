package bmc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"holdfast/internal/lib/text"
)

// What Redfish calls the states, orders and places that are used here.
const (
	redfishRoot     = "/redfish/v1/"
	redfishSystems  = redfishRoot + "Systems" // where the root names no place
	redfishSessions = redfishRoot + "SessionService/Sessions"
	stateOff        = "Off"
	resetOff        = "ForceOff"
	resetOn         = "On"
	limitReached    = "SessionLimitExceeded" // DMTF's message of a service whose session table is full
)

const (
	maxMembers = 256 // how many systems of one service are looked at
	maxSaid    = 200 // bytes of a refusal that are shown
	maxHops    = 4   // how many places a request is sent to, with those that it is redirected to
)

// resource names one by its path.
type resource struct {
	ID string `json:"@odata.id"`
}

// system is what is read of a ComputerSystem.
type system struct {
	path       string // that it was asked for by
	err        error  // why the rest is not known
	ID         string `json:"Id"`
	UUID       string
	PowerState string
	Actions    struct {
		Reset struct {
			Target  string   `json:"target"`
			Allowed []string `json:"ResetType@Redfish.AllowableValues"`
		} `json:"#ComputerSystem.Reset"`
	}
	ETag string `json:"@odata.etag"`
}

// statusError is an answer by which a service refuses.
type statusError struct {
	status int
	body   string
}

// Error has the first message in the form of the standard, or else the body's beginning.
func (e *statusError) Error() string {
	type message struct{ MessageID, Message string }
	var b struct {
		Error struct {
			Code, Message string
			Info          []message `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	_ = json.Unmarshal([]byte(e.body), &b) // what is not in it stays empty
	m := append(b.Error.Info, message{b.Error.Code, b.Error.Message})[0]
	said := strings.Trim(m.MessageID+": "+m.Message, ": ")
	return fmt.Sprintf("HTTP status %d: %s", e.status, text.Line(cmp.Or(said, e.body), maxSaid))
}

// statusOf is the HTTP status of a refusal, 0 for another error.
func statusOf(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// errNoTarget: the service names no place for what it is asked for.
var errNoTarget = errors.New("the service names no place for it")

// rest speaks to one Redfish service.
type rest struct {
	endpoint string // https://HOST[:PORT]
	client   *http.Client

	user, password string // of the account
	basic          error  // why each request has the password; nil in a session
	token, session string // of a session: its secret and its place
	renewed        bool   // there was another session before, which the service has ended
}

// place is the path of a reference that the service gives in its answer from base. What is
// not at this service by HTTPS has none: it would get the password.
func (r *rest) place(base, ref string) (string, error) {
	from, err := url.Parse(r.endpoint + base)
	if err != nil {
		return "", err
	}
	to, err := from.Parse(ref)
	if err != nil || to.Scheme != from.Scheme || !strings.EqualFold(to.Hostname(), from.Hostname()) ||
		port(to) != port(from) || to.User != nil {
		return "", fmt.Errorf("%w: %q is not at this service", errNoTarget, ref)
	}
	return to.RequestURI(), nil
}

// port is that of a URL, whether it is written or left out as the default.
func port(u *url.URL) string { return cmp.Or(u.Port(), redfishPort) }

// call sends a request, with in as JSON unless it is nil, and reads the answer into
// out unless that is nil. match is the version of the resource that is meant. It follows
// the service to other places of its own, with the same method and body: by a client of
// HTTP a POST would become a GET there. A session that the service has ended is renewed.
func (r *rest) call(ctx context.Context, method, path, match string, in, out any) (http.Header, error) {
	h, err := r.follow(ctx, method, path, match, in, out)
	if statusOf(err) != http.StatusUnauthorized || r.token == "" || r.renewed {
		return h, err
	}
	r.renewed = true
	_ = r.logout(ctx) // it is gone, unless the account may not do this
	if _, err := r.login(ctx); err != nil {
		return nil, err
	}
	return r.follow(ctx, method, path, match, in, out)
}

func (r *rest) follow(ctx context.Context, method, path, match string, in, out any) (http.Header, error) {
	if !strings.HasPrefix(path, "/") && !strings.Contains(path, "://") {
		return nil, fmt.Errorf("%w: %s %q", errNoTarget, method, path)
	}
	path, err := r.place("/", path)
	if err != nil {
		return nil, err
	}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	for range maxHops {
		resp, err := r.send(ctx, method, path, match, body)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		case http.StatusSeeOther: // the request is carried out, its result is elsewhere
			method, match, body = http.MethodGet, "", nil
		default:
			return resp.Header, take(resp, out)
		}
		to := resp.Header.Get("Location")
		_, err = io.Copy(io.Discard, resp.Body) // as in take
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if path, err = r.place(path, to); err != nil {
			return nil, fmt.Errorf("%w: redirected to %q, which is not at this address, port and protocol", ErrRefused, to)
		}
	}
	return nil, fmt.Errorf("%w: redirected again and again, at last to %s", ErrRefused, path)
}

// send makes one request.
func (r *rest) send(ctx context.Context, method, path, match string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OData-Version", "4.0")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	switch {
	case r.token != "":
		req.Header.Set("X-Auth-Token", r.token)
	case r.basic != nil:
		req.SetBasicAuth(r.user, r.password)
	}
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	// Some services close a connection after each answer and do not say so. This key, which
	// is not sent, lets the transport send any request once more by a new one.
	req.Header["Idempotency-Key"] = []string{}
	return r.client.Do(req)
}

// take reads an answer into out: a *bytes.Buffer gets it as it is, nil passes it over,
// into all else it is parsed. A field of another type than it should have is taken for one that
// is not there.
func take(resp *http.Response, out any) error {
	defer resp.Body.Close() // it is only read
	if code := resp.StatusCode; code < 200 || code > 299 {
		said, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		return &statusError{code, string(said)}
	}
	if raw, ok := out.(*bytes.Buffer); ok {
		_, err := raw.ReadFrom(resp.Body)
		return err
	}
	if out != nil {
		err := json.NewDecoder(resp.Body).Decode(out)
		var syntax *json.SyntaxError
		var typed *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax), errors.Is(err, io.EOF):
			return fmt.Errorf("%w: its answer is no JSON: %w", ErrRefused, err)
		case err != nil && !errors.As(err, &typed):
			return err
		}
	}
	_, err := io.Copy(io.Discard, resp.Body) // the connection serves the next request, too
	return err
}

func (r *rest) get(ctx context.Context, path string, out any) error {
	_, err := r.call(ctx, http.MethodGet, path, "", nil, out)
	return err
}

// login opens a session. Where the service gives none, each request has the password
// from then on. It gives the place of the systems.
func (r *rest) login(ctx context.Context) (systems string, err error) {
	r.token, r.session = "", ""
	var root struct {
		Systems resource
		Links   struct{ Sessions resource }
	}
	_, err = r.follow(ctx, http.MethodGet, redfishRoot, "", nil, &root)
	// Some show their root to accounts only.
	if code := statusOf(err); err != nil && code != http.StatusUnauthorized && code != http.StatusForbidden {
		return "", err
	}
	systems = cmp.Or(root.Systems.ID, redfishSystems)
	err = r.enter(ctx, cmp.Or(root.Links.Sessions.ID, redfishSessions))
	if noSession(err) {
		r.basic, err = err, nil
	}
	return systems, err
}

// enter opens a session in the collection of them.
func (r *rest) enter(ctx context.Context, collection string) error {
	var body bytes.Buffer
	h, err := r.follow(ctx, http.MethodPost, collection, "", map[string]string{"UserName": r.user, "Password": r.password}, &body)
	if h == nil || statusOf(err) != 0 {
		return err
	}
	// There is a session, even if the rest of the answer is lost.
	r.token, r.session = h.Get("X-Auth-Token"), sessionPlace(collection, h.Get("Location"), body.Bytes())
	if r.token == "" {
		return fmt.Errorf("%w: a session without a token", errNoTarget)
	}
	return nil
}

// sessionPlace is the path of a session by the Location of the answer that made it, or by
// its body. The host is left out: that of a device behind address translation is its own.
func sessionPlace(collection, location string, body []byte) string {
	var s struct {
		At string `json:"@odata.id"`
		ID string `json:"Id"`
	}
	_ = json.Unmarshal(body, &s) // what is not in it stays empty
	for _, ref := range []string{location, s.At} {
		if u, err := url.Parse(ref); err == nil && strings.HasPrefix(u.Path, "/") {
			return u.RequestURI()
		}
	}
	if location == "" && s.ID == "" {
		return ""
	}
	return strings.TrimSuffix(collection, "/") + "/" + url.PathEscape(cmp.Or(s.ID, path.Base(location)))
}

// noSession tells whether the service gives no session to anybody now: it has no place
// for them, it gives no token, or its table of sessions is full. Services say the last by many
// statuses and messages, so all are taken for it but 401, which is a wrong password.
func noSession(err error) bool {
	var e *statusError
	if errors.As(err, &e) {
		return e.status != http.StatusUnauthorized || strings.Contains(e.body, limitReached)
	}
	return errors.Is(err, errNoTarget)
}

// system gets one system anew.
func (r *rest) system(ctx context.Context, path string) (*system, error) {
	s := &system{path: path}
	h, err := r.call(ctx, http.MethodGet, path, "", nil, s)
	if err != nil {
		return nil, err
	}
	if s.ETag == "" {
		s.ETag = h.Get("ETag")
	}
	return s, nil
}

// systems gets all systems of the service, page by page. One that can not be read has
// an error.
func (r *rest) systems(ctx context.Context, place string) ([]*system, error) {
	var all []*system
	seen := map[string]bool{}
	for place != "" {
		if seen[place] || len(seen) == maxMembers {
			return nil, fmt.Errorf("%w: its list of systems does not end: after %d pages the next one is %s", ErrRefused, len(seen), place)
		}
		seen[place] = true
		var page struct {
			Members []resource
			Next    string `json:"Members@odata.nextLink"`
		}
		if err := r.get(ctx, place, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Members {
			if len(all) == maxMembers {
				return nil, fmt.Errorf("%w: it has more than %d systems", ErrRefused, maxMembers)
			}
			s, err := r.system(ctx, m.ID)
			if err != nil {
				s = &system{path: m.ID, ID: path.Base(m.ID), err: err}
			}
			all = append(all, s)
		}
		place = page.Next
	}
	return all, nil
}

// reset gives an order. Some services want to know which version of the system is
// meant; of them some take it in a form of their own only, and some refuse to be told (iDRAC 10).
func (r *rest) reset(ctx context.Context, s *system, what string) error {
	var err error
	for _, v := range versions(s.ETag) {
		_, err = r.call(ctx, http.MethodPost, s.Actions.Reset.Target, v, map[string]string{"ResetType": what}, nil)
		if statusOf(err) != http.StatusPreconditionFailed {
			break
		}
	}
	return err
}

// versions are the forms in which a version may be named, in the order in which they are
// tried: as it came, without the mark of compression, strong, without quotes, not at all.
func versions(etag string) []string {
	plain := strings.Replace(etag, `-gzip"`, `"`, 1)
	strong := strings.TrimPrefix(plain, "W/")
	return slices.Compact([]string{etag, plain, strong, strings.Trim(strong, `"`), ""})
}

// logout ends the session, if there is one.
func (r *rest) logout(ctx context.Context) error {
	if r.session == "" {
		return nil
	}
	_, err := r.follow(ctx, http.MethodDelete, r.session, "", nil, nil)
	return err
}
