// Package openstack tries on a test guest, by the API of OpenStack, what a platform must be able to do with guests,
// reads each back, and puts everything back as it was. What is tried, and in which order, is in package feature.
package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"holdfast/internal/fail"
	"holdfast/internal/sleep"
	"holdfast/internal/transition/keystone"
)

const (
	answer = 60 * time.Second // for one answer
	tries  = 5                // of a request that only reads
	first  = 500 * time.Millisecond
)

// base is the minor version of Nova's API with which it is asked where none other is needed: in Liberty's, and the
// first that tells whether a server is locked. In it a server tells its flavor's ID, which 2.47 took away.
const base = 9

// cloud is a platform, in the name of one project.
type cloud struct {
	project                       string                     // ID
	nova, neutron, cinder, glance *gophercloud.ServiceClient // all but the first: nil where Keystone knows none
	latest                        int                        // minor version of Nova's API
}

// meet logs in and finds the services.
func meet(ctx context.Context, getenv func(string) string) (*cloud, error) {
	login, err := keystone.From(getenv)
	if err != nil {
		return nil, err
	}
	p, err := keystone.Login(ctx, login, http.Client{Timeout: answer, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}})
	if err != nil {
		return nil, err
	}
	c := &cloud{}
	r, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return nil, fail.Errorf(fail.Failed, "Keystone's answer tells no project")
	}
	project, err := r.ExtractProject()
	if err != nil || project == nil || project.ID == "" {
		return nil, fail.Errorf(fail.Invalid, "OS_PROJECT_NAME: value %q: want the project of the test guest", getenv("OS_PROJECT_NAME"))
	}
	c.project = project.ID
	at := gophercloud.EndpointOpts{Region: getenv("OS_REGION_NAME")}
	if text := getenv("OS_INTERFACE"); text != "" {
		at.Availability = gophercloud.Availability(strings.TrimSuffix(text, "URL"))
	}
	if c.nova, err = openstack.NewComputeV2(p, at); err != nil {
		return nil, fail.Errorf(fail.Invalid, "the compute service in Keystone's catalog: %w", err)
	}
	for _, s := range []struct {
		to   **gophercloud.ServiceClient
		make func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{{&c.neutron, openstack.NewNetworkV2}, {&c.cinder, openstack.NewBlockStorageV3}, {&c.glance, openstack.NewImageV2}} {
		client, err := s.make(p, at)
		var none *gophercloud.ErrEndpointNotFound
		var missing gophercloud.ErrEndpointNotFound
		switch {
		case err == nil:
			*s.to = client
		case !errors.As(err, &none) && !errors.As(err, &missing):
			return nil, fail.Errorf(fail.Unavailable, "a service in Keystone's catalog: %w", err)
		}
	}
	return c, c.version(ctx)
}

// version reads which version of Nova's API is the latest.
func (c *cloud) version(ctx context.Context) error {
	var got struct {
		Version struct {
			Version string `json:"version"`
		} `json:"version"`
	}
	if err := get(ctx, c.nova, "", 0, &got); err != nil {
		return err
	}
	minor, found := strings.CutPrefix(got.Version.Version, "2.")
	n, err := strconv.Atoi(minor)
	if !found || err != nil || n < base {
		return fail.Errorf(fail.Refused, "Nova's API at %s has version %q: want 2.%d or later", c.nova.Endpoint, got.Version.Version, base)
	}
	c.latest = n
	return nil
}

// options are those of a request with a minor version of Nova's API; 0: of none.
func options(version int) *gophercloud.RequestOpts {
	o := &gophercloud.RequestOpts{OkCodes: []int{200, 201, 202, 204}, MoreHeaders: map[string]string{}}
	if version > 0 {
		// The first is read from 2.27 on, the other one by all.
		o.MoreHeaders["OpenStack-API-Version"] = fmt.Sprintf("compute 2.%d", version)
		o.MoreHeaders["X-OpenStack-Nova-API-Version"] = fmt.Sprintf("2.%d", version)
	}
	return o
}

// passes reports an error after which the same request may succeed.
func passes(err error) bool {
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		return code.Actual == http.StatusTooManyRequests || code.Actual >= 500
	}
	return !errors.Is(err, context.Canceled)
}

// absent reports the answer that there is no such thing.
func absent(err error) bool { return gophercloud.ResponseCodeIs(err, http.StatusNotFound) }

// explained makes an error of what an API said.
func explained(err error) error {
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case err == nil:
		return nil
	case errors.As(err, &code):
		kind := fail.Failed
		if code.Actual >= 500 || code.Actual == http.StatusTooManyRequests {
			kind = fail.Unavailable
		}
		return fail.Because(err, kind, fmt.Sprintf("%s %s: status %d: %s", code.Method, code.URL, code.Actual, message(code.Body)))
	case errors.Is(err, context.Canceled):
		return err
	}
	return fail.Errorf(fail.Unavailable, "%w", err)
}

// message is what an answer's body says: {"badRequest": {"message": "..."}}, or the body.
func message(body []byte) string {
	var said map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &said) == nil {
		for _, s := range said {
			if s.Message != "" {
				return s.Message
			}
		}
	}
	text := strings.TrimSpace(string(body))
	return text[:min(len(text), 500)]
}

// get reads a path of a service into v, again where the error passes.
func get(ctx context.Context, s *gophercloud.ServiceClient, path string, version int, v any) (err error) {
	for try := range tries {
		_, err = s.Get(ctx, s.ResourceBaseURL()+path, v, options(version))
		if err == nil || !passes(err) || !sleep.For(ctx, first<<try) {
			break
		}
	}
	return explained(err)
}

// send has a service do something, once. request is the ID by which Nova notes it; v may be nil.
func send(ctx context.Context, s *gophercloud.ServiceClient, method, path string, version int, body, v any) (request string, head http.Header, err error) {
	o := options(version)
	o.JSONBody, o.JSONResponse = body, v
	res, err := s.Request(ctx, method, s.ResourceBaseURL()+path, o)
	if err != nil {
		return "", nil, explained(err)
	}
	if v == nil {
		if err := res.Body.Close(); err != nil {
			return "", nil, fmt.Errorf("end of an answer of %s: %w", path, err)
		}
	}
	for _, name := range []string{"X-Openstack-Request-Id", "X-Compute-Request-Id"} {
		if request = res.Header.Get(name); request != "" {
			break
		}
	}
	return request, res.Header, nil
}

// server is what Nova tells of a guest.
type server struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Project string `json:"tenant_id"`
	Status  string `json:"status"`
	Task    string `json:"OS-EXT-STS:task_state"`
	Power   int    `json:"OS-EXT-STS:power_state"` // 1: runs, 4: is off
	Host    string `json:"OS-EXT-SRV-ATTR:host"`
	Zone    string `json:"OS-EXT-AZ:availability_zone"`
	Locked  bool   `json:"locked"`
	Key     string `json:"key_name"`
	Flavor  struct {
		ID string `json:"id"`
	} `json:"flavor"`
	Image     image                       `json:"image"`
	Metadata  map[string]string           `json:"metadata"`
	Addresses map[string][]map[string]any `json:"addresses"`
	Volumes   []struct {
		ID string `json:"id"`
	} `json:"os-extended-volumes:volumes_attached"`
	Fault struct {
		Message string `json:"message"`
	} `json:"fault"`
}

// image is the ID of a server's image. A server that boots from a volume has "" in its place.
type image string

// UnmarshalJSON reads {"id": "..."} or "".
func (i *image) UnmarshalJSON(text []byte) error {
	*i = ""
	if string(text) == `""` {
		return nil
	}
	var got struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(text, &got)
	*i = image(got.ID)
	return err
}

func (c *cloud) server(ctx context.Context, id string) (server, error) {
	var got struct {
		Server server `json:"server"`
	}
	err := get(ctx, c.nova, "servers/"+id, base, &got)
	return got.Server, err
}

// named lists the servers of the project with a name. Nova takes it for a regular expression.
func (c *cloud) named(ctx context.Context, name string) (out []server, err error) {
	var got struct {
		Servers []server `json:"servers"`
	}
	if err := get(ctx, c.nova, "servers/detail?"+url.Values{"name": {"^" + regexpQuote(name) + "$"}}.Encode(), base, &got); err != nil {
		return nil, err
	}
	for _, s := range got.Servers {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out, nil
}

// regexpQuote escapes what regular expressions of databases take for more than itself.
func regexpQuote(text string) string {
	var b strings.Builder
	for _, c := range text {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// event is one part of an action that Nova has noted.
type event struct {
	Name      string  `json:"event"`
	Result    string  `json:"result"` // Success or Error
	Finish    *string `json:"finish_time"`
	Traceback string  `json:"traceback"`
}

// events are the parts of an action of a server, as far as they have begun.
func (c *cloud) events(ctx context.Context, id, request string) ([]event, error) {
	var got struct {
		Action struct {
			Events []event `json:"events"`
		} `json:"instanceAction"`
	}
	err := get(ctx, c.nova, "servers/"+id+"/os-instance-actions/"+request, base, &got)
	if absent(err) { // it is noted when the request is taken, and may be read from another database
		return nil, nil
	}
	return got.Action.Events, err
}
