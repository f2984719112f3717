package first

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
)

// plan is what is made: a cluster of hosts, or a pair.
type plan interface {
	title() string                      // of its pages
	form() string                       // path of what was filled in
	hosts() []install.Host              // that are reached by SSH
	parts() []string                    // of the making, by name
	check(context.Context, *work) error // finds, and changes nothing on hosts
	consequences(*view) []string        // of the making, in sentences
	word() string                       // that has to be typed; "": none
	make(context.Context, *work) error  // what was checked
	close() error                       // what it holds
}

// stage is how far a work is.
type stage int

const (
	connecting stage = iota // hosts are asked for their keys
	unknown                 // somebody has to say whether the keys are the hosts'
	checking
	checked // it can be made
	refused // a check has failed
	making
	made
	failed // or stopped
)

// line is what was told of a host, "" of all.
type line struct {
	At         time.Duration // since the work began
	Host, What string
}

// maxLines are kept of what was told.
const maxLines = 200

// state is what pages show of a work.
type state struct {
	Stage    stage
	Keys     []remote.HostKey
	Findings []install.Finding
	Lines    []line
	Last     []line // of each host, by name
	Part     int    // that is made, counted from 1; 0: none yet
	Result   *install.Result
	Pair     *cluster.PairStatus
	Err      error
	Begun    time.Time
}

// work is one under way, from the answers of a form to a cluster that stands. Its methods may be called at any time.
type work struct {
	plan
	ssh remote.Options
	ctx context.Context

	mu      sync.Mutex
	state   state
	changed chan struct{}
	cancel  context.CancelFunc // of what runs; nil: nothing does
	idle    chan struct{}      // closed when nothing runs
}

// newWork makes one of which nothing was done.
func newWork(ctx context.Context, p plan, ssh remote.Options) *work {
	idle := make(chan struct{})
	close(idle)
	ssh.Pinned = map[string]string{}
	return &work{plan: p, ssh: ssh, ctx: ctx, changed: make(chan struct{}), idle: idle, state: state{Begun: time.Now()}}
}

// now is the state, and what is closed when it is another one.
func (w *work) now() (state, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	s.Lines, s.Last = slices.Clone(s.Lines), slices.Clone(s.Last)
	return s, w.changed
}

// set changes the state.
func (w *work) set(f func(*state)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.state)
	close(w.changed)
	w.changed = make(chan struct{})
}

// tell keeps what was told of a host; "" is all.
func (w *work) tell(host, what string) {
	w.set(func(s *state) {
		l := line{time.Since(s.Begun), host, what}
		if n := len(s.Lines); n > 0 && s.Lines[n-1].Host == host && s.Lines[n-1].What == what {
			return
		}
		s.Lines = append(s.Lines, l)
		s.Lines = s.Lines[max(0, len(s.Lines)-maxLines):]
		if host == "" {
			return
		}
		if i := slices.IndexFunc(s.Last, func(o line) bool { return o.Host == host }); i >= 0 {
			s.Last[i] = l
		} else {
			s.Last = append(s.Last, l)
			slices.SortFunc(s.Last, func(x, y line) int { return cmp.Compare(x.Host, y.Host) })
		}
	})
}

// part tells that the next part of the making begins.
func (w *work) part() { w.set(func(s *state) { s.Part++ }) }

// begin runs something, unless something else runs. From is the stages in which it may begin; what do returns is the state
// in which it ends.
func (w *work) begin(to stage, from []stage, do func(context.Context) func(*state)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil || !slices.Contains(from, w.state.Stage) {
		return fail.Errorf(fail.Refused, "It is at another point by now: nothing was done.").With("look at the page again")
	}
	ctx, cancel := context.WithCancel(w.ctx)
	idle := make(chan struct{})
	w.cancel, w.idle = cancel, idle
	w.state.Stage, w.state.Err = to, nil
	close(w.changed)
	w.changed = make(chan struct{})
	go func() {
		defer close(idle)
		defer cancel()
		end := do(ctx)
		w.set(func(s *state) { // the next thing may begin as soon as it is seen
			end(s)
			w.cancel = nil
		})
	}()
	return nil
}

// interrupt has what runs come to its end.
func (w *work) interrupt() (idle <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel()
	}
	return w.idle
}

// end ends the work, and waits for that.
func (w *work) end() {
	<-w.interrupt()
	_ = w.close() // a lock that goes with the process at the latest
}

// connect asks all hosts for their keys, and goes on to the checks where all are known.
func (w *work) connect() error {
	return w.begin(connecting, []stage{connecting}, func(ctx context.Context) func(*state) {
		for _, h := range w.hosts() {
			w.tell(h.Name, "connects")
		}
		// A key that has changed is a finding of the checks, with what to do about it.
		keys, _ := remote.Keys(ctx, w.hosts(), parallel, w.ssh)
		if len(keys) > 0 && ctx.Err() == nil {
			return func(s *state) { s.Stage, s.Keys = unknown, keys }
		}
		return w.checks(ctx)
	})
}

// trust takes the keys that were shown, which somebody has compared, and goes on to the checks.
func (w *work) trust(shown string) error {
	s, _ := w.now()
	if shown != prints(s.Keys) {
		return fail.Errorf(fail.Refused, "These are not the keys that were shown: nothing was done.").With("look at the page again")
	}
	return w.begin(checking, []stage{unknown}, func(ctx context.Context) func(*state) {
		var keys []*remote.UnknownKey
		for _, k := range s.Keys {
			w.ssh.Pinned[k.At] = k.Fingerprint
			keys = append(keys, k.UnknownKey)
		}
		if err := w.ssh.Remember(keys); err != nil {
			return func(s *state) { s.Stage, s.Err = failed, err }
		}
		return w.checks(ctx)
	})
}

// prints are the fingerprints of keys.
func prints(keys []remote.HostKey) (out string) {
	for _, k := range keys {
		out += k.At + " " + k.Fingerprint + "\n"
	}
	return digest(out)
}

// again checks once more.
func (w *work) again() error {
	return w.begin(checking, []stage{checked, refused, failed}, w.checks)
}

// checks runs all checks.
func (w *work) checks(ctx context.Context) func(*state) {
	w.set(func(s *state) { s.Stage, s.Findings, s.Part, s.Result, s.Err = checking, nil, 0, nil, nil })
	err := w.check(ctx, w)
	return func(s *state) {
		switch {
		case ctx.Err() != nil:
			s.Stage, s.Err = failed, fail.Errorf(fail.Canceled, "The checks were stopped. Nothing was changed on any host.")
		case err != nil:
			s.Stage, s.Err = failed, err
		case slices.ContainsFunc(s.Findings, func(f install.Finding) bool { return f.Result == install.Fail }):
			s.Stage = refused
		default:
			s.Stage = checked
		}
	}
}

// do makes what was checked. Typed is the word, where one is wanted.
func (w *work) do(typed string) error {
	if want := w.word(); typed != want {
		return fail.Errorf(fail.Invalid, "word: value %.40q: want %s; nothing was changed", typed, want)
	}
	return w.begin(making, []stage{checked}, func(ctx context.Context) func(*state) {
		err := w.make(ctx, w)
		return func(s *state) {
			switch {
			case err == nil:
				s.Stage = made
			case ctx.Err() != nil:
				s.Stage, s.Err = failed, fail.Errorf(fail.Canceled, "It was stopped. What hosts have got so far is left there.").
					With("check again and go on: what is there and right stays")
			default:
				s.Stage, s.Err = failed, err
			}
		}
	})
}

// found takes what checks found.
func (w *work) found(all []install.Finding) {
	w.set(func(s *state) { s.Findings = all })
}

// installed takes the result of an installation; what it refused is an error.
func (w *work) installed(res install.Result) error {
	w.set(func(s *state) {
		s.Result = &res
		if !res.OK {
			s.Findings = res.Findings
		}
	})
	if !res.OK {
		return fail.Errorf(fail.Refused, "%d of %d checks failed; nothing was changed on any host", res.Failing(), len(res.Findings))
	}
	return nil
}

// parallel is how many hosts are asked at a time.
const parallel = 20
