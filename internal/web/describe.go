package web

import (
	"context"
	"net/http"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
)

// Pages on which a transition is described: as text, and as a form.
var (
	describePage = &page{path: describePath, title: "Describe a transition", in: transitionPage, least: cluster.Admin, works: true,
		still: true, help: "transition#the-file", part: describePart}
	transitionFormPage = &page{path: formPath, title: "Describe a transition", in: transitionPage, least: cluster.Admin, works: true,
		still: true, help: "transition#its-fields", part: formPart}
)

// errLongFile is what a form is refused with that has a larger file.
var errLongFile = fail.Errorf(fail.Invalid, "text: want at most %d bytes", transition.MaxFile)

// described is the file of a transition as it stands in the editor.
type described struct {
	edited
	preview *transition.Preview // what a run would do; nil: it has not been checked, or has faults
}

// describePart is the editor, empty.
func describePart(_ context.Context, v *view) (templ.Component, error) {
	return describeEditor(v, &described{}), nil
}

// describe checks what was typed, or begins it: only what was checked as it is.
func (c *Console) describe(w http.ResponseWriter, r *http.Request, v *view) {
	if err := c.editing(r, v, describePage, errLongFile); err != nil {
		c.fails(w, r, err)
		return
	}
	d := &described{edited: edited{text: sent(r, "text")}}
	code := http.StatusOK
	var err error
	switch begin := r.PostFormValue("do") == "begin"; {
	case r.PostFormValue("do") == "form":
		c.formOf(w, r, v, d)
		return
	case begin && r.PostFormValue("checked") == d.digest():
		if _, err = v.api.RunTransition(r.Context(), []byte(d.text)); err == nil {
			http.Redirect(w, r, transitionPath, http.StatusSeeOther)
			return
		}
	default:
		if begin {
			d.note = v.T("The text is not the one that was checked. It has been checked now, and nothing was begun.")
		}
		err = v.preview(r.Context(), d)
	}
	if err != nil {
		v.Fail(err)
		code = httpCode(err)
	}
	c.show(w, r, code, whole(v, describeEditor(v, d)))
}

// preview asks what a run would do, and finds the places of what is wrong.
func (v *view) preview(ctx context.Context, d *described) error {
	p, err := v.api.PlanTransition(ctx, []byte(d.text))
	if err != nil {
		return err
	}
	for _, f := range p.Faults {
		d.findings = append(d.findings, d.found(f.Line, f.Column, finding{field: f.Path, value: f.Value, text: f.Want}))
	}
	switch len(p.Faults) {
	case 0:
		d.preview, d.checked = &p, d.digest()
		return nil
	case 1:
		return fail.Errorf(fail.Invalid, "The file has a fault. Nothing was begun.")
	}
	return fail.Errorf(fail.Invalid, "The file has %d faults. Nothing was begun.", len(p.Faults))
}

// lineOf is a command as a shell takes it.
func lineOf(s transition.PreviewStep) string { return told.Clean(transition.Line(s.Run)) }
