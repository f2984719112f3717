package collect_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/platform"
	"holdfast/internal/transition/platform/collect"
	"holdfast/testbed/try"
)

// stand answers with what the real services were seen to answer, beside a Keystone of its own. Lists that can be read
// in parts have at most two objects in a part.
type stand struct {
	t       *testing.T
	url     string
	answers map[string]map[string]json.RawMessage // by service and path
	without string                                // a service that the catalog does not have
	broken  string                                // a path that answers 503
	again   bool                                  // markers are not heeded
}

// types are the services as the catalog has them.
var types = map[string]string{"compute": "compute", "network": "network", "image": "image", "volume": "block-storage",
	"placement": "placement"}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{t: t}
	text, err := os.ReadFile(recorded)
	try.Must(t, err)
	try.Must(t, json.Unmarshal(text, &s.answers))
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *stand) env(name string) string {
	return map[string]string{"OS_AUTH_URL": s.url + "/v3", "OS_USERNAME": "admin", "OS_PASSWORD": "p",
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "admin", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "one"}[name]
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	say := func(code int, v any) {
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.t.Error(err)
		}
	}
	type object = map[string]any
	if r.Method == http.MethodPost { // the login
		catalog := []object{{"type": "identity", "endpoints": []object{{"interface": "public", "region": "one",
			"region_id": "one", "url": s.url + "/v3"}, {"interface": "public", "region": "two", "region_id": "two", "url": "http://127.0.0.1:1"}}}}
		for name, kind := range types {
			if name != s.without {
				// Clients look for a version at the end of the path.
				v := map[string]string{"compute": "/v2.1", "network": "", "image": "", "volume": "/v3", "placement": ""}[name]
				catalog = append(catalog, object{"type": kind,
					"endpoints": []object{{"interface": "public", "region": "one", "region_id": "one", "url": s.url + "/" + name + v}}})
			}
		}
		w.Header().Set("X-Subject-Token", "t")
		say(http.StatusCreated, object{"token": object{"methods": []string{"password"},
			"expires_at": "2099-01-01T00:00:00.000000Z", "project": object{"id": "p1", "name": "admin"}, "catalog": catalog}})
		return
	}
	if s.broken != "" && strings.HasSuffix(r.URL.Path, s.broken) {
		say(http.StatusServiceUnavailable, object{})
		return
	}
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for _, v := range []string{"v2.1", "v2.0", "v2", "v3"} {
		if rest, found := strings.CutPrefix(path, v); found && (rest == "" || rest[0] == '/') {
			path = rest
			break
		}
	}
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	q := r.URL.Query()
	marker, parts := q.Get("marker"), q.Has("limit")
	q.Del("limit")
	q.Del("marker")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	answer, found := s.answers[name][path]
	switch {
	case found && (s.again || !parts):
		say(http.StatusOK, answer)
	case found:
		say(http.StatusOK, s.part(answer, marker))
	case name == "compute" && strings.Trim(path, "/") == "":
		say(http.StatusOK, object{"version": object{"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1"}})
	case path == "" || path == "/" || name == "v3": // versions, as Neutron and Glance tell them
		id := map[string]string{"network": "v2.0", "image": "v2.16", "placement": "v1.0"}[name]
		href := s.url + "/" + name + "/" + strings.TrimSuffix(id, ".16")
		if name == "placement" {
			href = "" // as it says itself
		}
		say(http.StatusMultipleChoices, object{"versions": []object{{"id": id, "status": "CURRENT",
			"links": []object{{"rel": "self", "href": href}}}}})
	default:
		say(http.StatusNotFound, object{"itemNotFound": object{"message": "no " + path}})
	}
}

// part is a list behind a marker.
func (s *stand) part(answer json.RawMessage, marker string) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	try.Must(s.t, json.Unmarshal(answer, &all))
	for _, name := range []string{"flavors", "images", "volume_types", "hypervisors"} {
		if all[name] == nil {
			continue
		}
		var list, out []map[string]any
		try.Must(s.t, json.Unmarshal(all[name], &list))
		after := marker == ""
		for _, o := range list {
			if after && len(out) < 1 {
				out = append(out, o)
			}
			after = after || o["id"] == marker
		}
		text, err := json.Marshal(out)
		try.Must(s.t, err)
		all[name] = text
	}
	return all
}

// TestRecorded: what Debian's services answered is read whole, list by list and in parts.
func TestRecorded(t *testing.T) {
	s := newStand(t)
	p, err := collect.Collect(t.Context(), s.env, time.Unix(1, 0))
	try.Must(t, err)
	if len(p.Hosts) != 2 || len(p.Flavors) != 2 || p.Flavors[0].ID != "large" ||
		p.Flavors[1].Specs["hw:cpu_policy"] != "shared" || len(p.Images) != 1 || p.Images[0].Checksum == "" ||
		len(p.Aggregates) != 1 || p.Aggregates[0].Zone != "z1" || len(p.VolumeTypes) != 2 ||
		p.VolumeTypes[1].Specs["volume_backend_name"] != "fake" || p.Nova != "2.93" || p.Region != "one" || !p.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", p)
	}
	if len(p.Endpoints) != 6 { // those of the other region are not asked
		t.Errorf("%+v", p.Endpoints)
	}
	for _, e := range p.Endpoints {
		if e.Error != "" {
			t.Errorf("%+v", e)
		}
	}
	for _, f := range p.Check(false) {
		if f.Result == platform.Fail && f.Check != "services" {
			t.Errorf("%+v", f)
		}
	}
}

// TestPlacement: what Nova has of a host and Placement lacks is told, host by host.
func TestPlacement(t *testing.T) {
	s := newStand(t)
	providers := func() map[string]platform.Provider {
		p, err := collect.Collect(t.Context(), s.env, time.Now())
		try.Must(t, err)
		out := map[string]platform.Provider{}
		for _, x := range p.Providers {
			out[x.Host] = x
		}
		return out
	}
	all := providers()
	for _, h := range []string{"cmp1", "cmp2"} {
		if x := all[h]; !x.There || len(x.Without) > 0 || len(x.NotIn) > 0 {
			t.Errorf("a whole host: %+v", all)
		}
	}
	for path := range s.answers["placement"] {
		s.answers["placement"][path] = json.RawMessage(`{"allocations": {"another": {}}, "aggregates": ["another"]}`)
	}
	if all = providers(); len(all["cmp1"].Without) != 1 || len(all["cmp1"].NotIn) > 0 || len(all["cmp2"].Without) > 0 ||
		len(all["cmp2"].NotIn) != 1 || all["cmp2"].NotIn[0] != "fast" {
		t.Errorf("neither allocations nor aggregates: %+v", all)
	}
	s.answers["placement"] = nil
	if all = providers(); all["cmp1"].There || len(all["cmp1"].Without) != 1 || all["cmp2"].There {
		t.Errorf("no providers: %+v", all)
	}
	s.without = "placement"
	if all = providers(); len(all) > 0 {
		t.Errorf("no Placement: %+v", all)
	}
}

// TestPartsThatAreNotThere: a catalog without volumes is told by the checks; a service that does not answer, by an error.
func TestPartsThatAreNotThere(t *testing.T) {
	s := newStand(t)
	s.without = "volume"
	p, err := collect.Collect(t.Context(), s.env, time.Now())
	if err != nil || len(p.Pools) > 0 || len(p.Endpoints) != 5 {
		t.Errorf("%+v %v", p, err)
	}
	s.without = "compute"
	var f *fail.Error
	if _, err := collect.Collect(t.Context(), s.env, time.Now()); !errors.As(err, &f) || f.Kind != fail.Invalid ||
		!strings.Contains(err.Error(), "compute service in Keystone's catalog") {
		t.Errorf("%v", err)
	}
	s.without = ""
	delete(s.answers["compute"], "/os-aggregates")
	if _, err := collect.Collect(t.Context(), s.env, time.Now()); !errors.As(err, &f) ||
		!strings.Contains(err.Error(), "status 404: no /os-aggregates") {
		t.Errorf("%v", err)
	}
	s = newStand(t)
	s.again = true
	if _, err := collect.Collect(t.Context(), s.env, time.Now()); err == nil || !strings.Contains(err.Error(), "again and again") {
		t.Errorf("%v", err)
	}
}

// TestEndpointsThatDoNotAnswer are told, each with its reason.
func TestEndpointsThatDoNotAnswer(t *testing.T) {
	s := newStand(t)
	s.broken = "/image"
	p, err := collect.Collect(t.Context(), s.env, time.Now())
	try.Must(t, err)
	if f := p.Check(false)[0]; f.Result != platform.Fail || !strings.Contains(f.Finding, "image at "+s.url+"/image: 503") {
		t.Errorf("%+v", f)
	}
}
