package cloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
)

// Answer is how long one answer may take.
const Answer = 60 * time.Second

const (
	tries = 5 // of a request that only reads
	first = 500 * time.Millisecond
)

// Base is the minor version of Nova's API with which it is asked where none other is needed: in Liberty's, and the
// first that tells whether a server is locked. In it a server tells its flavor's ID, which 2.47 took away.
const Base = 9

// Endpoint is where Keystone's catalog says that a service is.
type Endpoint struct {
	Service   string `json:"service"` // its type, such as compute
	Interface string `json:"interface"`
	Region    string `json:"region"`
	URL       string `json:"url"`
}

// Cloud is a platform to which somebody has logged in.
type Cloud struct {
	Project                       string                     // ID; "": the login is of none
	Nova, Neutron, Cinder, Glance *gophercloud.ServiceClient // all but the first: nil where Keystone knows none
	Placement                     *gophercloud.ServiceClient // in version 1.1 of its API; nil the same
	Latest                        int                        // minor version of Nova's API
	Endpoints                     []Endpoint                 // of Keystone's catalog, by service, region and interface
}

// Meet logs in by the variables that From reads, and finds the services in OS_REGION_NAME and by OS_INTERFACE. The
// error is of kind fail.Invalid, fail.Refused (Nova is too old) or fail.Unavailable.
func Meet(ctx context.Context, getenv func(string) string) (*Cloud, error) {
	login, err := From(getenv)
	if err != nil {
		return nil, err
	}
	p, err := Login(ctx, login, http.Client{Timeout: Answer, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment}})
	if err != nil {
		return nil, err
	}
	c := &Cloud{}
	r, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return nil, fail.Errorf(fail.Failed, "Keystone's answer tells no project")
	}
	project, err := r.ExtractProject()
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "the project in Keystone's answer: %w", err)
	}
	if project != nil {
		c.Project = project.ID
	}
	catalog, err := r.ExtractServiceCatalog()
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "the catalog in Keystone's answer: %w", err)
	}
	for _, s := range catalog.Entries {
		for _, e := range s.Endpoints {
			c.Endpoints = append(c.Endpoints, Endpoint{s.Type, e.Interface, e.Region, e.URL})
		}
	}
	slices.SortFunc(c.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Region, b.Region),
			cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.URL, b.URL))
	})
	at := gophercloud.EndpointOpts{Region: getenv("OS_REGION_NAME")}
	if text := getenv("OS_INTERFACE"); text != "" {
		at.Availability = gophercloud.Availability(strings.TrimSuffix(text, "URL"))
	}
	if c.Nova, err = openstack.NewComputeV2(p, at); err != nil {
		return nil, fail.Errorf(fail.Invalid, "the compute service in Keystone's catalog: %w",
			err).With("OS_REGION_NAME and OS_INTERFACE choose the endpoint; openstack catalog list shows them all")
	}
	for _, s := range []struct {
		to   **gophercloud.ServiceClient
		make func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{{&c.Neutron, openstack.NewNetworkV2}, {&c.Cinder, openstack.NewBlockStorageV3}, {&c.Glance, openstack.NewImageV2},
		{&c.Placement, openstack.NewPlacementV1}} {
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
	if c.Placement != nil {
		c.Placement.Microversion = "1.1" // the first that tells aggregates
	}
	return c, c.version(ctx)
}

// version reads which version of Nova's API is the latest.
func (c *Cloud) version(ctx context.Context) error {
	var got struct {
		Version struct {
			Version string `json:"version"`
		} `json:"version"`
	}
	if err := Get(ctx, c.Nova, "", 0, &got); err != nil {
		return err
	}
	minor, found := strings.CutPrefix(got.Version.Version, "2.")
	n, err := strconv.Atoi(minor)
	if !found || err != nil || n < Base {
		return fail.Errorf(fail.Refused, "Nova's API at %s has version %q: want 2.%d or later", c.Nova.Endpoint, got.Version.Version, Base)
	}
	c.Latest = n
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

// Passes reports an error after which the same request may succeed.
func Passes(err error) bool {
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		return code.Actual == http.StatusTooManyRequests || code.Actual >= 500
	}
	return !errors.Is(err, context.Canceled)
}

// Absent reports the answer that there is no such thing.
func Absent(err error) bool { return gophercloud.ResponseCodeIs(err, http.StatusNotFound) }

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
		return fail.Because(err, kind, fmt.Sprintf("%s %s: status %d: %s", code.Method, code.URL, code.Actual, Message(code.Body)))
	case errors.Is(err, context.Canceled):
		return err
	}
	return fail.Errorf(fail.Unavailable, "%w", err)
}

// Message is what an answer's body says: {"badRequest": {"message": "..."}}, or the body; of an empty one, that.
func Message(body []byte) string {
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
	return cmp.Or(text[:min(len(text), 500)], "no reason is told")
}

// Get reads a path of a service into v, again where the error passes.
func Get(ctx context.Context, s *gophercloud.ServiceClient, path string, version int, v any) (err error) {
	for try := range tries {
		_, err = s.Get(ctx, s.ResourceBaseURL()+path, v, options(version))
		if err == nil || !Passes(err) || !clock.Sleep(ctx, first<<try) {
			break
		}
	}
	return explained(err)
}

// Send has a service do something, once. request is the ID by which Nova notes it; v may be nil.
func Send(ctx context.Context, s *gophercloud.ServiceClient, method, path string, version int, body,
	v any) (request string, head http.Header, err error) {
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
