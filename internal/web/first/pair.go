package first

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/install/setup"
	"holdfast/internal/install/survey"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/pair/precheck"
)

// pairPlan makes a pair of this host and another one.
type pairPlan struct {
	r       *Run
	said    setup.Form
	filled  *form // as it was filled in, without its secrets
	o       survey.Options
	other   remote.Options // the login at the arbiter
	values  setup.Values
	free    func() error // of the lock; nil: it is not held
	note    *setup.Note  // what is being made; nil: it was not begun
	planned *config.Cluster
}

func (p *pairPlan) title() string         { return "A pair of two nodes" }
func (p *pairPlan) form() string          { return "/pair" }
func (p *pairPlan) hosts() []install.Host { return setup.Others(p.o) }
func (p *pairPlan) word() string          { return setup.Word }

func (p *pairPlan) parts() []string {
	if p.said.Device != "" {
		return []string{"checks", "installation", "the pair begins with an empty database", "the copy of all data"}
	}
	return []string{"checks", "installation", "the pair begins with the data of this node", "the copy of all data"}
}

func (p *pairPlan) close() error {
	if p.free == nil {
		return nil
	}
	free := p.free
	p.free = nil
	return free()
}

func (p *pairPlan) consequences(v *view) (out []string) {
	if p.planned == nil {
		return nil
	}
	for _, c := range setup.Consequences(*p.planned) {
		out = append(out, v.T(c))
	}
	return out
}

// check runs the checks of a set-up, with the lock of this node, or goes on with one that was begun.
func (p *pairPlan) check(ctx context.Context, w *work) (err error) {
	if p.free == nil {
		if p.free, err = setup.Lock(install.SetupLock, "set-up"); err != nil {
			return err
		}
	}
	p.reach(w)
	if p.note, err = setup.ReadNote(install.SetupFile); err != nil {
		return err
	}
	if p.note != nil {
		if err := p.note.Same(p.values); err != nil {
			return err
		}
		p.planned = &p.note.Config
		w.found([]install.Finding{{Check: "set-up", Result: install.Pass,
			Finding: fmt.Sprintf("one was begun here at %s with these values, and goes on", p.note.Begun.Local().Format(time.DateTime))}})
		return nil
	}
	in, err := survey.Ask(ctx, p.o)
	if err != nil {
		return err
	}
	found := precheck.Judge(in)
	var all []install.Finding
	for _, f := range found {
		all = append(all, install.Finding{Check: f.Check, Result: f.Result, Finding: f.Finding, Remedy: f.Remedy})
	}
	w.found(all)
	if precheck.Worst(found) == precheck.Fail {
		return nil
	}
	cl, err := p.said.Cluster(in)
	p.planned = &cl
	return err
}

// reach says how the hosts are reached.
func (p *pairPlan) reach(w *work) {
	peer, third := remote.Connector(w.ssh, p.r.Program), remote.Connector(p.login(w), p.r.Program)
	p.o.Connect = func(ctx context.Context, addr string, arbiter bool) (install.Conn, error) {
		if arbiter {
			return third(ctx, install.Host{Name: addr, Addr: addr})
		}
		return peer(ctx, install.Host{Name: addr, Addr: addr})
	}
	p.o.Here = func() (install.Conn, error) {
		c, err := remote.BeginHere(p.r.Program)
		if err != nil {
			return nil, err // nil in itself, which a nil *remote.Here is not
		}
		return c, nil
	}
	p.o.Tell = w.tell
}

// login is the one at the arbiter: its password, and all else as at the other node.
func (p *pairPlan) login(w *work) remote.Options {
	o := w.ssh
	if p.other.Password != "" {
		o.Password = p.other.Password
	}
	return o
}

// make installs, begins with the data of this node, and waits until the other one has all of them.
func (p *pairPlan) make(ctx context.Context, w *work) (err error) {
	if p.planned == nil {
		return fail.Errorf(fail.Refused, "It was not checked: nothing was done.")
	}
	w.set(func(s *state) { s.Part = 1 })
	if p.note == nil {
		if p.note, err = setup.Begin(p.values, *p.planned); err != nil {
			return err
		}
	}
	w.part()
	o := install.Options{Config: p.note.Config, ConfigText: p.note.Config.JSON(), Domain: cluster.GuestName, Base: p.said.Base,
		NoFirewall: p.said.NoFirewall, Parallel: parallel, Tell: w.tell}
	if o.Files, err = p.r.Files(true); err != nil {
		return err
	}
	res, err := setup.Place(ctx, string(p.note.Config.Nodes()[0].Host), p.o, p.note, o)
	if err != nil {
		return err
	}
	if err := w.installed(res); err != nil {
		return err
	}
	w.part()
	if err := p.copied(ctx, w); err != nil {
		return err
	}
	if err := os.Remove(install.SetupFile); err != nil {
		return err
	}
	return p.close()
}

// copied begins with the data of this node, unless that was done, and waits until both nodes are well.
func (p *pairPlan) copied(ctx context.Context, w *work) error {
	c, err := p.r.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	begun := false
	for s, err := range c.WatchPair(ctx) {
		var e *fail.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &e) && e.Kind == fail.Unavailable:
			w.tell("", "waiting: "+e.Message)
			continue
		case err != nil:
			return err
		case !s.Set:
			if err := c.BeginPair(ctx); err != nil {
				w.tell("", "waiting: "+err.Error())
			}
			continue
		}
		if !begun {
			begun = true
			w.part()
		}
		w.set(func(st *state) { st.Pair = &s })
		_, why := s.Health()
		if len(why) == 0 {
			return nil
		}
		w.tell("", "waiting: "+strings.Join(why, "; "))
	}
	return ctx.Err()
}

// Fields of the form by flags of the command line that have other names.
var pairFields = map[string]string{"second-path": "second", "db-size": "db", "version-file": "version", "unmanaged-probe": "unmanaged",
	"service": "services", "settings": "settings", "ssh-port": "port"}

// pairPage asks for what a pair needs. What was asked for last is there, else what was begun on this host.
func (r *Run) pairPage(w http.ResponseWriter, q *http.Request, v *view) {
	f := newForm()
	if now := r.now(); now != nil {
		if p, ok := now.plan.(*pairPlan); ok {
			f = p.filled
		}
	} else if n, err := setup.ReadNote(install.SetupFile); err != nil {
		v.Fail(err)
	} else if n != nil {
		f = fromNote(n)
		v.Message = v.T("A set-up was begun on this host at " + n.Begun.Local().Format(time.DateTime) + ". With the same values it goes on.")
	}
	r.showPair(w, q, v, http.StatusOK, f)
}

func (r *Run) showPair(w http.ResponseWriter, q *http.Request, v *view, code int, f *form) {
	v.Title = v.T("A pair of two nodes")
	r.show(w, q, code, whole(v, pairForm(v, f.shown())))
}

// fromNote fills the form in by a set-up that was begun.
func fromNote(n *setup.Note) *form {
	f := newForm()
	kind, rest, _ := strings.Cut(strings.Join(n.Arbiters, " "), ":")
	for k, v := range map[string]string{"vip": n.VIP, "peer": n.Peer, "arbiter": kind, "arbiter-" + kind: rest,
		"device": n.Device, "second": n.Second,
		"hosts": strconv.Itoa(n.Hosts), "vms": strconv.Itoa(n.VMs), "db": strconv.Itoa(n.Database), "version": n.VersionFile,
		"unmanaged": n.Unmanaged, "fencing": ifAny(n.Fencing), "group": n.Group, "settings": ifAny(n.Settings)} {
		f.Set(k, v)
	}
	if n.NoFirewall {
		f.Set("closed", "on")
	}
	return f
}

// ifAny is "" for a text in JSON that says nothing.
func ifAny(text string) string {
	if text == "{}" || text == "null" {
		return ""
	}
	return text
}

// setup is what the form says of a pair.
func (f *form) setup() (s setup.Form) {
	s = setup.Form{VIP: strings.TrimSpace(f.Get("vip")), Peer: strings.TrimSpace(f.Get("peer")), Device: strings.TrimSpace(f.Get("device")),
		Second: strings.Join(list(f.Get("second")), ","), VersionFile: strings.TrimSpace(f.Get("version")),
		Unmanaged: strings.TrimSpace(f.Get("unmanaged")), Services: list(f.Get("services")), NoFirewall: f.Get("closed") != ""}
	s.Hosts, s.VMs, s.Database = f.number("hosts", 1, pair.MostHosts), f.number("vms", 0, pair.MostVMs), f.number("db", 1, 1<<20)
	for _, name := range []string{"vip", "peer", "hosts", "vms", "arbiter"} {
		if strings.TrimSpace(f.Get(name)) == "" {
			f.wrong(name, fail.Errorf(fail.Invalid, "it is missing"))
		}
	}
	kind := f.Get("arbiter")
	switch kind {
	case "":
	case precheck.Fence:
		s.Arbiters = []string{kind}
	default:
		s.Arbiters = []string{kind + ":" + strings.Join(list(f.Get("arbiter-"+kind)), ",")}
	}
	var err error
	if text := f.Get("fencing"); strings.TrimSpace(text) != "" {
		s.Fenced = true
		if s.Fencing, err = setup.ReadFencing("text", []byte(text)); err != nil {
			f.wrong("fencing", err)
		}
	}
	if text := f.Get("group"); strings.TrimSpace(text) != "" {
		s.Grouped = true
		if s.Group, err = setup.ReadGroup("text", []byte(text)); err != nil {
			f.wrong("group", err)
		}
	}
	s.Base = f.base()
	return s
}

// pair takes what was typed, and begins to check.
func (r *Run) pair(w http.ResponseWriter, q *http.Request, v *view) {
	f, err := read(q)
	if err != nil {
		r.fails(w, q, v, err)
		return
	}
	p := &pairPlan{r: r, said: f.setup(), other: remote.Options{Password: f.Get("arbiter-password")}}
	ssh := f.login(r.KnownHosts)
	if len(f.faults) == 0 {
		p.o, err = p.said.Options()
		if err == nil {
			p.values, err = p.said.Plan(&p.o, parallel)
		}
		if err != nil {
			f.fails(err, pairFields)
			if kind := f.Get("arbiter"); len(f.faults["arbiter"]) > 0 && kind != "" {
				f.faults["arbiter-"+kind] = f.faults["arbiter"]
				delete(f.faults, "arbiter")
			}
		}
	}
	p.filled = f
	if len(f.faults) > 0 {
		v.Fail(fail.Errorf(fail.Invalid, "Something is missing or wrong below. Nothing was begun."))
		r.showPair(w, q, v, http.StatusUnprocessableEntity, f)
		return
	}
	f.shown()
	r.start(w, q, v, p, ssh)
}

// sizePage is the part of the form that says how much space is needed for what is typed.
func (r *Run) sizePage(w http.ResponseWriter, q *http.Request, v *view) {
	f := &form{Values: q.URL.Query()}
	r.show(w, q, http.StatusOK, space(v, f))
}

// sizes are those that a pair needs, by what is typed; "" where that says nothing yet.
func sizes(f *form) (database, vms string) {
	hosts, err := strconv.Atoi(strings.TrimSpace(f.Get("hosts")))
	n, verr := strconv.Atoi(strings.TrimSpace(f.Get("vms")))
	if err != nil || verr != nil || setup.Counts(hosts, n) != nil {
		return "", ""
	}
	s := pair.SizeFor(hosts, n)
	return fmt.Sprintf("%d GB", s.Database), fmt.Sprintf("%d GB", s.VMs)
}
