package bmc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What Redfish calls the states and orders that are used here.
const (
	redfishRoot = "/redfish/v1/"
	stateOff    = "Off"
	resetOff    = "ForceOff"
	resetOn     = "On"
	resetType   = "ResetType"
)

// maxMembers is how many systems of one service are looked at.
const maxMembers = 256

// resource names one by its path.
type resource struct {
	ID string `json:"@odata.id"`
}

// system is what is read of a ComputerSystem.
type system struct {
	path       string // that it was asked for by
	ID         string `json:"Id"`
	UUID       string
	PowerState string
	Actions    struct {
		Reset struct {
			Target  string   `json:"target"`
			Info    string   `json:"@Redfish.ActionInfo"`
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

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.body) }

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

	user, password string // for each request; empty in a session
	token, session string // of a session: its secret and its place
}

// call sends a request, with in as JSON unless it is nil, and reads the answer into
// out unless that is nil. match is the version of the resource that is meant.
func (r *rest) call(ctx context.Context, method, path, match string, in, out any) (http.Header, error) {
	// A place at another host would get the password.
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("%w: %s %q", errNoTarget, method, path)
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.endpoint+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	switch {
	case r.token != "":
		req.Header.Set("X-Auth-Token", r.token)
	case r.user != "":
		req.SetBasicAuth(r.user, r.password)
	}
	if match != "" {
		req.Header.Set("If-Match", match)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // it is only read
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
	default:
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		return nil, &statusError{resp.StatusCode, string(text)}
	}
	if out != nil {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body) // the connection serves the next request, too
	}
	return resp.Header, err
}

func (r *rest) get(ctx context.Context, path string, out any) error {
	_, err := r.call(ctx, http.MethodGet, path, "", nil, out)
	return err
}

// login opens a session, or with basic none: each request has the password then. It
// gives the place of the systems.
func (r *rest) login(ctx context.Context, user, password string, basic bool) (systems string, err error) {
	var root struct {
		Systems resource
		Links   struct{ Sessions resource }
	}
	if err := r.get(ctx, redfishRoot, &root); err != nil {
		return "", err
	}
	if basic {
		r.user, r.password = user, password
		return root.Systems.ID, nil
	}
	h, err := r.call(ctx, http.MethodPost, root.Links.Sessions.ID, "", map[string]string{"UserName": user, "Password": password}, nil)
	if err != nil {
		return "", err
	}
	r.token, r.session = h.Get("X-Auth-Token"), h.Get("Location")
	if u, err := url.ParseRequestURI(r.session); err == nil {
		r.session = u.RequestURI()
	}
	return root.Systems.ID, nil
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

// systems gets all systems of the service, page by page.
func (r *rest) systems(ctx context.Context, path string) ([]*system, error) {
	var all []*system
	for path != "" {
		var page struct {
			Members []resource
			Next    string `json:"Members@odata.nextLink"`
		}
		if err := r.get(ctx, path, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Members {
			if len(all) == maxMembers {
				return nil, fmt.Errorf("%w: it has more than %d systems", ErrRefused, maxMembers)
			}
			s, err := r.system(ctx, m.ID)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		if len(page.Members) == 0 {
			break // it would go round in circles
		}
		path = page.Next
	}
	return all, nil
}

// resets gives the orders that a system takes; none when the service does not tell.
func (r *rest) resets(ctx context.Context, s *system) ([]string, error) {
	reset := s.Actions.Reset
	if len(reset.Allowed) > 0 || reset.Info == "" {
		return reset.Allowed, nil
	}
	var info struct {
		Parameters []struct {
			Name            string
			DataType        string
			AllowableValues []string
		}
	}
	if err := r.get(ctx, reset.Info, &info); err != nil {
		return nil, err
	}
	for _, p := range info.Parameters {
		if p.Name == resetType && slices.Contains([]string{"", "String"}, p.DataType) {
			return p.AllowableValues, nil
		}
	}
	return nil, fmt.Errorf("%s has no values of %s", reset.Info, resetType)
}

// reset gives an order. Some services want to know which version of the system is
// meant, and some refuse to be told (iDRAC 10).
func (r *rest) reset(ctx context.Context, s *system, what string) error {
	order := map[string]string{resetType: what}
	_, err := r.call(ctx, http.MethodPost, s.Actions.Reset.Target, s.ETag, order, nil)
	if statusOf(err) == http.StatusPreconditionFailed && s.ETag != "" {
		_, err = r.call(ctx, http.MethodPost, s.Actions.Reset.Target, "", order, nil)
	}
	return err
}

// logout ends the session, if there is one.
func (r *rest) logout(ctx context.Context) error {
	if r.session == "" {
		return nil
	}
	_, err := r.call(ctx, http.MethodDelete, r.session, "", nil, nil)
	return err
}
