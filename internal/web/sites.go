package web

import (
	"context"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/transition"
)

// sitesPage shows how the transitions of other clusters stand.
var sitesPage = &page{path: sitesPath, title: "Sites", in: transitionPage, least: cluster.Operator, works: true,
	help: "transition", part: sitesPart}

func sitesPart(ctx context.Context, v *view) (templ.Component, error) {
	s, err := v.api.Sites(ctx)
	if err != nil {
		return nil, err
	}
	return sitesTable(v, s, time.Now()), nil
}

// sitesHead is the sentence on all of them.
func sitesHead(v *view, all []transition.SiteState) string {
	var needs, silent, done int
	for _, s := range all {
		switch {
		case s.State == transition.SiteUnknown:
			silent++
		case s.Needs:
			needs++
		case s.State == "done":
			done++
		}
	}
	switch {
	case silent > 0:
		return v.T("Sites without an answer: " + count(silent) + " of " + count(len(all)))
	case needs > 0:
		return v.T("Sites that need you: " + count(needs) + " of " + count(len(all)))
	}
	return v.T("Sites that are done: " + count(done) + " of " + count(len(all)))
}

// siteTone is the state of a site.
func siteTone(s transition.SiteState) told.Cell {
	c := told.Cell{Text: told.Clean(s.State), Tone: told.Warn}
	switch {
	case s.Needs:
		c.Tone = told.Bad
	case s.State == "done":
		c.Tone = told.Good
	case s.State == transition.SiteNone, s.At.IsZero():
		c.Tone = told.Plain
	}
	return c
}

// siteOver is how much of a site's transition is done, 0 to 100.
func siteOver(s transition.SiteState) int {
	if s.State == string(job.Done) {
		return 100
	}
	return s.Over * 100 / max(1, s.Steps)
}
