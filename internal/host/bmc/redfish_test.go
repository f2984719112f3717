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

func TestForceOffNotAllowed(t *testing.T) {
	r := standIn(t, func(s *redfish) { s.resets = []string{"On", "GracefulShutdown"} })
	fails(t, device(t, r.o).Off(within(t, 10*time.Second)), ErrRefused, "order")
	if r.ordered() != 0 {
		t.Errorf("%d orders", r.ordered())
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

// TestRefusedAsItIsOff: a service may refuse the order because of the state.
func TestRefusedAsItIsOff(t *testing.T) {
	for _, code := range []int{http.StatusConflict, http.StatusBadRequest} {
		r, s := withService(t, nil)
		s.status = code
		fails(t, device(t, r.o).Off(within(t, 10*time.Second)), ErrRefused, "order")
		r.set(func(m *machine) { m.kill() })
		if err := device(t, r.o).Off(within(t, 10*time.Second)); err != nil {
			t.Errorf("status %d of one that is off: %v", code, err)
		}
		// No other refusal is made good by the state: it would not be when it counts.
		s.status = http.StatusForbidden
		fails(t, device(t, r.o).Off(within(t, 10*time.Second)), ErrRefused, "order")
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
