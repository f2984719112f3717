// Package arraytest is a stand-in for a storage array: an HTTPS server that speaks
// as much of the REST interface of OceanStor as backups need, keeps sessions and
// snapshots as the array does, and fails in the ways that were asked for.
package arraytest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// The account and the device of the stand-in.
const (
	User     = "admin"
	Password = `S3cret "\ word`
	device   = "210235G7J20000000001"
)

// Fault is one way in which a request fails.
type Fault string

// Faults. Where the request is carried out first, its reply is what is lost.
const (
	Refused      Fault = "refused"       // 500, not carried out
	FailedAfter  Fault = "failed after"  // 500, carried out
	DroppedFirst Fault = "dropped first" // the connection ends, not carried out
	DroppedAfter Fault = "dropped after" // the connection ends, carried out
	Half         Fault = "half"          // half of the reply, carried out
	Nonsense     Fault = "nonsense"      // no JSON, carried out
	Hang         Fault = "hang"          // no reply until the client gives up, carried out
	Busy         Fault = "busy"          // the array says so, not carried out
	Fails        Fault = "fails"         // the array says that it can not, not carried out
	Expired      Fault = "expired"       // the session has ended
)

// Server is the stand-in. Its fields are set before the first request.
type Server struct {
	MaxSessions int           // 0: any number
	Rolling     time.Duration // how long a roll back takes

	http *httptest.Server

	mu        sync.Mutex
	sessions  map[string]string // token by cookie
	systems   []string          // id is the index
	content   map[string]string // of file systems
	snapshots []snapshot
	rolled    map[string]time.Time // by name of the file system
	faults    map[string][]Fault   // by "METHOD resource"
	calls     []string
	wrong     int // log-ins with a wrong password
}

type snapshot struct {
	ID      string `json:"ID"`
	Name    string `json:"NAME"`
	Parent  string `json:"PARENTID"`
	Type    string `json:"PARENTTYPE"`
	Health  string `json:"HEALTHSTATUS"`
	content string
}

// Start begins to serve on a port of loopback. Close ends it.
func Start(systems ...string) *Server {
	s := &Server{sessions: map[string]string{}, systems: systems, content: map[string]string{},
		rolled: map[string]time.Time{}, faults: map[string][]Fault{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it are expected
	s.http.StartTLS()
	return s
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

// Address is HOST:PORT.
func (s *Server) Address() string { return s.http.Listener.Addr().String() }

// Fingerprint is the SHA-256 of the certificate.
func (s *Server) Fingerprint() string {
	sum := sha256.Sum256(s.http.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

// CA is the certificate in PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// Inject lets the next requests fail, one fault each; "" lets one pass. The resource
// is sessions, filesystem, FSSNAPSHOT, rollback or progress.
func (s *Server) Inject(method, resource string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := method + " " + resource
	s.faults[key] = append(s.faults[key], faults...)
}

// Calls are the requests so far, as "METHOD resource".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// WrongPasswords counts log-ins that were refused.
func (s *Server) WrongPasswords() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

// Sessions counts those that are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Snapshots are the names of all snapshots.
func (s *Server) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for _, x := range s.snapshots {
		out = append(out, x.Name)
	}
	return out
}

// Write changes what a file system holds, and Read tells it.
func (s *Server) Write(system, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content[system] = content
}

// Read tells what a file system holds.
func (s *Server) Read(system string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.content[system]
}

// Spoil changes a snapshot as a broken array would.
func (s *Server) Spoil(name, health, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.snapshots {
		if s.snapshots[i].Name == name {
			s.snapshots[i].Health, s.snapshots[i].ID = health, id
		}
	}
}

// answer is what a request gives.
type answer struct {
	data   any
	code   int
	why    string
	cookie string
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/deviceManager/rest/")
	device, path, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	a, fault := s.handle(r, device, path, body)
	if a.cookie != "" {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: a.cookie, Path: "/deviceManager", Secure: true, HttpOnly: true})
	}
	m := map[string]any{"error": map[string]any{"code": a.code, "description": a.why}}
	if a.data != nil {
		m["data"] = a.data
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // the values are ours
	}
	switch fault {
	case Refused, FailedAfter:
		w.WriteHeader(http.StatusInternalServerError)
	case DroppedFirst, DroppedAfter:
		panic(http.ErrAbortHandler)
	case Half:
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		text = text[:len(text)/2]
	case Nonsense:
		text = []byte("<html>It works!</html>")
	case Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // to return would be an empty reply
	}
	_, _ = w.Write(text) // the client may be gone
}

// handle carries a request out, unless a fault says not to.
func (s *Server) handle(r *http.Request, dev, path string, body []byte) (answer, Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource, rest, _ := strings.Cut(path, "/")
	switch rest {
	case "rollback_fssnapshot":
		resource = "rollback"
	case "query_fs_snapshot_rollback":
		resource = "progress"
	}
	key := r.Method + " " + resource
	s.calls = append(s.calls, key)
	var fault Fault
	if f := s.faults[key]; len(f) > 0 {
		fault, s.faults[key] = f[0], f[1:]
	}
	switch fault {
	case Refused, DroppedFirst:
		return answer{}, fault
	case Busy:
		return answer{code: 1077949006, why: "The system is busy."}, fault
	case Fails:
		return answer{code: 1077949002, why: "The operation failed."}, fault
	case Expired:
		clear(s.sessions)
	}
	if key == "POST sessions" {
		return s.login(dev, body), fault
	}
	cookie, err := r.Cookie("session")
	if err != nil || dev != device || s.sessions[cookie.Value] == "" || s.sessions[cookie.Value] != r.Header.Get("iBaseToken") {
		return answer{code: -401, why: "This operation fails to be performed because of the unauthorized REST."}, fault
	}
	if key == "DELETE sessions" {
		delete(s.sessions, cookie.Value)
		return answer{data: map[string]any{}}, fault
	}
	return s.operate(key, rest, r, body), fault
}

func (s *Server) login(dev string, body []byte) answer {
	var q struct {
		User     string `json:"username"`
		Password string `json:"password"`
		Scope    *int   `json:"scope"`
	}
	switch {
	case json.Unmarshal(body, &q) != nil || q.Scope == nil || dev != "xxxxx":
		return answer{code: 50331651, why: "The entered parameter is incorrect."}
	case q.User != User || q.Password != Password:
		s.wrong++
		return answer{code: 1077987870, why: "The user name or password is incorrect."}
	case s.MaxSessions > 0 && len(s.sessions) >= s.MaxSessions:
		return answer{code: 1077949067, why: "The number of sessions has reached the limit."}
	}
	cookie, token := "ismsession="+rand.Text(), rand.Text()
	s.sessions[cookie] = token
	return answer{cookie: cookie, data: map[string]any{"deviceid": device, "iBaseToken": token, "accountstate": 1, "username": User}}
}

// operate does what needs a session.
func (s *Server) operate(key, rest string, r *http.Request, body []byte) answer {
	query := r.URL.Query()
	name, _ := strings.CutPrefix(query.Get("filter"), "NAME::")
	switch key {
	case "GET filesystem":
		list := []any{}
		for i, x := range s.systems {
			if strings.HasPrefix(x, name) { // more than what was asked for
				list = append(list, map[string]any{"ID": fmt.Sprint(i), "NAME": x, "HEALTHSTATUS": "1"})
			}
		}
		return answer{data: list}
	case "GET FSSNAPSHOT":
		list := []snapshot{}
		for _, x := range s.snapshots {
			if x.Parent == query.Get("PARENTID") && x.Name == name {
				list = append(list, x)
			}
		}
		if len(list) == 0 {
			return answer{} // without data
		}
		return answer{data: list}
	case "POST FSSNAPSHOT":
		return s.create(body)
	case "DELETE FSSNAPSHOT":
		i := slices.IndexFunc(s.snapshots, func(x snapshot) bool { return x.ID == rest })
		if i < 0 {
			return answer{code: 1073754118, why: "The snapshot does not exist."}
		}
		s.snapshots = slices.Delete(s.snapshots, i, i+1)
		return answer{data: map[string]any{}}
	case "PUT rollback":
		return s.rollBack(body)
	case "GET progress":
		if until, ok := s.rolled[query.Get("PARENTNAME")]; ok && time.Now().Before(until) {
			return answer{data: map[string]any{"rollbackStatus": "1", "rollbackRate": "42"}}
		}
		return answer{data: map[string]any{"rollbackStatus": 0}}
	}
	return answer{code: 50331651, why: "The entered parameter is incorrect."}
}

func (s *Server) create(body []byte) answer {
	var q struct {
		Name   string `json:"NAME"`
		Parent string `json:"PARENTID"`
		Type   int    `json:"PARENTTYPE"`
	}
	var parent int
	if json.Unmarshal(body, &q) != nil || q.Name == "" || q.Type != 40 {
		return answer{code: 50331651, why: "The entered parameter is incorrect."}
	}
	if _, err := fmt.Sscan(q.Parent, &parent); err != nil || parent < 0 || parent >= len(s.systems) {
		return answer{code: 1073752065, why: "The file system does not exist."}
	}
	if slices.ContainsFunc(s.snapshots, func(x snapshot) bool { return x.Name == q.Name }) {
		return answer{code: 1077948993, why: "The object name already exists."}
	}
	x := snapshot{ID: q.Parent + "@" + q.Name, Name: q.Name, Parent: q.Parent, Type: "40", Health: "1", content: s.content[s.systems[parent]]}
	s.snapshots = append(s.snapshots, x)
	return answer{data: x}
}

func (s *Server) rollBack(body []byte) answer {
	var q struct {
		ID string `json:"ID"`
	}
	if json.Unmarshal(body, &q) != nil {
		return answer{code: 50331651, why: "The entered parameter is incorrect."}
	}
	for _, x := range s.snapshots {
		if x.ID != q.ID {
			continue
		}
		var parent int
		if _, err := fmt.Sscan(x.Parent, &parent); err != nil {
			panic(err) // it is ours
		}
		system := s.systems[parent]
		if until, ok := s.rolled[system]; ok && time.Now().Before(until) {
			return answer{code: 1073754119, why: "The file system is being rolled back."}
		}
		s.content[system], s.rolled[system] = x.content, time.Now().Add(s.Rolling)
		return answer{data: map[string]any{}}
	}
	return answer{code: 1073754118, why: "The snapshot does not exist."}
}
