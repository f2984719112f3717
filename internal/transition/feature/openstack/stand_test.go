package openstack

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/feature/attempt"
	"holdfast/testbed/try"
)

// stand answers as Nova does: each look at the server gives the next of its states, the last one again and again.
type stand struct {
	states  []string // JSON
	events  string   // JSON
	asked   []string // actions
	answers map[string]int
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Openstack-Request-Id", "req-1")
	switch {
	case r.Method == http.MethodPost:
		var body map[string]any
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			http.Error(w, "{}", http.StatusBadRequest)
			return
		}
		for name := range body {
			s.asked = append(s.asked, name)
			if code := s.answers[name]; code != 0 {
				w.WriteHeader(code)
				_, _ = w.Write([]byte(`{"conflictingRequest": {"code": 409, "message": "it is too late"}}`)) // a client that has gone says so itself
				return
			}
		}
		w.WriteHeader(http.StatusAccepted)
	case strings.Contains(r.URL.Path, "os-instance-actions"):
		_, _ = w.Write([]byte(`{"instanceAction": {"events": ` + s.events + `}}`))
	default:
		_, _ = w.Write([]byte(`{"server": ` + s.states[0] + `}`))
		if len(s.states) > 1 {
			s.states = s.states[1:]
		}
	}
}

func against(t *testing.T, s *stand) *run {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	nova := &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{}, Endpoint: srv.URL + "/"}
	return &run{
		platform: platform{&cloud.Cloud{Nova: nova, Latest: 93}}, Stack: attempt.Stack{Limit: time.Minute},
		was: server{ID: "a", Status: active, Host: "h1"}, order: feature.CloudOrder{Wait: 20 * time.Second},
	}
}

const good = `[{"event": "e", "result": "Success", "finish_time": "t"}]`

// TestActionsAreReadBack: an answer of 202 alone is nothing.
func TestActionsAreReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		stand
		want string // of the error; "": none
	}{
		"done": {stand{states: []string{`{"status": "REBOOT", "OS-EXT-STS:task_state": "rebooting"}`,
			`{"status": "ACTIVE", "OS-EXT-STS:power_state": 1}`}, events: good}, ""},
		"a part failed": {stand{states: []string{`{"status": "ACTIVE", "OS-EXT-STS:power_state": 1}`},
			events: `[{"event": "prep", "result": "Error", "traceback": "Traceback\n  File\nNoHost: none fits\n"}]`}, "prep: NoHost: none fits"},
		"broken": {stand{states: []string{`{"status": "ERROR", "fault": {"message": "no host"}}`},
			events: good}, "its status is ERROR: no host"},
		"the hypervisor says another": {stand{states: []string{`{"status": "ACTIVE", "OS-EXT-STS:power_state": 4}`},
			events: good}, "power state Shutdown: want Running"},
		"refused": {stand{states: []string{`{}`}, answers: map[string]int{"reboot": 409}}, "status 409: it is too late"},
	} {
		t.Run(name, func(t *testing.T) {
			r := against(t, &c.stand)
			err := r.Try(t.Context(), feature.Restart)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestUnfinished: an action of which a part is still under way when its time is over has failed.
func TestUnfinished(t *testing.T) {
	r := against(t, &stand{states: []string{`{"status": "ACTIVE", "OS-EXT-STS:power_state": 1}`}, events: `[{"event": "e", "result": null}]`})
	r.order.Wait = 100 * time.Millisecond
	if err := r.Try(t.Context(), feature.Restart); err == nil || !strings.Contains(err.Error(), "not done after 100ms") {
		t.Errorf("%v", err)
	}
}

// TestHome: from each state in which a run may break off, the guest comes home by the right action.
func TestHome(t *testing.T) {
	home := `{"id": "a", "status": "ACTIVE", "OS-EXT-STS:power_state": 1, "OS-EXT-SRV-ATTR:host": "h1"}`
	for name, c := range map[string]struct{ state, want string }{
		"home":                       {home, ""},
		"off":                        {`{"status": "SHUTOFF", "OS-EXT-SRV-ATTR:host": "h1"}`, "os-start"},
		"resized here":               {`{"status": "VERIFY_RESIZE", "OS-EXT-SRV-ATTR:host": "h1"}`, "confirmResize"},
		"moved, and not confirmed":   {`{"status": "VERIFY_RESIZE", "OS-EXT-SRV-ATTR:host": "h2"}`, "revertResize"},
		"of another flavor":          {`{"status": "VERIFY_RESIZE", "OS-EXT-SRV-ATTR:host": "h1", "flavor": {"id": "x"}}`, "revertResize"},
		"broken":                     {`{"status": "ERROR", "OS-EXT-SRV-ATTR:host": "h1"}`, "reboot"},
		"elsewhere":                  {`{"status": "ACTIVE", "OS-EXT-SRV-ATTR:host": "h2"}`, "os-migrateLive"},
		"a task that ends by itself": {`{"status": "ACTIVE", "OS-EXT-STS:task_state": "image_uploading", "OS-EXT-SRV-ATTR:host": "h1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for the next look
			s := &stand{states: []string{c.state, home}, events: good}
			r := against(t, s)
			try.Must(t, r.home(t.Context()))
			if got := strings.Join(s.asked, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestColdWhereLiveIsRefused: what does not move home live moves cold.
func TestColdWhereLiveIsRefused(t *testing.T) {
	away := `{"status": "ACTIVE", "OS-EXT-SRV-ATTR:host": "h2"}`
	moved := `{"status": "VERIFY_RESIZE", "OS-EXT-SRV-ATTR:host": "h1"}`
	home := `{"status": "ACTIVE", "OS-EXT-STS:power_state": 1, "OS-EXT-SRV-ATTR:host": "h1"}`
	s := &stand{states: []string{away, moved, home}, events: good, answers: map[string]int{"os-migrateLive": 409}}
	r := against(t, s)
	try.Must(t, r.home(context.Background()))
	if got := strings.Join(s.asked, " "); got != "os-migrateLive migrate confirmResize" {
		t.Errorf("%q", got)
	}
}

func TestRegexpQuote(t *testing.T) {
	if got := regexpQuote("a.b*(c)"); got != `a\.b\*\(c\)` {
		t.Error(got)
	}
}

// TestInside: what the new guest's console tells is compared with its port and its UUID.
func TestInside(t *testing.T) {
	const id = "8f1e0000-0000-4000-8000-000000000001"
	for name, c := range map[string]struct{ console, want string }{
		"all": {"[ 12.3] cloud-init\r\n\r\nholdfast-feature addresses 10.1.0.7 172.17.0.1 told " + id + "  end\r\n", ""},
		"torn once": {"holdfast-feature addresses 10.1[   33.1] random: crng init done\n.0.7  told  " +
			"end\nholdfast-feature addresses 10.1.0.7  told " + id + "  end\n", ""},
		"no lease": {"holdfast-feature addresses told " + id + "  end\n", `it did not get 10.1.0.7 by DHCP: it has the IPv4 addresses []`},
		"another address": {"holdfast-feature addresses 10.1.0.77  told " + id + "  end\n",
			`it did not get 10.1.0.7 by DHCP: it has the IPv4 addresses ["10.1.0.77"]`},
		"nobody answers": {"holdfast-feature addresses 10.1.0.7  told end\n", `did not tell it that it is ` + id + `: it told of the guests []`},
		"another guest": {"holdfast-feature addresses 10.1.0.7  told 8f1e0000-0000-4000-8000-000000000002  end\n",
			`it told of the guests ["8f1e0000-0000-4000-8000-000000000002"]`},
	} {
		m := toldLine.FindStringSubmatch(c.console)
		if m == nil {
			t.Errorf("%s: not found", name)
			continue
		}
		if err := insideIs(strings.Fields(m[1]), strings.Fields(m[2]), []string{"10.1.0.7"},
			id); attempt.Said(err) == "" != (c.want == "") || !strings.Contains(attempt.Said(err), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if toldLine.MatchString("holdfast-feature addresses 10.1.0.7 told " + id[:20]) {
		t.Error("a line that has not ended counts")
	}
}

// TestShown: what differs is told as the API writes it.
func TestShown(t *testing.T) {
	var s server
	if err := json.Unmarshal([]byte(`{"OS-EXT-STS:power_state": 4, "image": {"id": "i1"}, "os-extended-volumes:volumes_attached": [{"id": "v1"}]}`), &s); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v    any
		want string
	}{{s.Power, "Shutdown"}, {power(9), "9"}, {s.Image, "i1"}, {s.Volumes, `[{"id":"v1"}]`}, {s.Metadata, "none"},
		{s.Addresses, "none"}, {s.Task, "none"}} {
		if got := shown(c.v); got != c.want {
			t.Errorf("%#v: %s, want %s", c.v, got, c.want)
		}
	}
	if got := s.busy(); got != "none" {
		t.Errorf("task %q", got)
	}
}
