package bmc

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// withService starts a stand-in and gives its switches too.
func withService(t *testing.T, edit func(*redfish)) (rig, *redfish) {
	var s *redfish
	r := standIn(t, func(x *redfish) {
		if s = x; edit != nil {
			edit(x)
		}
	})
	return r, s
}

func TestCertificate(t *testing.T) {
	r := standIn(t, nil)
	for name, f := range map[string]func(*Options){
		"another fingerprint": func(o *Options) { o.Fingerprint = strings.Repeat("00", 32) },
		"unknown authority":   func(o *Options) { o.Fingerprint = "" },
	} {
		t.Run(name, func(t *testing.T) {
			d := device(t, r.o, f)
			noneLeft(t, func() { fails(t, d.Off(within(t, 10*time.Second)), ErrForeign, "connect") })
		})
	}
	if r.ordered() != 0 || !r.lives() {
		t.Errorf("%d orders, alive %v", r.ordered(), r.lives())
	}
}

func TestSeveralSystems(t *testing.T) {
	r := standIn(t, func(s *redfish) { s.systems = []string{"blade1", "blade2"} })
	err := device(t, r.o).Off(within(t, 10*time.Second))
	fails(t, err, ErrRefused, "connect")
	if !strings.Contains(err.Error(), "blade1, blade2") || !strings.Contains(err.Error(), "System") {
		t.Errorf("%q: want the systems and the option named", err)
	}
	fails(t, device(t, r.o, func(o *Options) { o.System = "blade3" }).Off(within(t, 10*time.Second)), ErrRefused, "connect")
	if r.ordered() != 0 || !r.lives() {
		t.Fatalf("%d orders, alive %v", r.ordered(), r.lives())
	}
	if err := device(t, r.o, func(o *Options) { o.System = "blade2" }).Off(within(t, 10*time.Second)); err != nil || r.lives() {
		t.Errorf("%v, alive %v", err, r.lives())
	}
}

// TestBrokenNeighbour: a system that can not be read does not stand for another one.
func TestBrokenNeighbour(t *testing.T) {
	r := standIn(t, func(s *redfish) {
		s.systems = []string{"2", "1"}
		before(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/2") },
			func(_ *redfish, w http.ResponseWriter, _ *http.Request) bool {
				refuse(w, http.StatusInternalServerError, "no such blade")
				return true
			})(s)
	})
	for system, says := range map[string]string{"": "2 systems (1, 2)", "2": "no such blade", "3": "no system 3"} {
		err := device(t, r.o, func(o *Options) { o.System = system }).Off(within(t, generous))
		if fails(t, err, ErrRefused, "connect"); !strings.Contains(err.Error(), says) {
			t.Errorf("%q: want %q", err, says)
		}
	}
	if r.ordered() != 0 || !r.lives() {
		t.Fatalf("%d orders, alive %v", r.ordered(), r.lives())
	}
	proves(t, r, device(t, r.o, func(o *Options) { o.System = "1" }))
}

// TestMayNotBy401: some services say to an account that may not do this that it is not
// logged in. It is asked once more with a new session, and none is left behind.
func TestMayNotBy401(t *testing.T) {
	r, s := withService(t, before(atOrder, func(_ *redfish, w http.ResponseWriter, _ *http.Request) bool {
		refuse(w, http.StatusUnauthorized, "may not")
		return true
	}))
	fails(t, device(t, r.o).Off(within(t, generous)), ErrRefused, "order")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins != 2 || len(s.sessions) != 0 || !r.lives() {
		t.Errorf("%d logins, sessions left: %v, alive %v; want 2 and none", s.logins, s.sessions, r.lives())
	}
}

func TestForceOffNotAllowed(t *testing.T) {
	r := standIn(t, func(s *redfish) { s.refuses, s.resets = true, []string{"On", "GracefulShutdown"} })
	err := device(t, r.o).Off(within(t, 10*time.Second))
	fails(t, err, ErrRefused, "order")
	if !strings.Contains(err.Error(), "takes only On, GracefulShutdown: HTTP status 400: Base.1.8.GeneralError: The "+
		"value ForceOff for") || !r.lives() {
		t.Errorf("%v, alive %v", err, r.lives())
	}
}

// TestLogsOut: a service gives few sessions, and each use ends its own.
func TestLogsOut(t *testing.T) {
	r, s := withService(t, nil)
	if _, err := device(t, r.o).Check(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins != 1 || len(s.sessions) != 0 {
		t.Errorf("%d logins, sessions left: %v; want 1 and none", s.logins, s.sessions)
	}
}

// TestNoUUID: a service that tells none may be used.
func TestNoUUID(t *testing.T) {
	for _, uuid := range []string{"", "not set", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"} {
		r := standIn(t, func(s *redfish) { s.uuid = uuid })
		d := device(t, r.o)
		if st, err := d.Check(within(t, 10*time.Second)); err != nil || st != (Status{On: true}) {
			t.Errorf("%q: got %+v, %v; want on and no machine", uuid, st, err)
		}
		if err := d.Off(within(t, 10*time.Second)); err != nil || r.lives() {
			t.Errorf("%q: %v, alive %v", uuid, err, r.lives())
		}
	}
}

// TestOnlyOffIsOff: no other power state is taken for it.
func TestOnlyOffIsOff(t *testing.T) {
	for _, state := range []string{"PoweringOff", "Paused", "off", "Unknown"} {
		t.Run(state, func(t *testing.T) {
			r, s := withService(t, nil)
			s.state = state
			fails(t, device(t, r.o).Off(r.untilAsked(t, 3)), ErrStillOn, "read-back")
		})
	}
}

// TestRefusedAsItIsOff: an order that fails is followed by a look, and "off" is the proof.
func TestRefusedAsItIsOff(t *testing.T) {
	for _, code := range []int{http.StatusConflict, http.StatusBadRequest, http.StatusForbidden, http.StatusInternalServerError} {
		r, s := withService(t, nil)
		s.status = code
		fails(t, device(t, r.o).Off(within(t, 10*time.Second)), ErrRefused, "order")
		r.set(func(m *machine) { m.kill() })
		if err := device(t, r.o).Off(within(t, 10*time.Second)); err != nil {
			t.Errorf("status %d of one that is off: %v", code, err)
		}
	}
}

// TestRedirect: the password is not taken to another place.
func TestRedirect(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	srv := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	o := standIn(t, nil).o
	o.Address = srv.URL // httptest's certificate is always the same
	fails(t, device(t, o).Off(within(t, 10*time.Second)), ErrRefused, "connect")
	if asked.Load() != 0 {
		t.Error("the other place was asked")
	}
}
