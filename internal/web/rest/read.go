package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
)

// read reads a message. What it does not know is an error, and memory is taken only for what fits.
func read(data []byte, m protoreflect.Message) error {
	r := reader{json.NewDecoder(bytes.NewReader(data))}
	r.UseNumber()
	err := r.message(m, "")
	if err == nil {
		if _, more := r.Token(); !errors.Is(more, io.EOF) {
			err = invalid("the body", "it goes on after its end", "one object")
		}
	}
	return err
}

// invalid is an error of a field.
func invalid(field, got, want string) error {
	e := fail.Errorf(fail.Invalid, "%s: %.70s: want %s", field, got, want)
	return connect.NewError(connect.CodeInvalidArgument, e)
}

type reader struct{ *json.Decoder }

// next reads a token.
func (r reader) next(field, want string) (json.Token, error) {
	t, err := r.Token()
	if err != nil {
		return nil, invalid(orBody(field), "no JSON: "+err.Error(), want)
	}
	return t, nil
}

func orBody(field string) string {
	if field == "" {
		return "the body"
	}
	return field
}

// target is a field that a name stands for, with the way to it through fields that stand in place.
type target struct {
	way  []protoreflect.FieldDescriptor
	last protoreflect.FieldDescriptor
	form api.Form
}

func find(d protoreflect.MessageDescriptor, name string, way []protoreflect.FieldDescriptor) (target, bool) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		form := formOf(f)
		if form.Kind == api.FormInline {
			if t, found := find(f.Message(), name, append(way, f)); found {
				return t, true
			}
		} else if form.Name == name {
			return target{way, f, form}, true
		}
	}
	return target{}, false
}

// message reads an object.
func (r reader) message(m protoreflect.Message, field string) error {
	t, err := r.next(field, "an object")
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return invalid(orBody(field), shown(t), "an object")
	}
	return r.object(field, func(name, path string) error {
		to, found := find(m.Descriptor(), name, nil)
		if !found {
			return invalid(path, "there is no such field", "one of the document at "+DocumentPath)
		}
		into := m
		for _, f := range to.way {
			into = into.Mutable(f).Message()
		}
		return r.field(into, to, path)
	})
}

// object reads the rest of an object, and has each handle the value of a name.
func (r reader) object(field string, each func(name, path string) error) error {
	for r.More() {
		t, err := r.next(field, "a name")
		if err != nil {
			return err
		}
		name, is := t.(string)
		if !is {
			return invalid(orBody(field), shown(t), "a name")
		}
		path := name
		if field != "" {
			path = field + "." + name
		}
		if len(path) > 100 {
			path = path[:100]
		}
		if err := each(name, path); err != nil {
			return err
		}
	}
	_, err := r.next(field, "the end of an object")
	return err
}

func (r reader) field(m protoreflect.Message, to target, path string) error {
	f := to.last
	if to.form.Kind == api.FormJSON {
		var raw json.RawMessage
		if err := r.Decode(&raw); err != nil {
			return invalid(path, "no JSON: "+err.Error(), "JSON")
		}
		if f.Kind() == protoreflect.BytesKind {
			m.Set(f, protoreflect.ValueOfBytes(raw))
		} else {
			m.Set(f, protoreflect.ValueOfString(string(raw)))
		}
		return nil
	}
	if message := f.Message() != nil && !f.IsList() && !f.IsMap() && to.form.Kind != api.FormText; message {
		return r.message(m.Mutable(f).Message(), path)
	}
	t, err := r.next(path, wanted(f, to.form))
	if err != nil {
		return err
	}
	switch {
	case f.IsMap():
		return r.entries(m.Mutable(f).Map(), f, t, path)
	case f.IsList():
		return r.list(m.Mutable(f).List(), f, to.form, t, path)
	}
	v, err := scalar(f, to.form, t, path)
	if err == nil {
		m.Set(f, v)
	}
	return err
}

func (r reader) entries(into protoreflect.Map, f protoreflect.FieldDescriptor, t json.Token, path string) error {
	if t != json.Delim('{') {
		return invalid(path, shown(t), "an object")
	}
	return r.object(path, func(name, path string) error {
		v := into.NewValue()
		if f.MapValue().Message() != nil {
			if err := r.message(v.Message(), path); err != nil {
				return err
			}
		} else {
			t, err := r.next(path, wanted(f.MapValue(), api.Form{}))
			if err == nil {
				v, err = scalar(f.MapValue(), api.Form{}, t, path)
			}
			if err != nil {
				return err
			}
		}
		into.Set(protoreflect.ValueOfString(name).MapKey(), v)
		return nil
	})
}

func (r reader) list(into protoreflect.List, f protoreflect.FieldDescriptor, form api.Form, t json.Token, path string) error {
	if t != json.Delim('[') {
		return invalid(path, shown(t), "a list")
	}
	for i := 0; r.More(); i++ {
		at := path + "[" + strconv.Itoa(i) + "]"
		if err := r.element(into, f, form, at); err != nil {
			return err
		}
	}
	_, err := r.next(path, "the end of a list")
	return err
}

func (r reader) element(into protoreflect.List, f protoreflect.FieldDescriptor, form api.Form, at string) error {
	if f.Message() != nil && form.Kind != api.FormLists {
		return r.message(into.AppendMutable().Message(), at)
	}
	t, err := r.next(at, wanted(f, api.Form{}))
	if err != nil {
		return err
	}
	if form.Kind == api.FormLists {
		inner := into.AppendMutable().Message()
		only := inner.Descriptor().Fields().Get(0)
		return r.list(inner.Mutable(only).List(), only, api.Form{}, t, at)
	}
	v, err := scalar(f, api.Form{}, t, at)
	if err == nil {
		into.Append(v)
	}
	return err
}

// scalar is a value that is neither a list nor an object.
func scalar(f protoreflect.FieldDescriptor, form api.Form, t json.Token, path string) (protoreflect.Value, error) {
	text, isText := t.(string)
	number, isNumber := t.(json.Number)
	bad := func(err error) (protoreflect.Value, error) {
		want := wanted(f, form)
		if form.Kind == api.FormText && err != nil {
			return protoreflect.Value{}, invalid(path, shown(t), "what "+f.JSONName()+" may be: "+err.Error())
		}
		return protoreflect.Value{}, invalid(path, shown(t), want)
	}
	switch kind := f.Kind(); {
	case form.Kind == api.FormText && isText:
		if v, err := form.Read(text); err == nil {
			return v, nil
		} else {
			return bad(err)
		}
	case form.Kind == api.FormTime && isText:
		if at, err := time.Parse(time.RFC3339Nano, text); err == nil && at.Year() > 1677 && at.Year() < 2262 {
			return protoreflect.ValueOfInt64(at.UnixNano()), nil
		}
	case form.Kind != api.FormPlain:
	case kind == protoreflect.StringKind && isText:
		return protoreflect.ValueOfString(text), nil
	case kind == protoreflect.BytesKind && isText:
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return protoreflect.ValueOfBytes(b), nil
		}
	case kind == protoreflect.BoolKind:
		if b, is := t.(bool); is {
			return protoreflect.ValueOfBool(b), nil
		}
	case isNumber:
		return numeric(f, number.String(), bad)
	}
	return bad(nil)
}

// numeric is a number of a field.
func numeric(f protoreflect.FieldDescriptor, text string, bad func(error) (protoreflect.Value, error)) (protoreflect.Value, error) {
	switch f.Kind() {
	case protoreflect.Int32Kind:
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			return protoreflect.ValueOfInt32(int32(n)), nil
		}
	case protoreflect.Int64Kind:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return protoreflect.ValueOfInt64(n), nil
		}
	case protoreflect.Uint64Kind:
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return protoreflect.ValueOfUint64(n), nil
		}
	case protoreflect.DoubleKind:
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return protoreflect.ValueOfFloat64(x), nil
		}
	}
	return bad(nil)
}

// wanted says what a field takes.
func wanted(f protoreflect.FieldDescriptor, form api.Form) string {
	switch {
	case form.Kind == api.FormTime:
		return "a time such as 2026-01-31T12:00:00Z"
	case form.Kind == api.FormText:
		return "a text"
	case f.IsMap():
		return "an object"
	case f.IsList():
		return "a list"
	}
	return map[protoreflect.Kind]string{
		protoreflect.StringKind: "a text", protoreflect.BytesKind: "a text in base64", protoreflect.BoolKind: "true or false",
		protoreflect.Int32Kind: "a whole number of 32 bits", protoreflect.Int64Kind: "a whole number of 64 bits",
		protoreflect.Uint64Kind: "a whole number of 64 bits, 0 or more", protoreflect.DoubleKind: "a number",
		protoreflect.MessageKind: "an object",
	}[f.Kind()]
}

// shown is a token for people.
func shown(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return map[json.Delim]string{'{': "an object", '[': "a list", '}': "the end of an object", ']': "the end of a list"}[t]
	case string:
		return strconv.Quote(t)
	case json.Number:
		return t.String()
	case bool:
		return strconv.FormatBool(t)
	}
	return "null"
}
