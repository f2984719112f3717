package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
)

// Parameters of lists.
const (
	limitParameter = "limit"
	pageParameter  = "page"
	nextField      = "next_page"
	maxPage        = 1000
)

// listOf is the field of an answer that is a list of objects, and the field that tells them apart; nil: it is no list.
func listOf(r route, m protoreflect.MethodDescriptor) (list, id protoreflect.FieldDescriptor) {
	if r.method != http.MethodGet || r.answer != "" || m.IsStreamingServer() {
		return nil, nil
	}
	fields := m.Output().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList() && f.Message() != nil && list == nil:
			list = f
		case f.Name() != "next":
			return nil, nil
		}
	}
	if list != nil {
		id = list.Message().Fields().Get(0)
	}
	return list, id
}

// filters are the fields of a list's objects by whose values they can be chosen.
func filters(r route, m protoreflect.MethodDescriptor) []protoreflect.FieldDescriptor {
	list, _ := listOf(r, m)
	if list == nil {
		return nil
	}
	var out []protoreflect.FieldDescriptor
	fields := list.Message().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		plain := formOf(f).Kind == api.FormPlain && !f.IsList() && !f.IsMap()
		if plain && (f.Kind() == protoreflect.StringKind || f.Kind() == protoreflect.BoolKind) {
			out = append(out, f)
		}
	}
	return out
}

// paged reports whether a list is cut into pages here, and not by its call.
func paged(r route, m protoreflect.MethodDescriptor) bool {
	list, _ := listOf(r, m)
	return list != nil && m.Input().Fields().ByName(limitParameter) == nil
}

func listParameters(r route, m protoreflect.MethodDescriptor) []object {
	var out []object
	if paged(r, m) {
		out = append(out,
			object{"name": limitParameter, "in": "query", "schema": object{"type": "integer", "minimum": 1, "maximum": maxPage},
				"description": "How many there are in an answer at most; without it, all."},
			object{"name": pageParameter, "in": "query", "schema": object{"type": "string"},
				"description": nextField + " of the answer before."})
	}
	for _, f := range filters(r, m) {
		kind := map[bool]string{true: "boolean", false: "string"}[f.Kind() == protoreflect.BoolKind]
		out = append(out, object{"name": formOf(f).Name, "in": "query", "schema": object{"type": kind},
			"description": "Only those that have this value."})
	}
	return out
}

// selection is what a request wants of a list.
type selection struct {
	list, id protoreflect.FieldDescriptor
	limit    int // 0: all
	after    string
	values   map[string]string // by field, as JSON has them
}

// takeSelection takes the parameters of a list out of a query; nil: the answer is no list.
func takeSelection(c *call, query url.Values) (*selection, error) {
	s := &selection{values: map[string]string{}}
	s.list, s.id = listOf(c.route, c.match.method)
	if s.list == nil {
		return nil, nil
	}
	take := func(name string) (string, bool, error) {
		values := query[name]
		delete(query, name)
		if len(values) > 1 {
			return "", false, fail.Errorf(fail.Invalid, "%s in the query: it is there %d times: want one", name, len(values))
		}
		return append(values, "")[0], len(values) == 1, nil
	}
	for _, f := range filters(c.route, c.match.method) {
		name := formOf(f).Name
		value, is, err := take(name)
		if err != nil {
			return nil, err
		}
		if f.Kind() == protoreflect.BoolKind && is && value != "true" && value != "false" {
			return nil, fail.Errorf(fail.Invalid, "%s: %.70q: want true or false", name, value)
		}
		if is {
			s.values[name] = value
		}
	}
	if !paged(c.route, c.match.method) {
		return s, nil
	}
	limit, is, err := take(limitParameter)
	if err != nil {
		return nil, err
	}
	if n, nerr := strconv.Atoi(limit); is && (nerr != nil || n < 1 || n > maxPage) {
		return nil, fail.Errorf(fail.Invalid, "%s: %.70q: want 1 to %d", limitParameter, limit, maxPage)
	} else if is {
		s.limit = n
	}
	s.after, _, err = take(pageParameter)
	return s, err
}

// of is what the selection has of an answer in JSON.
func (s *selection) of(body []byte) ([]byte, error) {
	if s == nil || s.limit == 0 && s.after == "" && len(s.values) == 0 {
		return body, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	name := formOf(s.list).Name
	var objects []json.RawMessage
	if err := json.Unmarshal(all[name], &objects); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	out, found := []json.RawMessage{}, s.after == ""
	for _, o := range objects {
		var fields map[string]any
		if err := json.Unmarshal(o, &fields); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		id := fmt.Sprint(fields[formOf(s.id).Name])
		switch {
		case !found:
			found = id == s.after
		case !s.has(fields):
		case s.limit > 0 && len(out) == s.limit:
			last := map[string]any{}
			if err := json.Unmarshal(out[len(out)-1], &last); err != nil {
				return nil, fmt.Errorf("read the answer: %w", err)
			}
			next, err := json.Marshal(fmt.Sprint(last[formOf(s.id).Name]))
			if err != nil {
				return nil, err
			}
			all[nextField] = next
			return s.with(all, name, out)
		default:
			out = append(out, o)
		}
	}
	if !found {
		return nil, fail.Errorf(fail.Refused, "%s: %.70q: it is not there any more", pageParameter, s.after).With("begin with the first page")
	}
	return s.with(all, name, out)
}

func (s *selection) with(all map[string]json.RawMessage, name string, out []json.RawMessage) ([]byte, error) {
	list, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	all[name] = list
	return json.Marshal(all)
}

// has reports whether an object has the values that are asked for. A field that is left out is empty, or false.
func (s *selection) has(fields map[string]any) bool {
	for name, want := range s.values {
		got, there := fields[name]
		text := fmt.Sprint(got)
		if !there {
			text = ""
		}
		if text != want && !(!there && want == "false") {
			return false
		}
	}
	return true
}
