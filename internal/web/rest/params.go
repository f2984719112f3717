package rest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/lib/fail"
)

// params sets the fields of a request that stand in its path and in its query.
func (c *call) params(r *http.Request, m protoreflect.Message) error {
	if c.body == "" && r.ContentLength != 0 {
		return fail.Errorf(fail.Invalid, "the body: %s %s takes none", c.route.method, root+c.route.path)
	}
	values := c.path.FindStringSubmatch(r.URL.Path)
	for i, name := range c.inPath() {
		if err := param(m, m.Descriptor().Fields().ByName(protoreflect.Name(name)), values[i+1]); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fail.Errorf(fail.Invalid, "the query: %w", err)
	}
	for _, f := range c.inQuery(c.match.method) {
		name := string(f.Name())
		values := query[name]
		delete(query, name)
		if len(values) > 1 {
			return fail.Errorf(fail.Invalid, "%s in the query: it is there %d times: want one", name, len(values))
		}
		if len(values) == 1 {
			if err := param(m, m.Descriptor().Fields().ByName(f.Name()), values[0]); err != nil {
				return err
			}
		}
	}
	for name := range query {
		return fail.Errorf(fail.Invalid, "%.70q in the query: there is no such parameter", name).With("see: " + DocumentPath)
	}
	return nil
}

// param sets one field by its text.
func param(m protoreflect.Message, f protoreflect.FieldDescriptor, text string) error {
	if !utf8.ValidString(text) {
		return fail.Errorf(fail.Invalid, "%s: %.70q: want UTF-8", f.Name(), text)
	}
	var t json.Token = json.Number(text) // what is no number is refused as one
	switch {
	case f.Kind() == protoreflect.StringKind:
		t = text
	case f.Kind() == protoreflect.BoolKind && (text == "true" || text == "false"):
		t = text == "true"
	}
	v, err := scalar(f, formOf(f), t, string(f.Name()))
	if err == nil {
		m.Set(f, v)
	}
	return err
}
