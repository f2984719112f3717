package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/rogpeppe/go-internal/diff"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// Pages of the configuration. Nothing of them changes under the hands of who reads or types.
var (
	configurationPage = &page{path: "/configuration", title: "Configuration", least: cluster.Admin, still: true,
		help: "configuration#changing-it", part: configurationPart}
	revisionPage = &page{path: "/configuration/revisions/{number}", title: "Revision of the configuration", least: cluster.Admin, still: true,
		help: "configuration#changing-it", in: configurationPage, part: revisionPart}
	editPage = &page{path: "/configuration/edit", title: "Edit the configuration", least: cluster.Admin, still: true,
		help: "configuration", in: configurationPage, part: editPart}
)

// configurationPart is the configuration in force, with what is kept of earlier ones.
func configurationPart(ctx context.Context, v *view) (templ.Component, error) {
	all, err := v.api.Configs(ctx)
	if err != nil {
		return nil, err
	}
	now, cl, err := revisionOf(ctx, v, 0)
	if err != nil {
		return nil, err
	}
	return configuration(v, now, string(cl.YAML()), all), nil
}

// revisionOf asks for a revision; 0 is the one in force.
func revisionOf(ctx context.Context, v *view, number int) (config.Revision, config.Cluster, error) {
	r, err := v.api.Config(ctx, number)
	if err != nil {
		return r, config.Cluster{}, err
	}
	cl, err := r.Cluster()
	return r, cl, err
}

// numberOf reads the number of a revision; "" is 0.
func numberOf(what, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fail.Errorf(fail.Invalid, "%s: value %q: want the number of a revision", what, told.Clean(text))
	}
	return n, nil
}

// compared is a revision beside another one.
type compared struct {
	config.Revision
	text   string
	all    []config.Revision // newest first
	with   int               // number of the other one; 0: there is none
	fields []config.Change
	lines  []diffLine
}

// revisionPart is a revision, and how it differs from another one: the one before, unless the address names one.
func revisionPart(ctx context.Context, v *view) (templ.Component, error) {
	number, err := numberOf("revision", v.arg("number"))
	if err != nil {
		return nil, err
	}
	with, err := numberOf("with", v.query("with"))
	if err != nil {
		return nil, err
	}
	all, err := v.api.Configs(ctx)
	if err != nil {
		return nil, err
	}
	r, cl, err := revisionOf(ctx, v, number)
	if err != nil {
		return nil, err
	}
	x := compared{Revision: r, text: string(cl.YAML()), all: all, with: with}
	if with == 0 && slices.ContainsFunc(all, func(o config.Revision) bool { return o.Number == number-1 }) {
		x.with = number - 1
	}
	if x.with != 0 {
		_, other, err := revisionOf(ctx, v, x.with)
		if err != nil {
			return nil, err
		}
		x.fields, x.lines = config.Diff(other, cl), lineDiff(other.YAML(), cl.YAML())
	}
	v.Title = v.T("Revision " + strconv.Itoa(number) + " of the configuration")
	return revision(v, x), nil
}

// diffLine is one of a difference.
type diffLine struct {
	class string // added, removed, place, or "" of what both have
	text  string
}

// lineDiff is how two texts differ, line by line.
func lineDiff(a, b []byte) (out []diffLine) {
	all := strings.Split(strings.TrimSuffix(string(diff.Diff("a", a, "b", b)), "\n"), "\n")
	for _, l := range all[min(len(all), 3):] { // without its head
		class := map[byte]string{'+': "added", '-': "removed", '@': "place"}[(l + " ")[0]]
		out = append(out, diffLine{class, l})
	}
	return out
}

// configurationFile sends a revision as a file.
func (c *Console) configurationFile(w http.ResponseWriter, r *http.Request, v *view) {
	number, err := numberOf("revision", v.arg("number"))
	if err == nil {
		err = configurationPage.may(v)
	}
	var cl config.Cluster
	if err == nil {
		_, cl, err = revisionOf(r.Context(), v, number)
	}
	form := cmp.Or(v.query("form"), "yaml")
	write := map[string]func() []byte{"yaml": cl.YAML, "json": cl.JSON}[form]
	if err == nil && write == nil {
		err = fail.Errorf(fail.Invalid, "form: value %q: want yaml or json", told.Clean(form))
	}
	if err != nil {
		c.fails(w, r, err)
		return
	}
	file(w, fmt.Sprintf("configuration-%d.%s", number, form), "application/"+form)
	if _, err := w.Write(write()); err != nil {
		c.Log.Debug("console: a file was not taken", "path", r.URL.Path, "err", err)
	}
}

// edited is what stands in the editor.
type edited struct {
	text     string
	base     int // number of the revision that it changes
	checked  string
	key      string           // of the import, which is done once
	plan     *config.Imported // what an import would do; nil: it has not been checked
	findings []finding
	others   []config.Change // what somebody else has changed since base
	now      int             // and the number of the revision in force
	note     string
}

// finding is what is wrong, or worth to be known, at a place of the text.
type finding struct {
	line, column int // 0: none
	field        string
	value, text  string
	warning      bool
	lines        []numbered // around it
}

// numbered is a line of the text.
type numbered struct {
	number int
	text   string
	here   bool
}

// refused reports whether a part of the plan is not done by an import.
func (e edited) refused() bool {
	return e.plan != nil && slices.ContainsFunc(told.Effects(e.plan.Changes), func(x told.Effect) bool { return x.Tone == told.Bad })
}

// importable reports whether what has been checked may be imported.
func (e edited) importable() bool { return e.plan != nil && len(e.plan.Changes) > 0 && !e.refused() }

// digest is of what was checked: this text, on this revision.
func (e edited) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\n%s", e.base, e.text))
	return hex.EncodeToString(sum[:])
}

// name is the one that the text would have as a file, which says its form.
func (e edited) name() string {
	if strings.HasPrefix(strings.TrimLeft(e.text, " \t\n\ufeff"), "{") {
		return "configuration.json"
	}
	return "configuration.yaml"
}

// editPart is the editor, with the configuration in force, or with the text of an earlier one.
func editPart(ctx context.Context, v *view) (templ.Component, error) {
	from, err := numberOf("from", v.query("from"))
	if err != nil {
		return nil, err
	}
	now, cl, err := revisionOf(ctx, v, 0)
	if err == nil && from != 0 && from != now.Number {
		_, cl, err = revisionOf(ctx, v, from)
	}
	if err != nil {
		return nil, err
	}
	e := edited{text: string(cl.YAML()), base: now.Number}
	if from != 0 && from != now.Number {
		e.note = v.T("This is the text of revision " + strconv.Itoa(from) + ". It changes nothing until you import it.")
	}
	return editor(v, e), nil
}

// editConfiguration checks what was typed, or imports it: only what was checked as it is.
func (c *Console) editConfiguration(w http.ResponseWriter, r *http.Request, v *view) {
	err := c.editing(r, v, editPage, fail.Errorf(fail.Invalid, "text: want at most %d bytes", config.MaxImport).
		With("go back to what you have typed, or import it as a file: holdfast config import FILE"))
	var e edited
	if err == nil {
		e, err = typed(r)
	}
	if err != nil {
		c.fails(w, r, err)
		return
	}
	if r.PostFormValue("do") == "import" {
		if r.PostFormValue("checked") == e.digest() {
			c.importConfiguration(w, r, v, e)
			return
		}
		e.note = v.T("The text is not the one that was checked. It has been checked now, and nothing was imported.")
	}
	code := http.StatusOK
	if err := v.check(r.Context(), &e); err != nil {
		v.Fail(err)
		code = httpCode(err)
	}
	c.show(w, r, code, whole(v, editor(v, e)))
}

// kept has who is no longer logged in keep what was typed: the browser has it, and sends it again.
func (c *Console) kept(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, is := c.user(r.Context()); is {
			next.ServeHTTP(w, r)
			return
		}
		v := c.view(r)
		v.Title = v.T("Log in")
		err := fail.Errorf(fail.Denied, "You are no longer logged in. Nothing was done with what you have sent.").
			With("log in on another page, then reload this one: your browser sends your text again")
		v.Fail(err)
		c.show(w, r, httpCode(err), loginAgain(v))
	})
}

// editing prepares the answer to a form of a page on which somebody types, and reads that; tooLong refuses a form that is.
func (c *Console) editing(r *http.Request, v *view, p *page, tooLong error) error {
	if err := p.may(v); err != nil {
		return err
	}
	c.live.fill(v)
	v.page, v.Title, v.At = p, v.T(p.title), p.path
	err := r.ParseForm()
	if long := new(http.MaxBytesError); errors.As(err, &long) {
		return tooLong
	}
	if err != nil {
		return fail.Errorf(fail.Invalid, "read the form: %w", err)
	}
	return nil
}

// sent is a text of a form, with the line breaks of a file.
func sent(r *http.Request, name string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(r.PostFormValue(name), "\r\n", "\n"), "\ufffd")
}

// typed is what was typed.
func typed(r *http.Request) (e edited, err error) {
	e.text, e.key = sent(r, "text"), r.PostFormValue("key")
	base := r.PostFormValue("base")
	if r.PostFormValue("do") == "rebase" {
		base = r.PostFormValue("now")
	}
	e.base, err = numberOf("base", cmp.Or(base, "0"))
	return e, err
}

// check asks what an import would do, and finds the places of what is wrong.
func (v *view) check(ctx context.Context, e *edited) error {
	plan, err := v.api.ImportConfig(ctx, config.Import{Name: e.name(), Text: e.text, Base: e.base, Check: true})
	if err != nil {
		if e.findings = e.faults(err); len(e.findings) > 0 {
			if len(e.findings) == 1 {
				return fail.Errorf(fail.Invalid, "The configuration has a fault. Nothing was imported.")
			}
			return fail.Errorf(fail.Invalid, "The configuration has %d faults. Nothing was imported.", len(e.findings))
		}
		return v.meanwhile(ctx, e, err)
	}
	warnings := e.warnings()
	plan.Warnings = others(plan.Warnings, warnings)
	for _, w := range warnings {
		e.findings = append(e.findings, e.found(w.Place.Line, w.Place.Column, finding{field: w.Path, text: w.Text, warning: true}))
	}
	e.plan, e.checked, e.key = &plan, e.digest(), api.NewKey()
	return nil
}

// warnings are those about the text itself, which a check shows at their places.
func (e *edited) warnings() []config.Warning {
	_, _, all := config.Parse(e.name(), []byte(e.text), config.Options{AllowUndersized: true})
	return all
}

// others are the warnings that are not about the text.
func others(all []string, ofText []config.Warning) []string {
	return slices.DeleteFunc(all, func(s string) bool {
		return slices.ContainsFunc(ofText, func(w config.Warning) bool { return w.String() == s })
	})
}

// faults are those that the agent has refused the text for: it knows what is allowed there, and tells of many only the first.
func (e *edited) faults(refused error) (out []finding) {
	for _, small := range []bool{false, true} { // of a management VM for tests less is a fault: a part of what is one otherwise
		_, faults, _ := config.Parse(e.name(), []byte(e.text), config.Options{AllowUndersized: small})
		if len(faults) == 0 || !strings.Contains(refused.Error(), config.Faults(faults).Error()) {
			continue
		}
		for _, f := range faults {
			out = append(out, e.found(f.Place.Line, f.Place.Column, finding{field: f.Path, value: f.Value, text: f.Want}))
		}
		break
	}
	return out
}

// found is a finding with the lines around its place.
func (e *edited) found(line, column int, f finding) finding {
	const above, below = 2, 1
	f.line, f.column = line, column
	all := strings.Split(e.text, "\n")
	for n := max(1, line-above); line > 0 && n <= min(len(all), line+below); n++ {
		f.lines = append(f.lines, numbered{n, all[n-1], n == line})
	}
	return f
}

// meanwhile adds to a refusal what somebody else has changed since.
func (v *view) meanwhile(ctx context.Context, e *edited, refused error) error {
	var x *fail.Error
	if !errors.As(refused, &x) || x.Kind != fail.Refused {
		return refused
	}
	now, cl, err := revisionOf(ctx, v, 0)
	if err != nil || now.Number == e.base {
		return refused
	}
	e.now = now.Number
	if _, was, err := revisionOf(ctx, v, e.base); err == nil { // unless it is no longer kept
		e.others = config.Diff(was, cl)
	}
	return fail.Errorf(fail.Refused, "Nothing was imported: the configuration has been changed by %s since you began.",
		cmp.Or(now.User, "an agent")).
		With("see what is new below, change your text, and check it on the revision that is in force now")
}

// importConfiguration imports what was checked.
func (c *Console) importConfiguration(w http.ResponseWriter, r *http.Request, v *view, e edited) {
	done, err := v.api.ImportConfig(r.Context(), config.Import{Key: e.key, Name: e.name(), Text: e.text, Base: e.base})
	done.Warnings = others(done.Warnings, e.warnings())
	switch {
	case err != nil:
		err = v.meanwhile(r.Context(), &e, err)
		v.Fail(err)
		c.show(w, r, httpCode(err), whole(v, editor(v, e)))
	case len(done.Warnings) > 0:
		v.Title, v.At = v.T("It is imported"), configurationPage.path
		c.show(w, r, http.StatusOK, whole(v, imported(v, done)))
	default:
		http.Redirect(w, r, fmt.Sprintf("/configuration/revisions/%d", done.Number), http.StatusSeeOther)
	}
}

// by says who has made a revision, and when.
func by(v *view, r config.Revision) string {
	if r.Time.IsZero() { // nobody has imported it
		return v.T("put there by the installation")
	}
	return v.T("imported by " + told.Or(r.User, "unknown") + " on host " + told.Or(r.Host, "unknown") + " at " + told.WallClock(r.Time))
}

// rows is how high the editor is.
func rows(text string) string { return strconv.Itoa(min(max(strings.Count(text, "\n")+2, 16), 36)) }
