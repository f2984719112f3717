package web

import (
	"context"

	"github.com/a-h/templ"

	"holdfast/internal/web/rest"
)

// referencePage shows the API for programs.
var referencePage = &page{path: "/reference", title: "API for programs", still: true, in: helpPage, help: "api",
	part: func(_ context.Context, v *view) (templ.Component, error) { return reference(v, rest.Resources()), nil }}
