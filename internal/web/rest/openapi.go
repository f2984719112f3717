package rest

import (
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	"holdfast/internal/server"
)

//go:embed comments.json
var commentsText []byte

// comments are those of the .proto files, by the full names of what they are about.
var comments = sync.OnceValue(func() map[protoreflect.FullName]string {
	out := map[protoreflect.FullName]string{}
	if err := json.Unmarshal(commentsText, &out); err != nil {
		panic("rest: comments.json: " + err.Error())
	}
	return out
})

func comment(name protoreflect.FullName) string { return comments()[name] }

// object is one of JSON.
type object = map[string]any

// makeDocument makes the document of the API, OpenAPI 3.1.
func makeDocument() []byte {
	d := &documented{schemas: object{"Error": errorSchema}}
	paths := object{}
	all, seen := methods(), map[string]bool{}
	for _, r := range routes {
		at, is := paths[root+r.path].(object)
		if !is {
			at = object{}
			paths[root+r.path] = at
		}
		at[strings.ToLower(r.method)] = d.operation(r, all[r.procedure], seen[r.procedure])
		seen[r.procedure] = true
	}
	out, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Holdfast", "version": "v1",
			"description": "The API of a Holdfast agent as resources. Each is a call of the Connect API. Fields are only ever added.",
		},
		"servers":  []object{{"url": "/", "description": "the console of any host"}},
		"security": []object{{"token": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas":         d.schemas,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "made by: holdfast token create"}},
		},
	}, "", " ")
	if err != nil {
		panic("rest: " + err.Error())
	}
	return slices.Clip(out) // each answer appends to it
}

var errorSchema = object{"type": "object", "properties": object{"error": object{"type": "object", "properties": object{
	"code":    object{"type": "string", "description": "as in the Connect API, such as invalid_argument"},
	"message": object{"type": "string", "description": "what was tried, and what came of it"},
	"remedy":  object{"type": "string", "description": "what the caller can do"},
}, "required": []string{"code", "message"}}}, "required": []string{"error"}}

// documented collects the schemas that operations name.
type documented struct{ schemas object }

// operation is one of a path. again says that its procedure has another one before it.
func (d *documented) operation(r route, m protoreflect.MethodDescriptor, again bool) object {
	text := about(m)
	role, _ := server.LeastRole(r.procedure)
	summary, _, _ := strings.Cut(text, ". ")
	id := string(m.Name())
	if again {
		field := r.inPath()[0]
		id += "By" + strings.ToUpper(field[:1]) + field[1:]
	}
	out := object{
		"operationId": id, "summary": strings.TrimSuffix(summary, "."), "description": text,
		"tags": []string{strings.TrimSuffix(string(m.Parent().Name()), "Service")}, "x-role": string(role),
		"responses": d.responses(r, m),
	}
	if ps := d.parameters(r, m); len(ps) > 0 {
		out["parameters"] = ps
	}
	if body := d.body(r, m); body != nil {
		out["requestBody"] = object{"content": object{"application/json": object{"schema": body}}}
	}
	return out
}

// about is what a procedure does, in words without its name.
func about(m protoreflect.MethodDescriptor) string {
	text := strings.TrimPrefix(comment(m.FullName()), string(m.Name())+" ")
	if text == "" {
		return string(m.Name())
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func (d *documented) parameters(r route, m protoreflect.MethodDescriptor) []object {
	var out []object
	for _, name := range r.inPath() {
		f := m.Input().Fields().ByName(protoreflect.Name(name))
		out = append(out, object{"name": name, "in": "path", "required": true, "schema": d.field(f, api.Form{}),
			"description": comment(f.FullName())})
	}
	for _, f := range r.inQuery(m) {
		out = append(out, object{"name": string(f.Name()), "in": "query", "schema": d.field(f, api.Form{}),
			"description": comment(f.FullName())})
	}
	out = append(out, listParameters(r, m)...)
	if m.Input().Fields().ByName(keyField) != nil {
		out = append(out, object{"name": keyHeader, "in": "header", "schema": object{"type": "string", "maxLength": 64},
			"description": "A request repeated under the same key is carried out once. 1 to 64 printable ASCII characters without blanks."})
	}
	if r.method == "GET" && !m.IsStreamingServer() {
		out = append(out, object{"name": "If-None-Match", "in": "header", "schema": object{"type": "string"},
			"description": "The ETag of an answer that the caller has: 304 when it is still the same."})
	}
	return out
}

// body is what a request's body is; nil: it has none.
func (d *documented) body(r route, m protoreflect.MethodDescriptor) object {
	switch r.body {
	case "":
		return nil
	case "*":
	default:
		return d.ref(m.Input().Fields().ByName(protoreflect.Name(r.body)).Message())
	}
	properties := object{}
	for i := range m.Input().Fields().Len() {
		f := m.Input().Fields().Get(i)
		if !slices.Contains(r.inPath(), string(f.Name())) {
			d.property(properties, f)
		}
	}
	return object{"type": "object", "properties": properties, "additionalProperties": false}
}

func (d *documented) responses(r route, m protoreflect.MethodDescriptor) object {
	schema := d.ref(m.Output())
	if paged(r, m) {
		d.schemas[nameOf(m.Output())].(object)["properties"].(object)[nextField] = object{"type": "string",
			"description": "the value of " + pageParameter + " for the next page; absent: there is none"}
	}
	if f := m.Output().Fields().ByName(protoreflect.Name(r.answer)); f != nil {
		schema = d.field(f, formOf(f))
	}
	in := func(kind string, schema object) object { return object{kind: object{"schema": schema}} }
	failed := object{"description": "It failed.", "content": in("application/json", object{"$ref": "#/components/schemas/Error"})}
	if m.IsStreamingServer() {
		return object{"default": failed, "200": object{
			"description": "Server-Sent Events: the data of each is JSON of this form. One of the type error has the form Error, " +
				"and is the last.",
			"content": in("text/event-stream", schema),
		}}
	}
	out := object{"default": failed, "200": object{"description": "It is done.", "content": in("application/json", schema)}}
	if r.method == "GET" {
		out["200"].(object)["headers"] = object{"ETag": object{"schema": object{"type": "string"}}}
		out["304"] = object{"description": "It is what If-None-Match names."}
	}
	return out
}

// ref names the schema of a message, which it makes when it is not there.
func (d *documented) ref(m protoreflect.MessageDescriptor) object {
	name := nameOf(m)
	if d.schemas[name] == nil {
		properties := object{}
		schema := object{"type": "object", "properties": properties}
		if text := comment(m.FullName()); text != "" {
			schema["description"] = text
		}
		d.schemas[name] = schema
		d.properties(properties, m)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// nameOf is the name of a message's schema.
func nameOf(m protoreflect.MessageDescriptor) string {
	return strings.TrimPrefix(string(m.FullName()), "holdfast.v1.")
}

// properties adds the fields of a message.
func (d *documented) properties(to object, m protoreflect.MessageDescriptor) {
	for i := range m.Fields().Len() {
		d.property(to, m.Fields().Get(i))
	}
}

func (d *documented) property(to object, f protoreflect.FieldDescriptor) {
	form := formOf(f)
	if form.Kind == api.FormInline {
		d.properties(to, f.Message())
		return
	}
	schema := d.field(f, form)
	text := comment(f.FullName())
	if form.Kind == api.FormTime {
		text = strings.Trim(number.ReplaceAllString(text, ""), " ,;")
	}
	if text != "" {
		schema["description"] = text
	}
	to[form.Name] = schema
}

// number is what a comment says of a time as it is in the message, where it is a number.
var number = regexp.MustCompile(`since 1970-01-01 UTC|, as all times here|; 0: [a-z ]*`)

// field is the schema of a field.
func (d *documented) field(f protoreflect.FieldDescriptor, form api.Form) object {
	switch {
	case form.Kind == api.FormTime:
		return object{"type": "string", "format": "date-time"}
	case form.Kind == api.FormJSON:
		return object{}
	case form.Kind == api.FormText:
		return object{"type": "string"}
	case form.Kind == api.FormLists:
		return object{"type": "array", "items": d.field(f.Message().Fields().Get(0), api.Form{})}
	case f.IsMap():
		return object{"type": "object", "additionalProperties": d.single(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": d.single(f)}
	}
	return d.single(f)
}

func (d *documented) single(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return d.ref(f.Message())
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.Int32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.Int64Kind:
		return object{"type": "integer", "format": "int64"}
	case protoreflect.Uint64Kind:
		return object{"type": "integer", "format": "int64", "minimum": 0}
	}
	return object{"type": "string"}
}
