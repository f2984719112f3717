package neutron

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
)

// lockName is what objects are known by to Births and Unmark.
type lockName struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Created string `json:"created_at"`
}

// Births are the networks and agents that Neutron tells, as "network ID" and "agent ID", and when each was made; "": it does not say.
func (c *Client) Births(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for kind, path := range map[string]string{"network": "networks", "agent": "agents"} {
		found, err := list(ctx, c, of[lockName]{path: path}, func(v lockName) string { return v.ID })
		if err != nil {
			return nil, err
		}
		for _, v := range found {
			out[kind+" "+v.ID] = strings.TrimSuffix(strings.Replace(v.Created, "T", " ", 1), "Z")
		}
	}
	return out, nil
}

// Mark has Neutron make an address scope, to which nothing belongs and which no quota counts. name begins with net.ProofPrefix; there
// may be two of it where an answer was lost.
func (c *Client) Mark(ctx context.Context, name string) (err error) {
	scope := map[string]any{"name": name, "ip_version": 4}
	if !c.login { // then it has to be said whose it is
		scope["tenant_id"] = strings.TrimSuffix(net.ProofPrefix, "-")
	}
	for try := range tries {
		_, err = c.api.Post(ctx, c.api.ServiceURL("address-scopes"), map[string]any{"address_scope": scope}, nil, c.options())
		if err == nil || !cloud.Passes(err) || !again(ctx, try, err) {
			break
		}
	}
	return explained(ctx, err)
}

// Unmark removes all that Mark has made, at any time.
func (c *Client) Unmark(ctx context.Context) error {
	found, err := list(ctx, c, of[lockName]{path: "address-scopes", whole: true}, func(v lockName) string { return v.ID })
	if err != nil {
		return err
	}
	for _, v := range found {
		if !strings.HasPrefix(v.Name, net.ProofPrefix) {
			continue
		}
		if err := c.Delete(ctx, "address-scopes", v.ID); err != nil {
			return err
		}
	}
	return nil
}

// Quota is how many objects of each kind a project may have; below 0: any number. It is empty where the API does not show it.
func (c *Client) Quota(ctx context.Context, project string) (map[string]int, error) {
	var got struct {
		Quota map[string]int `json:"quota"`
	}
	err := c.get(ctx, "quotas/"+project, &got)
	if cloud.Absent(err) || gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		return nil, nil
	}
	return got.Quota, err
}

// errNotBound is of a port that Neutron has not bound.
var errNotBound = errors.New("not bound")

// Rejected reports an error by which Neutron refuses one object, while it may take others, and gives what it said of it.
func Rejected(err error) (said string, ok bool) {
	var code gophercloud.ErrUnexpectedResponseCode
	var e *fail.Error
	switch {
	case errors.Is(err, errNotBound):
		return "it is not bound to its host; neutron-server's log says why, such as a network without a mapping on that host", true
	case !errors.As(err, &code) || errors.As(err, &e) && e.Kind != fail.Failed:
		return "", false
	}
	rejects := []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity}
	return cloud.Message(code.Body), slices.Contains(rejects, code.Actual)
}
