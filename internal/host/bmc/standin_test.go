package bmc

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// redfish is a stand-in for a Redfish service: no package of Debian has one.
type redfish struct {
	m          *machine
	noSessions bool
	noBasic    bool
	systems    []string               // Ids; one by default
	resets     []string               // allowable values, as it says
	resetsNow  func(on bool) []string // the same by state, nil for resets
	refuses    bool                   // ForceOff
	uuid       string                 // of all systems
	tls        *tls.Config
	wrap       func(s *redfish, next http.Handler) http.Handler // its quirk, nil for none

	mu       sync.Mutex
	sessions map[string]string // path of a session to its token and user
	logins   int
	state    string // power state to tell, "" for the true one
	id       string // of each system to tell, "" for the true one
	status   int    // of orders, 0 for the true one
}

type object = map[string]any

// standIn starts one over HTTPS with a certificate that nobody has signed.
func standIn(t *testing.T, edit func(*redfish)) rig {
	s := &redfish{m: newMachine(t), systems: []string{"1"}, uuid: strings.ToUpper(machineID), sessions: map[string]string{},
		resets: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}}
	if edit != nil {
		edit(s)
	}
	handler := s.handler()
	if s.wrap != nil {
		handler = s.wrap(s, handler)
	}
	srv := httptest.NewUnstartedServer(handler)
	srv.TLS = s.tls
	srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, new(atomic.Int32))
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that clients break off are part of the tests
	srv.StartTLS()
	t.Cleanup(srv.Close)
	sum := sha256.Sum256(srv.TLS.Certificates[0].Certificate[0])
	return rig{machine: s.m, viewer: "viewer", o: Options{Type: "redfish", Address: srv.URL, User: "admin",
		PasswordFile: secret(t, rightPassword), Machine: machineID, Fingerprint: hex.EncodeToString(sum[:])}}
}

func (s *redfish) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /redfish/v1", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/redfish/v1/", http.StatusMovedPermanently)
	})
	mux.HandleFunc("GET /redfish/v1/{$}", s.root)
	mux.HandleFunc("GET /redfish/v1/Systems", s.user(s.list))
	mux.HandleFunc("GET /redfish/v1/Systems/{id}", s.user(s.system))
	mux.HandleFunc("POST /redfish/v1/Systems/{id}/Actions/ComputerSystem.Reset", s.user(s.reset))
	if !s.noSessions {
		mux.HandleFunc("POST /redfish/v1/SessionService/Sessions", s.login)
		mux.HandleFunc("DELETE /redfish/v1/SessionService/Sessions/{id}", s.user(s.logout))
	}
	return mux
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func refuse(w http.ResponseWriter, code int, text string) {
	reply(w, code, object{"error": object{"code": "Base.1.8.GeneralError", "message": text}})
}

func (s *redfish) root(w http.ResponseWriter, _ *http.Request) {
	v := object{"@odata.id": "/redfish/v1/", "Id": "RootService", "Name": "Root", "RedfishVersion": "1.6.0",
		"Systems": object{"@odata.id": "/redfish/v1/Systems"}}
	if !s.noSessions {
		v["Links"] = object{"Sessions": object{"@odata.id": "/redfish/v1/SessionService/Sessions"}}
	}
	reply(w, http.StatusOK, v)
}

// knows tells whether an account has that password.
func knows(name, password string) bool {
	return name == "admin" && password == rightPassword || name == "viewer" && password == viewPassword
}

func (s *redfish) login(w http.ResponseWriter, r *http.Request) {
	var b struct{ UserName, Password string }
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil || !knows(b.UserName, b.Password) {
		refuse(w, http.StatusUnauthorized, "wrong name or password")
		return
	}
	token := rand.Text()
	path := "/redfish/v1/SessionService/Sessions/" + token[:4]
	s.mu.Lock()
	s.logins++
	s.sessions[path] = token + " " + b.UserName
	s.mu.Unlock()
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", path)
	reply(w, http.StatusCreated, object{"@odata.id": path, "Id": token[:4], "UserName": b.UserName})
}

func (s *redfish) logout(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	delete(s.sessions, r.URL.Path)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *redfish) who(r *http.Request) string {
	if name, password, ok := r.BasicAuth(); ok && !s.noBasic && knows(name, password) {
		return name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.sessions {
		if token, name, _ := strings.Cut(v, " "); token == r.Header.Get("X-Auth-Token") {
			return name
		}
	}
	return ""
}

func (s *redfish) user(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.who(r) == "":
			refuse(w, http.StatusUnauthorized, "not logged in")
		case s.who(r) == "viewer" && r.Method == http.MethodPost:
			refuse(w, http.StatusForbidden, "may not")
		default:
			h(w, r)
		}
	}
}

func (s *redfish) list(w http.ResponseWriter, _ *http.Request) {
	var members []object
	for _, id := range s.systems {
		members = append(members, object{"@odata.id": "/redfish/v1/Systems/" + id})
	}
	reply(w, http.StatusOK, object{"@odata.id": "/redfish/v1/Systems", "Name": "Systems",
		"Members@odata.count": len(members), "Members": members})
}

func (s *redfish) system(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	state, id, resets := s.state, cmp.Or(s.id, r.PathValue("id")), s.resets
	s.mu.Unlock()
	on := s.m.state()
	if s.resetsNow != nil {
		resets = s.resetsNow(on)
	}
	if state == "" {
		state = map[bool]string{true: "On", false: "Off"}[on]
	}
	path := "/redfish/v1/Systems/" + r.PathValue("id")
	reply(w, http.StatusOK, object{"@odata.id": path, "Id": id, "Name": "host", "UUID": s.uuid, "PowerState": state,
		"Actions": object{"#ComputerSystem.Reset": object{"target": path + "/Actions/ComputerSystem.Reset",
			"ResetType@Redfish.AllowableValues": resets}}})
}

func (s *redfish) reset(w http.ResponseWriter, r *http.Request) {
	var b struct{ ResetType string }
	err := json.NewDecoder(r.Body).Decode(&b)
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	switch {
	case status != 0:
		refuse(w, status, "the power is off already")
		return
	case err == nil && b.ResetType == "ForceOff" && s.refuses:
		refuse(w, http.StatusBadRequest, "The value ForceOff for the property ResetType is not in the list of acceptable values.")
		return
	case err == nil && b.ResetType == "ForceOff":
		err = s.m.order(false)
	case err == nil && b.ResetType == "On":
		err = s.m.order(true)
	default:
		err = fmt.Errorf("reset type %q (%v)", b.ResetType, err)
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
