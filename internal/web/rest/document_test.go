package rest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/web/rest"
	"holdfast/testbed/try"
)

// document is what tests read of it.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Schema   schema
	}
	RequestBody struct {
		Content map[string]struct{ Schema schema }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Properties           map[string]schema
	Items                *schema
	AdditionalProperties json.RawMessage
}

func (x *site) document() document {
	x.t.Helper()
	a := x.ask("", "GET", "/api/openapi.json", "")
	a.want(x.t, 200, `"openapi": "3.1.0"`)
	var d document
	try.Must(x.t, json.Unmarshal([]byte(a.body), &d))
	return d
}

// resolve follows a name.
func (d document) resolve(s schema) schema {
	if name, is := strings.CutPrefix(s.Ref, "#/components/schemas/"); is {
		return d.Components.Schemas[name]
	}
	return s
}

// fits tells where a value has not the form of a schema.
func (d document) fits(at string, s schema, v any) (wrong []string) {
	s = d.resolve(s)
	is := func(ok bool) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %v, want %s", at, v, s.Type))
		}
	}
	switch s.Type {
	case "object":
		o, ok := v.(map[string]any)
		is(ok)
		var each schema
		more := json.Unmarshal(s.AdditionalProperties, &each) == nil
		for name, inner := range o {
			if p, known := s.Properties[name]; known {
				wrong = append(wrong, d.fits(at+"."+name, p, inner)...)
			} else if more {
				wrong = append(wrong, d.fits(at+"."+name, each, inner)...)
			} else {
				wrong = append(wrong, at+"."+name+": the document has no such field")
			}
		}
	case "array":
		l, ok := v.([]any)
		is(ok)
		for _, inner := range l {
			wrong = append(wrong, d.fits(at+"[]", *s.Items, inner)...)
		}
	case "string":
		_, ok := v.(string)
		is(ok)
	case "boolean":
		_, ok := v.(bool)
		is(ok)
	case "integer", "number":
		_, ok := v.(float64)
		is(ok)
	}
	return wrong
}

// TestAnswersAreAsTheDocumentSays: it has all resources, each once, and answers have its forms.
func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	x := newSite(t)
	d, ids := x.document(), map[string]bool{}
	x.cluster.Log(cluster.Event{Kind: cluster.EvRefused, Detail: "x", User: "y"})
	n := 0
	for _, r := range rest.Routes() {
		op, is := d.Paths[r.Path][strings.ToLower(r.Method)]
		if !is || ids[op.OperationID] || op.OperationID == "" {
			t.Errorf("%s %s: %+v", r.Method, r.Path, op)
		}
		ids[op.OperationID] = true
		content := op.Responses["200"].Content["application/json"]
		if r.Method != "GET" || content.Schema.Type == "" && content.Schema.Ref == "" {
			continue
		}
		path := strings.NewReplacer("{host}", "node2", "{id}", "none", "{name}", "none", "{number}", "1").Replace(r.Path)
		a := x.ask(cluster.Admin, "GET", path, "")
		if a.code != 200 {
			continue
		}
		n++
		var v any
		try.Must(t, json.Unmarshal([]byte(a.body), &v))
		for _, wrong := range d.fits(r.Path, content.Schema, v) {
			t.Error(wrong)
		}
	}
	if n < 12 {
		t.Errorf("only %d answers were looked at", n)
	}
	var v any
	try.Must(t, json.Unmarshal([]byte(x.ask(cluster.Admin, "GET", "/api/v1/hosts?limit=1", "").body), &v))
	for _, wrong := range d.fits("a page", d.Components.Schemas["ListHostsResponse"], v) {
		t.Error(wrong)
	}
	for path := range d.Paths {
		if !slices.ContainsFunc(rest.Routes(), func(r rest.Route) bool { return r.Path == path }) {
			t.Errorf("%s: there is no such resource", path)
		}
	}
}

// values are wrong, or at the edge, for a field of a type.
func values(s schema) (wrong, edge []string) {
	wrong = []string{`null`, `1e400`, `{"a":{}}`, `[[]]`, `tru`}
	switch s.Type {
	case "string":
		wrong, edge = append(wrong, `1`, `true`), []string{`""`, `"\u0000"`, `"../../etc"`, `"` + strings.Repeat("x", 5000) + `"`, `"\ud800"`}
	case "boolean":
		wrong, edge = append(wrong, `1`, `"true"`), []string{`true`}
	case "integer":
		wrong = append(wrong, `1.5`, `"1"`, `99999999999999999999999999`, `true`, `1e5`)
		edge = []string{`0`, `-1`, `2147483647`, `-9223372036854775808`}
	case "array":
		wrong, edge = []string{`{}`, `1`, `null`, `["a",{"b":[]},3]`}, []string{`[]`}
	case "object":
		wrong, edge = []string{`[]`, `1`, `"x"`, `null`}, []string{`{}`}
	default: // any JSON
		wrong = []string{`tru`, `{`}
	}
	return wrong, edge
}

// TestNothingThatIsSentBreaksIt sends to every operation of the document what does not fit: it is refused as wrong, with what
// is wanted, and nothing fails.
func TestNothingThatIsSentBreaksIt(t *testing.T) {
	x := newSite(t)
	d := x.document()
	check := func(what string, a answer, refused bool) {
		t.Helper()
		if a.code >= 500 || a.code < 200 || refused && (a.code < 400 || !strings.Contains(a.body, `"message"`)) {
			t.Errorf("%s: %d: %.300s", what, a.code, a.body)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for method, op := range d.Paths[path] {
			method := strings.ToUpper(method)
			at := strings.NewReplacer("{host}", "node2", "{id}", "none", "{name}", "none", "{number}", "1").Replace(path)
			body := map[bool]string{true: "{}"}[method != "GET" && method != "DELETE"]
			for _, odd := range []string{"%00", "%2e%2e", "x%2fy", strings.Repeat("x", 4000), "99999999999999999999", "%ff", "{host}"} {
				if strings.Contains(path, "{") {
					p := at
					for _, name := range []string{"/node2", "/none", "/1"} {
						p = strings.Replace(p, name, "/"+odd, 1)
					}
					check(method+" "+p, x.ask(cluster.Admin, method, p, body), false)
				}
			}
			check(method+" "+at+"?", x.ask(cluster.Admin, method, at+"?no_such=1", body), true)
			check(method+" "+at+"%", x.ask(cluster.Admin, method, at+"?a=%zz", body), true)
			for _, p := range op.Parameters {
				if p.In != "query" {
					continue
				}
				for _, v := range []string{"", "x", "-1", "1.5", "1e9", "99999999999999999999", "null", strings.Repeat("9", 4000)} {
					_, isText := map[string]bool{"string": true}[p.Schema.Type]
					query := "?" + p.Name + "=" + url.QueryEscape(v)
					check(method+" "+at+query, x.ask(cluster.Admin, method, at+query, body), !isText && v != "-1")
				}
				twice := "?" + p.Name + "=1&" + p.Name + "=1"
				check(method+" "+at+twice, x.ask(cluster.Admin, method, at+twice, body), true)
			}
			content, has := op.RequestBody.Content["application/json"]
			if !has {
				check(method+" "+at+" with a body", x.ask(cluster.Admin, method, at, `{"a":1}`), method != "GET")
				continue
			}
			for _, bad := range []string{`[]`, `1`, `nul`, `{`, `{"a"`, `{}{}`, `{"no_such_field":1}`, strings.Repeat("[", 50_000), `{"":`, "\xff"} {
				check(fmt.Sprintf("%s %s %.40s", method, at, bad), x.ask(cluster.Admin, method, at, bad), true)
			}
			check("form", x.ask(cluster.Admin, method, at, "a=1", "Content-Type", "application/x-www-form-urlencoded"), true)
			check("gzip", x.ask(cluster.Admin, method, at, "{}", "Content-Encoding", "gzip"), true)
			x.walk(d, d.resolve(content.Schema), "", 2, func(bad string, refused bool) {
				check(fmt.Sprintf("%s %s %.100s", method, at, bad), x.ask(cluster.Admin, method, at, bad), refused)
			})
		}
	}
}

// walk makes bodies with one field that is wrong or odd, some levels deep. around is what is before it.
func (x *site) walk(d document, s schema, around string, deep int, each func(body string, refused bool)) {
	end := strings.Repeat("}", strings.Count(around, "{")+1)
	for name, p := range s.Properties {
		p = d.resolve(p)
		begin := around + fmt.Sprintf("{%q:", name)
		wrong, edge := values(p)
		for _, v := range wrong {
			each(begin+v+end, true)
		}
		for _, v := range edge {
			each(begin+v+end, false)
		}
		if deep > 1 && p.Type == "object" && p.Properties != nil {
			x.walk(d, p, begin, deep-1, each)
		}
	}
}
