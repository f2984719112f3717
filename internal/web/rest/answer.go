package rest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
)

// failure is how an error stands in JSON.
type failure struct {
	Error struct {
		Code    string `json:"code"`             // as in the Connect API, such as invalid_argument
		Message string `json:"message"`          // what was tried, and what came of it
		Remedy  string `json:"remedy,omitempty"` // what the caller can do
	} `json:"error"`
}

func failureOf(code string, e *fail.Error) failure {
	var f failure
	f.Error.Code, f.Error.Message, f.Error.Remedy = code, e.Message, e.Remedy
	return f
}

// asError is an error of ours for any, with what the API has said of a remedy.
func asError(err error) *fail.Error {
	var e *fail.Error
	if errors.As(err, &e) {
		return e
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return fail.Because(err, fail.Failed, err.Error())
	}
	return api.Sent(ce)
}

// fails answers with an error of its kind.
func (h *handler) fails(w http.ResponseWriter, e *fail.Error) {
	h.refuse(w, api.StatusOf(e.Kind), api.CodeOf(e.Kind).String(), e)
}

// refuse answers with an error.
func (h *handler) refuse(w http.ResponseWriter, status int, code string, e *fail.Error) {
	body, err := json.Marshal(failureOf(code, e))
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	h.send(w, status, body)
}

func (h *handler) tooLarge(w http.ResponseWriter, c *call) {
	h.refuse(w, http.StatusRequestEntityTooLarge, connect.CodeResourceExhausted.String(),
		fail.Errorf(fail.Invalid, "the body: it has more than %d bytes", c.most))
}

func (h *handler) send(w http.ResponseWriter, status int, body []byte) {
	if len(body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) != nil {
		return
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		h.log.Debug("rest: an answer was not taken", "err", err)
	}
}

// answer sends what was recorded: an error in the form of all errors, else the body, or that it is the one that the caller
// has.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, a *recorded) {
	if a.code >= http.StatusBadRequest {
		h.refused(w, a)
		return
	}
	if age := a.Header().Get(api.AgeHeader); age != "" {
		w.Header().Set(api.AgeHeader, age)
	}
	body := append(a.body.Bytes(), '\n')
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.send(w, http.StatusOK, body)
		return
	}
	sum := sha256.Sum256(body)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "private, no-cache") // to be asked for each time, by the tag
	if has(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.send(w, http.StatusOK, body)
}

// has reports whether a list of tags has one.
func has(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// refused gives an error of the transcoder the form of all errors. It has google.rpc.Status, or a plain text.
func (h *handler) refused(w http.ResponseWriter, a *recorded) {
	var s struct {
		Code    uint32
		Message string
		Details []struct{ Remedy string }
	}
	if json.Unmarshal(a.body.Bytes(), &s) != nil || s.Code == 0 {
		text := strings.TrimSpace(a.body.String())
		if text == "" {
			text = http.StatusText(a.code)
		}
		e := fail.Errorf(fail.Invalid, "%.200s", text)
		if a.code == http.StatusUnsupportedMediaType {
			e = e.With("send JSON, with the header Content-Type: application/json")
		}
		code := connect.CodeInvalidArgument
		if a.code >= http.StatusInternalServerError {
			code = connect.CodeInternal
		}
		h.refuse(w, a.code, code.String(), e)
		return
	}
	code := connect.Code(s.Code)
	e := &fail.Error{Kind: api.KindOf(code), Message: s.Message}
	for _, d := range s.Details {
		e.Remedy = d.Remedy
	}
	status := api.StatusOf(e.Kind)
	switch code {
	case connect.CodeResourceExhausted:
		status = http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		status = http.StatusNotImplemented
	}
	h.refuse(w, status, code.String(), e)
}
