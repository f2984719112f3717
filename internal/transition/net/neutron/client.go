// Package neutron reads and creates the objects of a network by Neutron's API. It knows
// which answers pass, and which leave open whether a request was carried out.
// See docs/adr/0058.
package neutron

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
)

// Limits of requests. A request that fails in a way that passes is asked again, with waits
// that double from first to longest.
const (
	tries   = 8
	first   = 100 * time.Millisecond
	longest = 5 * time.Second
	answer  = 60 * time.Second // for one answer: a server under load takes seconds for a port
	page    = 500              // objects in one answer
	settle  = 3 * time.Second  // for a request whose answer was lost, and which Neutron may be about to carry out
)

// Client is one Neutron API: without Keystone (auth_strategy = noauth), until Login.
type Client struct {
	api   *gophercloud.ServiceClient
	login bool // requests carry a token: then they are in the name of its project
	// Told is told how many objects of a kind, as net.Kinds has them, each answer of Read brings; nil: nobody is.
	Told func(kind string, more int)
	// anchor is a project that has a default security group already, see anchorAt. "": not
	// known yet.
	anchor string
}

// New makes a client of the API at endpoint, such as http://127.0.0.1:9696. The error is of
// kind fail.Invalid.
func New(endpoint string) (*Client, error) {
	u := text.HTTP(endpoint)
	if u == nil || u.RawQuery != "" {
		return nil, fail.Errorf(fail.Invalid, "endpoint %q: want http://HOST:PORT or https://HOST:PORT", endpoint)
	}
	provider := &gophercloud.ProviderClient{HTTPClient: http.Client{Timeout: answer,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64}}}
	base := strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/v2.0") + "/"
	return &Client{api: &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: base,
		ResourceBase: base + "v2.0/", Type: "network"}}, nil
}

// Login has the client's requests carry a token of Keystone. Errors are those of cloud.Login.
func (c *Client) Login(ctx context.Context, o *gophercloud.AuthOptions) error {
	provider, err := cloud.Login(ctx, o, c.api.HTTPClient)
	if err != nil {
		return err
	}
	c.api.ProviderClient, c.login = provider, true
	return nil
}

// lost reports an error that says nothing of whether the request is carried out, now or later.
func lost(err error) bool {
	var code gophercloud.ErrUnexpectedResponseCode
	return !errors.As(err, &code) || code.Actual == http.StatusBadGateway || code.Actual == http.StatusGatewayTimeout
}

// again waits before the try after the one that ended with err. It is false when the context ends.
func again(ctx context.Context, try int, err error) bool {
	wait := min(first<<try, longest)
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		if s, bad := strconv.Atoi(code.ResponseHeader.Get("Retry-After")); bad == nil && s >= 0 {
			wait = min(time.Duration(s)*time.Second, longest)
		}
	}
	return clock.Sleep(ctx, wait)
}

// get reads a path into v, again and again while the error passes.
func (c *Client) get(ctx context.Context, path string, v any) (err error) {
	for try := range tries {
		_, err = c.api.Get(ctx, c.api.ServiceURL(path), v, c.options())
		if err == nil || cloud.Absent(err) || !cloud.Passes(err) || ctx.Err() != nil || !again(ctx, try, err) {
			break
		}
	}
	return explained(ctx, err)
}

// options are those of a request. Without a project in it, Neutron takes one of its own.
func (c *Client) options() *gophercloud.RequestOpts {
	if c.anchor == "" || c.login {
		return &gophercloud.RequestOpts{}
	}
	return &gophercloud.RequestOpts{MoreHeaders: map[string]string{"X-Project-Id": c.anchor, "X-Roles": "admin"}}
}

// InstallExtension is what to do where Neutron does not let clients choose IDs.
const InstallExtension = "Install the extension holdfast_client_ids on the hosts of Neutron's API: " +
	"packaging/neutron/README.md in Holdfast's source says how."

// explained makes an error of a kind: what the API said, and what can be done. Of a caller who has given up the last answer
// says nothing.
func explained(ctx context.Context, err error) error {
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &code):
		text := cloud.Message(code.Body)
		out := fail.Because(err, fail.Failed, fmt.Sprintf("%s %s: status %d: %s", code.Method, code.URL, code.Actual, text))
		if code.Actual == http.StatusBadRequest && strings.Contains(text, "'id' not allowed in POST") {
			out.Kind = fail.Refused
			return out.With(InstallExtension)
		}
		if code.Actual >= 500 || code.Actual == http.StatusTooManyRequests {
			out.Kind = fail.Unavailable
		}
		return out
	}
	return fail.Errorf(fail.Unavailable, "ask Neutron: %w", err)
}

// of is a collection: its path, the key in answers (the path's own, if ""), and the project whose objects are read ("": all). What
// an object has beside its type's fields is noted in left, unless that is nil. Without a kind nobody is told of it.
type of[T any] struct {
	path, key, kind, project string
	left                     *[]net.LeftOut
	whole                    bool // the collection is small, and may have no order to page by
	absent                   T    // what an object is as far as it does not say: of a release that has no such attribute yet
}

// link is where another page is.
type link struct {
	Rel string `json:"rel"` // next or previous
}

// list reads all objects of a collection, page by page, in the order of their IDs.
func list[T any](ctx context.Context, c *Client, o of[T], id func(T) string) (out []T, err error) {
	marker, key, carried := "", cmp.Or(o.key, strings.ReplaceAll(o.path, "-", "_")), names(reflect.TypeFor[T]())
	for {
		query := url.Values{"limit": {strconv.Itoa(page)}, "sort_key": {"id"}, "sort_dir": {"asc"}}
		if o.whole {
			query = url.Values{}
		}
		if o.project != "" {
			query.Set("project_id", o.project)
		}
		if marker != "" {
			query.Set("marker", marker)
		}
		// A page of a collection has a list of links beside the objects, which is of another type.
		var got map[string]json.RawMessage
		if err := c.get(ctx, o.path+"?"+query.Encode(), &got); err != nil {
			return nil, err
		}
		var objects []json.RawMessage
		var links []link
		err := json.Unmarshal(got[key], &objects)
		if text := got[key+"_links"]; err == nil && text != nil {
			err = json.Unmarshal(text, &links)
		}
		if err != nil {
			return nil, fail.Errorf(fail.Failed, "Neutron's answer for %s: %w", o.path, err)
		}
		for _, text := range objects {
			v := o.absent
			var all map[string]json.RawMessage
			if err := errors.Join(json.Unmarshal(text, &v), json.Unmarshal(text, &all)); err != nil {
				return nil, fail.Errorf(fail.Failed, "Neutron's answer for %s: %w", o.path, err)
			}
			out = append(out, v)
			if o.left != nil {
				*o.left = append(*o.left, beside(o.kind, id(v), carried, all)...)
			}
		}
		if c.Told != nil && o.kind != "" {
			c.Told(o.kind, len(objects))
		}
		// A server may give less than it is asked for (pagination_max_limit), or all where it has no pages.
		more := slices.ContainsFunc(links, func(l link) bool { return l.Rel == "next" })
		if !more || len(objects) == 0 {
			return out, nil
		}
		last := id(out[len(out)-1])
		if last == marker {
			return nil, fail.Errorf(fail.Failed, "Neutron's answer for %s: the list goes on with %s again and again", o.path, marker)
		}
		marker = last
	}
}

// Has reports whether an object is there. collection is such as ports.
func (c *Client) Has(ctx context.Context, collection, id string) (bool, error) {
	err := c.get(ctx, collection+"/"+id+"?fields=id", nil)
	if cloud.Absent(err) {
		return false, nil
	}
	return err == nil, err
}

// Create makes an object with an ID, if it is not there. After an answer that leaves open
// whether it was made, the object itself is asked for: the request is sent again only when
// it is not there, and as the ID is the key of its row, no two can come of it.
func (c *Client) Create(ctx context.Context, collection, key, id string, body any) error {
	for try := range tries {
		there, err := c.Has(ctx, collection, id)
		if err != nil || there {
			return err
		}
		_, err = c.api.Post(ctx, c.api.ServiceURL(collection), map[string]any{key: body}, nil, c.options())
		if err == nil {
			return nil
		}
		// 409 may be an earlier request of ours, which was carried out late; of a subnet it is 400: it
		// overlaps with itself.
		conflict := gophercloud.ResponseCodeIs(err, http.StatusConflict) || gophercloud.ResponseCodeIs(err, http.StatusBadRequest)
		if !conflict && !cloud.Passes(err) {
			return explained(ctx, err)
		}
		if c.comes(ctx, collection, id, err) {
			return nil
		}
		if conflict || try == tries-1 || !again(ctx, try, err) {
			return explained(ctx, err)
		}
	}
	return fail.Errorf(fail.Failed, "%s %s: not made after %d tries", collection, id, tries)
}

// comes looks whether an object is there after a POST that has failed with err. After one whose answer was lost it
// looks for a while: a second POST beside the first one makes each wait in Neutron for the other's locks.
func (c *Client) comes(ctx context.Context, collection, id string, err error) bool {
	return c.becomes(ctx, collection, id, true, lost(err))
}

// becomes looks whether an object is there, or is not, as wanted: once, or for a while.
func (c *Client) becomes(ctx context.Context, collection, id string, want, wait bool) bool {
	for begun := time.Now(); ; {
		if there, asked := c.Has(ctx, collection, id); asked == nil && there == want {
			return true
		}
		if !wait || time.Since(begun) > settle || !clock.Sleep(ctx, first) {
			return false
		}
	}
}

// Delete removes an object; one that is not there is no error. After a request whose answer was lost it looks for a
// while whether the object goes: a request that is carried out later would remove one that was made anew meanwhile.
func (c *Client) Delete(ctx context.Context, collection, id string) (err error) {
	for try := range tries {
		_, err = c.api.Delete(ctx, c.api.ServiceURL(collection, id), c.options())
		if err == nil || cloud.Absent(err) || lost(err) && cloud.Passes(err) && c.becomes(ctx, collection, id, false, true) {
			return nil
		}
		if !cloud.Passes(err) || !again(ctx, try, err) {
			break
		}
	}
	return explained(ctx, err)
}

// Change gives fields of an object other values. It may be asked for again.
func (c *Client) Change(ctx context.Context, collection, key, id string, fields map[string]json.RawMessage) (err error) {
	for try := range tries {
		opts := c.options()
		opts.OkCodes = []int{http.StatusOK}
		_, err = c.api.Put(ctx, c.api.ServiceURL(collection, id), map[string]any{key: fields}, nil, opts)
		if err == nil || !cloud.Passes(err) || !again(ctx, try, err) {
			break
		}
	}
	return explained(ctx, err)
}
