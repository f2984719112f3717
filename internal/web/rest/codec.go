package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
)

// codec is JSON with the names and forms of the command line's -o json. That of protojson has others: numbers of 64 bits
// as texts, times as numbers, and levels that only the wire has.
type codec struct{}

var _ vanguard.RESTCodec = codec{}

// Name is that of JSON.
func (codec) Name() string { return vanguard.CodecJSON }

// MarshalAppend writes a message.
func (codec) MarshalAppend(base []byte, m proto.Message) ([]byte, error) {
	if m.ProtoReflect().Descriptor().FullName() == "google.rpc.Status" { // an error, which answer.go reads
		return protojson.MarshalOptions{}.MarshalAppend(base, m)
	}
	var w writer
	err := w.message(m.ProtoReflect())
	return append(base, w.Bytes()...), err
}

// Unmarshal reads a message.
func (codec) Unmarshal(data []byte, m proto.Message) error { return read(data, m.ProtoReflect()) }

// MarshalAppendField writes one field.
func (codec) MarshalAppendField(base []byte, m proto.Message, f protoreflect.FieldDescriptor) ([]byte, error) {
	var w writer
	err := w.field(f, api.Forms(f.ContainingMessage())[f.Name()], m.ProtoReflect().Get(f))
	return append(base, w.Bytes()...), err
}

// UnmarshalField reads one field.
func (codec) UnmarshalField(data []byte, m proto.Message, f protoreflect.FieldDescriptor) error {
	return fmt.Errorf("a body can not be the field %s of %s alone", f.Name(), m.ProtoReflect().Descriptor().FullName())
}

// formOf is how a field stands in JSON.
func formOf(f protoreflect.FieldDescriptor) api.Form {
	if form, known := api.Forms(f.ContainingMessage())[f.Name()]; known {
		return form
	}
	return api.Form{Name: string(f.Name())}
}

// writer writes JSON.
type writer struct{ bytes.Buffer }

func (w *writer) message(m protoreflect.Message) error {
	w.WriteByte('{')
	first := true
	err := w.fields(m, &first)
	w.WriteByte('}')
	return err
}

// fields writes those of a message, without braces.
func (w *writer) fields(m protoreflect.Message, first *bool) error {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		form := formOf(f)
		if form.Kind == api.FormInline {
			if err := w.fields(m.Get(f).Message(), first); err != nil {
				return err
			}
			continue
		}
		if form.Omit && m.Has(f) && f.Message() != nil && !f.IsList() && !f.IsMap() && empty(m.Get(f).Message()) {
			continue
		}
		if absent := f.Message() != nil && !f.IsList() && !f.IsMap() || form.Omit || form.Kind == api.FormTime ||
			form.Kind == api.FormJSON; absent && !m.Has(f) {
			continue
		}
		if !*first {
			w.WriteByte(',')
		}
		*first = false
		if err := w.text(form.Name); err != nil {
			return err
		}
		w.WriteByte(':')
		if err := w.field(f, form, m.Get(f)); err != nil {
			return err
		}
	}
	return nil
}

// empty reports whether all fields of a message are zero.
func empty(m protoreflect.Message) bool {
	is := true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		is = f.Message() != nil && !f.IsList() && !f.IsMap() && empty(v.Message())
		return is
	})
	return is
}

func (w *writer) field(f protoreflect.FieldDescriptor, form api.Form, v protoreflect.Value) error {
	switch {
	case form.Kind == api.FormTime:
		return w.text(time.Unix(0, v.Int()).UTC().Format(time.RFC3339Nano))
	case form.Kind == api.FormJSON:
		text := []byte(nil)
		if f.Kind() == protoreflect.BytesKind {
			text = v.Bytes()
		} else {
			text = []byte(v.String())
		}
		return json.Compact(&w.Buffer, text)
	case form.Kind == api.FormText:
		text, err := form.Write(v.Message())
		if err != nil {
			return err
		}
		return w.text(text)
	case f.IsMap():
		return w.object(f, v.Map())
	case f.IsList():
		return w.list(f, form, v.List())
	}
	return w.single(f, v)
}

func (w *writer) list(f protoreflect.FieldDescriptor, form api.Form, l protoreflect.List) error {
	w.WriteByte('[')
	for i := range l.Len() {
		if i > 0 {
			w.WriteByte(',')
		}
		err := error(nil)
		if form.Kind == api.FormLists {
			inner := l.Get(i).Message()
			only := inner.Descriptor().Fields().Get(0)
			err = w.field(only, api.Form{}, inner.Get(only))
		} else {
			err = w.single(f, l.Get(i))
		}
		if err != nil {
			return err
		}
	}
	w.WriteByte(']')
	return nil
}

// object writes a map in the order of its keys, which are texts.
func (w *writer) object(f protoreflect.FieldDescriptor, m protoreflect.Map) error {
	var keys []string
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	w.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			w.WriteByte(',')
		}
		if err := w.text(k); err != nil {
			return err
		}
		w.WriteByte(':')
		if err := w.single(f.MapValue(), m.Get(protoreflect.ValueOfString(k).MapKey())); err != nil {
			return err
		}
	}
	w.WriteByte('}')
	return nil
}

func (w *writer) single(f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return w.message(v.Message())
	case protoreflect.StringKind:
		return w.text(v.String())
	case protoreflect.BytesKind:
		return w.text(base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.DoubleKind:
		if math.IsInf(v.Float(), 0) || math.IsNaN(v.Float()) {
			return fmt.Errorf("%s: %v is no number of JSON", f.Name(), v.Float())
		}
		b, err := json.Marshal(v.Float())
		w.Write(b)
		return err
	case protoreflect.BoolKind:
		w.WriteString(strconv.FormatBool(v.Bool()))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		w.WriteString(strconv.FormatInt(v.Int(), 10))
	case protoreflect.Uint64Kind:
		w.WriteString(strconv.FormatUint(v.Uint(), 10))
	default:
		return fmt.Errorf("%s: a field of kind %s has no form in JSON", f.FullName(), f.Kind())
	}
	return nil
}

// text writes a string.
func (w *writer) text(s string) error {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(s)
	w.WriteString(strings.TrimSuffix(b.String(), "\n"))
	return err
}
