package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Migrate records the wish to move the guest and reports until it has moved or
// stays. The report may end early; the migration does not.
func (h *handler) Migrate(ctx context.Context, req *apiv1.MigrateRequest, out *connect.ServerStream[apiv1.MigrateResponse]) error {
	target, err := findHost(h.cluster.Status(), req.Host)
	if err != nil {
		return err
	}
	what := "move to " + string(target.Name)
	if err := checkQuorum(what, h.cluster.Status()); err != nil {
		return err
	}
	// Only what is logged after this revision can be about this request.
	_, from, err := h.readEvents(ctx, newestAfter)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, unaryTime)
	defer cancel()
	err = h.request(short, req.IdempotencyKey, what, func(w *cluster.Want, s cluster.Status) error {
		if err := checkMove(*w, s, req.Host); err != nil {
			return err
		}
		w.MoveTo = target.Name
		return nil
	})
	if err != nil {
		return err
	}
	return h.follow(ctx, target.Name, from, out)
}

// follow sends the progress of a migration, and the result as the last message.
func (h *handler) follow(ctx context.Context, target cluster.HostID, from int64, out *connect.ServerStream[apiv1.MigrateResponse]) error {
	m := move{target: target}
	deadline := time.Now().Add(h.grace)
	var sent api.Progress
	var looked time.Time
	return h.each(ctx, func(ctx context.Context) (bool, error) {
		s := h.cluster.Status()
		m.observe(s)
		if !m.moved && s.Connected && (m.ended != "" || time.Since(looked) >= beat/2) {
			looked = time.Now()
			if err := h.lookAtEvents(ctx, &m, &from); err != nil {
				return false, err
			}
		}
		if m.lost(time.Now().After(deadline)) {
			return false, m.failure(s)
		}
		p := m.progress(s)
		if p == sent && !p.Done {
			return false, nil
		}
		sent = p
		return p.Done, out.Send(api.Encode[*apiv1.MigrateResponse](p))
	})
}

// lookAtEvents tells m what the log says since the last look. A store that is
// away for a moment is no news of the migration.
func (h *handler) lookAtEvents(ctx context.Context, m *move, from *int64) error {
	for {
		events, next, err := h.readEvents(ctx, *from)
		if err != nil {
			if k := classify(err).Kind; k == fail.Unavailable || k == fail.Timeout {
				return nil
			}
			return err
		}
		if len(events) == 0 {
			return nil
		}
		*from = next
		for _, e := range events {
			m.log(e)
		}
	}
}

// findHost returns the host that a name or an IP address means.
func findHost(s cluster.Status, arg string) (cluster.HostStatus, error) {
	var known []string
	for _, h := range s.Hosts {
		if arg != "" && (string(h.Name) == arg || h.Addr == arg) {
			return h, nil
		}
		known = append(known, fmt.Sprintf("%s (%s)", h.Name, h.Addr))
	}
	list := "none is known yet"
	if len(known) > 0 {
		list = strings.Join(known, ", ")
	}
	return cluster.HostStatus{}, fail.Errorf(fail.Invalid, "host %q is not in this cluster; hosts: %s", arg, list)
}

// checkMove says why the guest can not be moved to a host now, nil when it can.
func checkMove(w cluster.Want, s cluster.Status, host string) error {
	if err := checkQuorum("move", s); err != nil {
		return err
	}
	t, err := findHost(s, host)
	if err != nil {
		return err
	}
	o := s.Owner
	switch {
	case o.State == cluster.Migrating:
		return fail.Errorf(fail.Refused, "a move from %s to %s is in progress", o.Host, o.To).
			With(awaitMove(s))
	case w.MoveTo != "" && w.MoveTo != o.Host:
		return fail.Errorf(fail.Refused, "a move to %s is in progress: it has been asked for and waits", w.MoveTo).
			With(awaitMove(s))
	case o.State == cluster.Running && o.Host == t.Name:
		return fail.Errorf(fail.Invalid, "it runs on %s already", t.Name)
	case w.HandsOff:
		return fail.Errorf(fail.Refused, "hands are off: no decision is made").With("end that: holdfast start")
	case !w.Run:
		return fail.Errorf(fail.Refused, "it has been asked to stop").With("start it first: holdfast start")
	case o.State != cluster.Running:
		return fail.Errorf(fail.Refused, "it is not running: its state is %s", stateOf(o)).
			With("wait until it runs: holdfast status --watch")
	case !t.Alive:
		return fail.Errorf(fail.Refused, "host %s is not alive: silent for %s", t.Name, t.Silent.Round(time.Second))
	case !t.Fit:
		return fail.Errorf(fail.Refused, "host %s is not able to run it: %s", t.Name, orUnknown(t.Why))
	}
	return nil
}

// awaitMove is what to do about a move that is under way.
func awaitMove(s cluster.Status) string {
	if s.OfPair() {
		return "wait for it: holdfast pair status --watch"
	}
	return "wait for it: holdfast status --watch; or cancel it: holdfast migrate --cancel"
}

func stateOf(o cluster.Owner) string {
	if o.State == "" {
		return "unknown"
	}
	return string(o.State)
}

func orUnknown(s string) string {
	if s == "" {
		return "it gives no reason"
	}
	return s
}

// move is what has been seen of one migration.
type move struct {
	target cluster.HostID
	asked  bool   // the request was seen in the status
	stands bool   // it is in the status now
	begun  bool   // the owner record said Migrating
	moved  bool   // the guest runs on the target
	ended  string // why it did not move
	reason string // what the event log says of it
	refuse bool   // the log says that it was refused
	shown  text.Percent[int]
}

// observe takes one status in.
func (m *move) observe(s cluster.Status) {
	o := s.Owner
	asked := s.Want.MoveTo == m.target
	switch {
	case o.State == cluster.Running && o.Host == m.target:
		m.moved = true
	case o.State == cluster.Migrating:
		m.begun = m.begun || o.To == m.target
	case o.State == cluster.Settling:
		m.begun = true
	case o.State == cluster.Running && m.begun:
		m.ended = "it came back to the source" + because(o.Reason)
	case o.State == cluster.Running && m.asked && !asked:
		m.ended = "the request was dropped" + because(o.Reason)
	case o.State != cluster.Running && o.State != "":
		m.ended = "it is no longer running: its state is " + string(o.State) + because(o.Reason)
	}
	m.asked = m.asked || asked
	m.stands = asked
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// log takes one event in that came after the request.
func (m *move) log(e cluster.Event) {
	if e.To != m.target && e.Host != m.target {
		return
	}
	switch {
	case e.Kind == cluster.EvMigrateEnd:
		m.reason, m.ended = e.Detail, string(e.Kind)
	case e.Kind == cluster.EvRefused && e.To == m.target:
		// While the request stands the coordinator may yet carry it out.
		m.reason, m.refuse = e.Detail, true
	}
}

// lost reports whether the guest will not move, and notes why. late: the request
// should have shown in the status by now.
func (m *move) lost(late bool) bool {
	switch {
	case m.moved:
		return false
	case m.ended != "":
	case m.begun || m.stands:
	case m.refuse:
		m.ended = string(cluster.EvRefused)
	case late && !m.asked:
		m.ended = "the request is gone and nothing was moved"
	}
	return m.ended != ""
}

// failure is the error that ends the report of a migration that failed.
func (m *move) failure(s cluster.Status) error {
	why := m.reason
	if why == "" {
		why = m.ended
	}
	if s.Owner.State == cluster.Running && s.Owner.Host != m.target {
		why += "; it runs on " + string(s.Owner.Host)
	}
	return fail.Errorf(fail.Failed, "move to %s: %s", m.target, why).With("more of it: holdfast events")
}

// progress is what the caller is told.
func (m *move) progress(s cluster.Status) api.Progress {
	p := api.Progress{State: s.Owner.State, Note: s.Waiting, Host: m.target, Epoch: s.Owner.Epoch}
	switch {
	case m.moved:
		p.Percent, p.Done = m.shown.At(100), true
	case s.Owner.State == cluster.Migrating || s.Owner.State == cluster.Settling:
		p.Percent = m.shown.At(s.Percent)
	}
	switch {
	case m.reason != "":
		p.Note = m.reason
	case p.Note == "" && !m.begun && !m.moved:
		p.Note = "waits for the coordinator to begin"
	}
	return p
}
