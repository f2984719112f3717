package server

import (
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
)

// admission stands before everything that reads a request: it knows the caller and the procedure
// from the connection and the path, and refuses by the rights before a byte of the body is read.
// A small body that was packed takes much memory when it is unpacked, whoever sent it.
type admission struct {
	hosts   Hosts // nil: nobody is limited
	budgets *budgets
	calls   patience
	refused refuser
	next    http.Handler
}

// ServeHTTP passes on the calls that the caller has a right to, as many at once as the agent has memory for.
func (a *admission) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, known := rights[r.URL.Path]; !known {
		http.NotFound(w, r) // clients tell by it that the agent is of another version
		return
	}
	ctx := r.Context()
	who, err := callerOf(ctx)
	if err == nil {
		ctx, err = limit(ctx, a.hosts, who, r.URL.Path)
	}
	var leave func()
	if err == nil {
		leave, err = a.budgets.enter(ctx, who, r.URL.Path)
	}
	if err != nil {
		a.refused.answer(w, r, err)
		return
	}
	defer leave()
	a.calls.serve(a.next, w, r.WithContext(ctx))
}

// refuser answers calls with an error, in the protocol of each, and reads nothing of them.
type refuser struct {
	writer *connect.ErrorWriter
	log    *slog.Logger
}

func (f refuser) answer(w http.ResponseWriter, r *http.Request, why error) {
	if err := f.writer.Write(w, r, wireError(why)); err != nil { // the caller has gone, and misses nothing
		f.log.Debug("api call refused, and nobody listens", "call", r.URL.Path, "err", err)
	}
}
