package first

import (
	"net/http"
	"strings"

	"holdfast/internal/api/told"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/path"
	"holdfast/internal/web/layout"
)

// now is the work that there is; nil: none.
func (r *Run) now() *work {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.work
}

// choice leads to what can be made, or to what is under way.
func (r *Run) choice(w http.ResponseWriter, q *http.Request, v *view) {
	v.Title = v.T("First run")
	r.show(w, q, http.StatusOK, whole(v, start(v, r.now())))
}

// start takes a plan in place of the one before, which must have come to a rest.
func (r *Run) start(w http.ResponseWriter, q *http.Request, v *view, p plan, ssh remote.Options) {
	if old := r.now(); old != nil {
		if s, _ := old.now(); s.Stage == making || s.Stage == checking || s.Stage == connecting {
			r.fails(w, q, v, fail.Errorf(fail.Refused, "Something is under way: nothing was begun.").With("stop it first, on its page"))
			return
		}
		r.drop()
	}
	r.mu.Lock()
	x := newWork(r.ctx, p, ssh)
	busy := r.work != nil || r.ctx == nil
	if !busy {
		r.work = x
	}
	r.mu.Unlock()
	if busy {
		r.fails(w, q, v, fail.Errorf(fail.Refused, "Something is under way: nothing was begun.").With("look at its page: /work"))
		return
	}
	if err := x.connect(); err != nil {
		r.fails(w, q, v, err)
		return
	}
	http.Redirect(w, q, "/work", http.StatusSeeOther)
}

// workPage shows the work.
func (r *Run) workPage(w http.ResponseWriter, q *http.Request, v *view) {
	x := r.now()
	if x == nil {
		http.Redirect(w, q, "/", http.StatusSeeOther)
		return
	}
	v.Title = v.T(x.title())
	s, _ := x.now()
	r.show(w, q, http.StatusOK, following(v, workPart(v, x, s)))
}

// workStream sends the page's part whenever it changes, and a sign of life in between.
func (r *Run) workStream(w http.ResponseWriter, q *http.Request, v *view) {
	layout.Stream(w, q, func() (string, <-chan struct{}, error) {
		x := r.now()
		if x == nil {
			return "", nil, errNothing
		}
		s, changed := x.now()
		var b strings.Builder
		err := workPart(v, x, s).Render(q.Context(), &b)
		return b.String(), changed, err
	})
}

// errNothing is what there is to say where there is no work.
var errNothing = fail.Errorf(fail.Refused, "There is nothing under way.")

// order does something with the work, and leads back to its page.
func (r *Run) order(w http.ResponseWriter, q *http.Request, v *view, do func(*work) error) {
	x := r.now()
	if x == nil {
		r.fails(w, q, v, errNothing)
		return
	}
	if err := do(x); err != nil {
		r.fails(w, q, v, err)
		return
	}
	http.Redirect(w, q, "/work", http.StatusSeeOther)
}

func (r *Run) confirmKeys(w http.ResponseWriter, q *http.Request, v *view) {
	r.order(w, q, v, func(x *work) error { return x.trust(q.FormValue("keys")) })
}

func (r *Run) makeIt(w http.ResponseWriter, q *http.Request, v *view) {
	r.order(w, q, v, func(x *work) error { return x.do(strings.TrimSpace(q.FormValue("word"))) })
}

func (r *Run) checkAgain(w http.ResponseWriter, q *http.Request, v *view) {
	r.order(w, q, v, func(x *work) error { return x.again() })
}

// stop ends what runs. A browser does not wait for it: the page tells.
func (r *Run) stop(w http.ResponseWriter, q *http.Request, v *view) {
	r.order(w, q, v, func(x *work) error { x.interrupt(); return nil })
}

// finishPage says goodbye, and ends the first run.
func (r *Run) finishPage(w http.ResponseWriter, q *http.Request, v *view) {
	x := r.now()
	if x != nil {
		if s, _ := x.now(); s.Stage == making {
			r.fails(w, q, v, fail.Errorf(fail.Refused, "Something is being made: the first run goes on.").With("wait for its end, or stop it first"))
			return
		}
	}
	v.Title = v.T("It is finished")
	r.show(w, q, http.StatusOK, finished(v, x))
	r.finish()
}

// way is one from a version to another, or what is wrong.
type way struct {
	From, To, Mode string
	Result         *path.Result
	Wrong          string
}

// pathsPage finds the way from one version of a platform to another.
func (r *Run) pathsPage(w http.ResponseWriter, q *http.Request, v *view) {
	v.Title = v.T("Way of an upgrade")
	a := way{From: q.FormValue("from"), To: q.FormValue("to"), Mode: q.FormValue("mode")}
	if a.From != "" && a.To != "" {
		if err := a.find(q); err != nil {
			a.Wrong = v.T(told.Clean(err.Error()))
		}
	}
	r.show(w, q, http.StatusOK, whole(v, paths(v, a)))
}

func (a *way) find(q *http.Request) error {
	cat, err := catalogue.Load(q.Context(), catalogue.CAS)
	if err != nil {
		return err
	}
	mode := path.Rolling
	if a.Mode == string(path.Offline) {
		mode = path.Offline
	}
	res, err := path.Plan(cat, a.From, a.To, path.Environment{Mode: mode})
	if err == nil {
		a.Result = &res
	}
	return err
}
