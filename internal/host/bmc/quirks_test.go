package bmc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// quirk is what controllers in the field do other than the specification, or within it
// but other than one expects.
type quirk struct {
	name string
	from string // who met it: project and file, or thread
	edit func(*redfish)
	// refused is the reason why neither state nor power-off are to be had; "": both are.
	refused string
	kind    error // of refused
}

// quirks of Redfish services. Each runs through the same contract.
var quirks = []quirk{
	// Sessions.
	{name: "full: 503 SessionLimitExceeded", from: "sushy/auth.py", edit: noLogin(503, "Base.1.8.SessionLimitExceeded")},
	{name: "full: 503 RAC0218", from: "gofish issue 75", edit: noLogin(503, "IDRAC.2.1.RAC0218")},
	{name: "full: 400", from: "sushy/auth.py", edit: noLogin(400, "Base.1.0.CreateLimitReachedForResource")},
	{name: "full: 403", from: "sushy/auth.py", edit: noLogin(403, "ExtendedError.1.0.MaxSessions")},
	{name: "full: 429", from: "sushy/auth.py", edit: noLogin(429, "Base.1.8.GeneralError")},
	{name: "full: 500", from: "redhat-eets/glpi-helper-scripts pull request 132", edit: noLogin(500, "Base.1.8.InternalError")},
	{name: "full: 401 SessionLimitExceeded", from: "sushy/auth.py", edit: noLogin(401, "Base.1.8.SessionLimitExceeded")},
	{name: "full, and no password with requests", from: "redhat-eets/glpi-helper-scripts pull request 132",
		kind: ErrRefused, refused: "it gave no session: HTTP status 503: Base.1.8.SessionLimitExceeded",
		edit: func(s *redfish) { noLogin(503, "Base.1.8.SessionLimitExceeded")(s); s.noBasic = true }},
	{name: "a session without a token", from: "sushy/main.py", edit: change(atLogin, func(a *answer) { a.header.Del("X-Auth-Token") })},
	{name: "session's place in the body", from: "sushy/main.py", edit: change(atLogin, func(a *answer) { a.header.Del("Location") })},
	{name: "session's place by its Id", from: "sushy/main.py", edit: change(atLogin, func(a *answer) {
		a.header.Del("Location")
		a.replace("@odata.id", "x")
	})},
	{name: "session's place at another host", from: "gofish schemas/session.go", edit: change(atLogin, func(a *answer) {
		a.header.Set("Location", "https://192.0.2.1"+a.header.Get("Location"))
	})},
	{name: "session's place without a slash", from: "gofish schemas/session.go", edit: change(atLogin, func(a *answer) {
		a.header.Set("Location", a.header.Get("Location")[len("/redfish/v1/"):])
		a.body = ""
	})},
	{name: "session's answer is cut off", from: "ours", edit: change(atLogin, func(a *answer) { a.header.Set("Content-Length", "9999") })},
	{name: "no place of sessions", from: "sushy/main.py", edit: change(atRoot, func(a *answer) { a.replace("Links", "links_") })},
	{name: "no place of systems", from: "sushy/main.py", edit: change(atRoot, func(a *answer) { a.replace(`"Systems"`, `"Oem"`) })},
	{name: "root for accounts only", from: "sushy/main.py",
		edit: before(atRoot, func(s *redfish, w http.ResponseWriter, r *http.Request) bool {
			if s.who(r) != "" {
				return false
			}
			refuse(w, http.StatusUnauthorized, "not logged in")
			return true
		})},
	{name: "ends the session after the order", from: "sushy/connector.py", edit: after(atOrder, func(s *redfish) {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.sessions)
	})},

	// Redirects.
	{name: "POST without slash: 301", from: "check_redfish pull request 187", edit: slashes(301, "")},
	{name: "POST without slash: 302", from: "check_redfish pull request 187", edit: slashes(302, "")},
	{name: "POST without slash: 307", from: "check_redfish pull request 187", edit: slashes(307, "")},
	{name: "POST without slash: 308", from: "check_redfish pull request 187", edit: slashes(308, "")},
	{name: "redirected by a whole URL", from: "check_redfish pull request 187", edit: slashes(301, "https://HOST")},
	{name: "303 after the order", from: "DMTF/python-redfish-library issue 98", edit: change(atOrder, func(a *answer) {
		if a.code < 300 {
			a.code = http.StatusSeeOther
			a.header.Set("Location", "/redfish/v1/")
		}
	})},
	{name: "redirected to another port", from: "PegaProx/project-pegaprox issue 609",
		edit: slashes(301, "https://127.0.0.1:1"), kind: ErrRefused, refused: "redirected to"},
	{name: "redirected to another host", from: "check_redfish pull request 187",
		edit: slashes(307, "https://192.0.2.1"), kind: ErrRefused, refused: "redirected to"},
	{name: "redirected to HTTP", from: "check_redfish pull request 187", edit: slashes(308, "http://HOST"),
		kind: ErrRefused, refused: "redirected to"},
	{name: "redirected for ever", from: "check_redfish pull request 187", kind: ErrRefused, refused: "again and again",
		edit: before(atAll, func(_ *redfish, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusPermanentRedirect)
			return true
		})},

	// What a system says of its orders.
	{name: "orders by state", from: "gofish schemas/computersystem.go", edit: func(s *redfish) {
		s.resetsNow = func(on bool) []string {
			if on {
				return []string{"ForceOff", "GracefulShutdown"}
			}
			return []string{"On"}
		}
	}},
	{name: "no orders", from: "sushy/resources/system/system.py", edit: func(s *redfish) { s.resets = nil }},
	{name: "other orders than it takes", from: "fence-agents fence_redfish.py",
		edit: func(s *redfish) { s.resets = []string{"On", "GracefulShutdown"} }},
	{name: "orders in an ActionInfo that is not there", from: "gofish schemas/computersystem.go", edit: change(atSystem, func(a *answer) {
		a.replace(`"ResetType@Redfish.AllowableValues"`, `"@Redfish.ActionInfo":"/redfish/v1/none","Oem"`)
	})},
	{name: "orders as one text", from: "sushy/oem/dell/resources/manager/manager.py", edit: change(atSystem, func(a *answer) {
		a.replace(`["On","ForceOff","GracefulShutdown","ForceRestart"]`, `"On, ForceOff"`)
	})},

	// Answers to an order.
	{name: "done and 400", from: "ironic redfish/power.py", edit: change(atOrder, func(a *answer) { a.code = 400 })},
	{name: "done and 409", from: "ironic redfish/power.py", edit: change(atOrder, func(a *answer) { a.code = 409 })},
	{name: "done and 500", from: "ironic redfish/power.py", edit: change(atOrder, func(a *answer) { a.code = 500 })},
	{name: "done and 503", from: "ironic redfish/power.py", edit: change(atOrder, func(a *answer) { a.code = 503 })},
	{name: "done and cut off", from: "sushy/connector.py", edit: after(atOrder, func(*redfish) { panic(http.ErrAbortHandler) })},
	{name: "refused when off: 400", from: "ironic redfish/power.py", edit: refusesOff(400)},
	{name: "refused when off: 403", from: "ironic redfish/power.py", edit: refusesOff(403)},
	{name: "refused when off: 409", from: "ironic redfish/power.py", edit: refusesOff(409)},
	{name: "refused when off: 500", from: "ironic redfish/power.py", edit: refusesOff(500)},
	{name: "as a task", from: "gofish schemas/computersystem.go", edit: change(atOrder, func(a *answer) {
		a.code, a.body = http.StatusAccepted, `{"@odata.id": "/redfish/v1/TaskService/Tasks/1", "TaskState": "Running"}`
	})},
	{name: "200 with a page", from: "sushy/exceptions.py",
		edit: change(atOrder, func(a *answer) { a.code, a.body = http.StatusOK, "<html>" })},

	// The power state.
	{name: "null for a while", from: "ironic redfish/power.py", edit: meanwhile("null")},
	{name: "PoweringOff for a while", from: "ironic redfish/power.py", edit: meanwhile(`"PoweringOff"`)},
	{name: "no JSON for a while", from: "sushy/connector.py", edit: meanwhile(`}`)},
	{name: "Off with a space", from: "fence-agents fence_redfish.py",
		edit: change(atSystem, func(a *answer) { a.replace(`"Off"`, `" Off "`) })},
	{name: "never a state", from: "fence-agents fence_redfish.py", kind: ErrRefused, refused: "tells no power state",
		edit: change(atSystem, func(a *answer) { a.replace(`"PowerState"`, `"Oem"`) })},

	// Versions of a resource.
	{name: "version demanded", from: "gofish schemas/entity.go", edit: etag(`"v1"`, `"v1"`, 428)},
	{name: "version with -gzip", from: "gofish schemas/entity.go", edit: etag(`"v1-gzip"`, `"v1"`, 428)},
	{name: "version weak", from: "sushy/connector.py", edit: etag(`W/"v1"`, `"v1"`, 428)},
	{name: "version without quotes", from: "gofish schemas/entity.go", edit: etag(`"v1"`, "v1", 428)},
	{name: "version refused", from: "bmclib internal/redfishwrapper/client.go", edit: etag(`"v1"`, "", 412)},

	// HTTP.
	{name: "wants OData-Version", from: "sushy/connector.py",
		edit: before(atAll, func(_ *redfish, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("OData-Version") == "4.0" {
				return false
			}
			refuse(w, http.StatusPreconditionFailed, "OData-Version")
			return true
		})},
	{name: "another Content-Type", from: "sushy/exceptions.py",
		edit: change(atAll, func(a *answer) { a.header.Set("Content-Type", "text/html") })},
	{name: "a page of the web interface", from: "PegaProx/project-pegaprox issue 609", kind: ErrRefused, refused: "no JSON",
		edit: change(atAll, func(a *answer) { a.code, a.body = 200, "<!DOCTYPE html>" })},
	{name: "compressed", from: "sushy/connector.py", edit: compressed},
	{name: "closes connections and does not say so", from: "sushy/connector.py and gofish client.go", edit: once},
	{name: "broken chunks for a while", from: "sushy/connector.py", edit: garbled("zz\r\n", 2)},
	{name: "cut off behind an answer Off", from: "ours", kind: ErrUnreachable, refused: "unexpected EOF", edit: func(s *redfish) {
		s.m.stuck = true
		off := `{"Id": "1", "PowerState": "Off"}`
		garbled(fmt.Sprintf("%x\r\n%s\r\n", len(off), off), 1<<30)(s)
	}},
	{name: "slow", from: "ironic redfish/power.py", edit: before(atAll, func(*redfish, http.ResponseWriter, *http.Request) bool {
		time.Sleep(30 * time.Millisecond)
		return false
	})},

	// Resources.
	{name: "places with a slash at the end", from: "PegaProx/project-pegaprox issue 609", edit: func(s *redfish) {
		change(atList, func(a *answer) { a.replace(`Systems/1"`, `Systems/1/"`) })(s)
		slashes(308, "")(s)
	}},
	{name: "places as whole URLs", from: "sushy/connector.py", edit: change(atAll, func(a *answer) {
		a.replace(`"@odata.id":"/`, `"@odata.id":"https://`+a.r.Host+`/`)
		a.replace(`"target":"/`, `"target":"https://`+a.r.Host+`/`)
	})},
	{name: "places at another host", from: "sushy/connector.py", kind: ErrRefused, refused: "not at this service",
		edit: change(atList, func(a *answer) { a.replace(`"@odata.id":"/`, `"@odata.id":"https://192.0.2.1/`) })},
	{name: "fields of other types", from: "gofish schemas/types.go",
		edit: change(atSystem, func(a *answer) { a.replace(`"UUID":"`+strings.ToUpper(machineID)+`"`, `"UUID":7`) })},
	{name: "answers for another system after the order", from: "ours", kind: ErrForeign,
		refused: "answers for the system 2", edit: after(atOrder, func(s *redfish) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.id = "2"
		})},

	// TLS.
	{name: "RSA key exchange only, GCM", from: "idrac_exporter pull request 205 (H3C HDM)", edit: suite(tls.TLS_RSA_WITH_AES_256_GCM_SHA384)},
	{name: "RSA key exchange only, CBC", from: "ironic redfish/utils.py", edit: suite(tls.TLS_RSA_WITH_AES_128_CBC_SHA)},
	{name: "3DES only", from: "ironic redfish/utils.py", edit: suite(tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA),
		kind: ErrRefused, refused: "want TLS 1.2"},
	{name: "TLS 1.1 only", from: "ironic redfish/utils.py", kind: ErrRefused, refused: "want TLS 1.2",
		edit: func(s *redfish) { s.tls = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} }},
	{name: "certificate with a negative number", from: "gofish client.go", edit: negative, kind: ErrRefused,
		refused: "negative serial number"},
}

// TestQuirks: with each quirk the state is read and the power-off is proved, or both are
// refused with the reason. Nothing stays behind at the device.
func TestQuirks(t *testing.T) {
	short := closeTime
	closeTime = generous
	t.Cleanup(func() { closeTime = short })
	for _, q := range quirks {
		t.Run(q.name, func(t *testing.T) {
			r, s := withService(t, q.edit)
			d := device(t, r.o)
			noneLeft(t, func() {
				if q.refused == "" {
					proves(t, r, d)
					return
				}
				err := d.Off(r.untilAsked(t, 3))
				if !errors.Is(err, q.kind) || !strings.Contains(err.Error(), q.refused) {
					t.Errorf("got %v; want %v: %s", err, q.kind, q.refused)
				}
			})
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.sessions) != 0 {
				t.Errorf("sessions left: %v", s.sessions)
			}
		})
	}
}

// proves is the contract of a device that is of use.
func proves(t *testing.T, r rig, d *Device) {
	t.Helper()
	ctx := within(t, generous)
	if st, err := d.Check(ctx); err != nil || !st.On {
		t.Fatalf("got %+v, %v; want on", st, err)
	}
	if err := d.Off(ctx); err != nil || r.lives() {
		t.Fatalf("off: %v, alive %v", err, r.lives())
	}
	if err := d.Off(ctx); err != nil { // of one that is off
		t.Fatalf("off again: %v", err)
	}
	if st, err := d.Check(ctx); err != nil || st.On {
		t.Fatalf("got %+v, %v; want off", st, err)
	}
}
