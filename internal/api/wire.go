package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// A message has the fields of the domain type that it carries, under the same names, so
// one converter does for all of them. Names are compared without case; a suffix tells
// the unit:
//
//	domain               message
//	F time.Time          int64 f_ns: since 1970-01-01 UTC, 0 for the zero time; it comes back in UTC
//	F time.Time          string f: as RFC 3339, where its zone matters
//	F time.Duration      int64 f_ns
//	F json.RawMessage    string f_json
//	F struct, embedded   message f: one that is absent counts as zero
//	F *struct            message f: one that is absent is nil
//	F []T                repeated f: without elements it comes back as nil
//	F []T in a list      a message whose only field is repeated
//	F map[K]T            map f: without elements it comes back as nil
//	F of another kind    f of that kind: texts become UTF-8, integers have 64 bits
//
// What is not exported and what JSON leaves out ("-") is not sent. Every other field, of
// the domain type and of the message, has its partner on the other side: Encode and
// Decode panic otherwise, and TestRoundTrip tries all pairs.

// Encode returns the wire form W of a domain value: a message, or a list of them.
func Encode[W, T any](v T) (w W) {
	codecOf[T, W]().encode(reflect.ValueOf(&w).Elem(), reflect.ValueOf(&v).Elem())
	return w
}

// Decode returns the domain value that a wire form holds.
func Decode[T, W any](w W) (v T) {
	codecOf[T, W]().decode(reflect.ValueOf(&v).Elem(), reflect.ValueOf(&w).Elem())
	return v
}

// fill sets a value that is zero from one of the other side.
type fill func(to, from reflect.Value)

// codec fills values of a wire type from those of a domain type, and the other way.
type codec struct{ encode, decode fill }

// codecs has each codec that was used, by its two types.
var codecs sync.Map

func codecOf[T, W any]() codec {
	types := [2]reflect.Type{reflect.TypeFor[T](), reflect.TypeFor[W]()}
	if c, known := codecs.Load(types); known {
		return c.(codec)
	}
	c, err := newCodec(types[0], types[1])
	if err != nil {
		panic(fmt.Sprintf("api: %v", err))
	}
	codecs.Store(types, c)
	return c
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

// newCodec makes the codec of two types. An error says what does not fit.
func newCodec(domain, wire reflect.Type) (codec, error) {
	are := func(d, w reflect.Kind) bool { return domain.Kind() == d && wire.Kind() == w }
	switch {
	case domain == timeType && wire.Kind() == reflect.Int64:
		return codec{encodeTime, decodeTime}, nil
	case domain == timeType && wire.Kind() == reflect.String:
		return codec{encodeZonedTime, decodeZonedTime}, nil
	case domain == rawType && wire.Kind() == reflect.String:
		return codec{encodeText, decodeRaw}, nil
	case are(reflect.String, reflect.String):
		return codec{encodeText, fillAny}, nil
	case are(reflect.Int, reflect.Int64), are(reflect.Int64, reflect.Int64), are(reflect.Uint64, reflect.Uint64),
		are(reflect.Float64, reflect.Float64), are(reflect.Bool, reflect.Bool):
		return codec{fillAny, fillAny}, nil
	case are(reflect.Struct, reflect.Pointer):
		return newMessage(domain, wire.Elem())
	case are(reflect.Pointer, reflect.Pointer):
		return newOptional(domain.Elem(), wire)
	case are(reflect.Slice, reflect.Slice):
		return newList(domain.Elem(), wire.Elem())
	case are(reflect.Slice, reflect.Pointer):
		return newInnerList(domain, wire.Elem())
	case are(reflect.Map, reflect.Map):
		return newMap(domain, wire)
	}
	return codec{}, fmt.Errorf("%s does not fit %s", domain, wire)
}

func fillAny(to, from reflect.Value) { to.Set(from.Convert(to.Type())) }

// decodeRaw leaves nothing where the text is empty.
func decodeRaw(to, from reflect.Value) {
	if from.Len() > 0 {
		fillAny(to, from)
	}
}

func encodeText(to, from reflect.Value) { to.SetString(text(from.Convert(to.Type()).String())) }

// text makes a string fit for the wire, which takes UTF-8 only: messages of the
// system may hold anything.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func encodeTime(to, from reflect.Value) {
	if t := from.Interface().(time.Time); !t.IsZero() {
		to.SetInt(t.UnixNano())
	}
}

func decodeTime(to, from reflect.Value) {
	if ns := from.Int(); ns != 0 {
		to.Set(reflect.ValueOf(time.Unix(0, ns).UTC()))
	}
}

func encodeZonedTime(to, from reflect.Value) {
	to.SetString(from.Interface().(time.Time).Format(time.RFC3339Nano))
}

// decodeZonedTime leaves the zero time where the text is no time.
func decodeZonedTime(to, from reflect.Value) {
	if t, err := time.Parse(time.RFC3339Nano, from.String()); err == nil {
		to.Set(reflect.ValueOf(t))
	}
}

// newMessage makes the codec of a struct and a message.
func newMessage(domain, message reflect.Type) (codec, error) {
	type pair struct {
		domain, wire int // places of the fields
		codec
	}
	var pairs []pair
	alone := map[string]reflect.StructField{} // fields of the message that have no partner yet
	for _, f := range sent(message) {
		alone[strings.ToLower(f.Name)] = f
	}
	for _, f := range sent(domain) {
		name := partner(f, alone)
		with, found := alone[name]
		if !found {
			return codec{}, fmt.Errorf("%s has no field %s for %s.%s", message, name, domain, f.Name)
		}
		delete(alone, name)
		c, err := newCodec(f.Type, with.Type)
		if err != nil {
			return codec{}, fmt.Errorf("%s.%s: %w", domain, f.Name, err)
		}
		pairs = append(pairs, pair{f.Index[0], with.Index[0], c})
	}
	for name := range alone {
		return codec{}, fmt.Errorf("%s has no field for %s of %s", domain, name, message)
	}
	encode := func(to, from reflect.Value) {
		to.Set(reflect.New(message))
		for _, p := range pairs {
			p.encode(to.Elem().Field(p.wire), from.Field(p.domain))
		}
	}
	decode := func(to, from reflect.Value) {
		if from.IsNil() {
			return
		}
		for _, p := range pairs {
			p.decode(to.Field(p.domain), from.Elem().Field(p.wire))
		}
	}
	return codec{encode, decode}, nil
}

// sent are the fields of a struct that travel.
func sent(t reflect.Type) (out []reflect.StructField) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
			out = append(out, f)
		}
	}
	return out
}

// partner is the name, in lower case, of the field of a message that goes with a field of
// the domain.
func partner(f reflect.StructField, fields map[string]reflect.StructField) string {
	name := strings.ToLower(f.Name)
	_, same := fields[name]
	switch {
	case f.Type == durationType, f.Type == timeType && !same:
		return name + "ns"
	case f.Type == rawType:
		return name + "json"
	}
	return name
}

// newOptional makes the codec of a pointer to a struct and a message.
func newOptional(domain, wire reflect.Type) (codec, error) {
	c, err := newCodec(domain, wire)
	encode := func(to, from reflect.Value) {
		if !from.IsNil() {
			c.encode(to, from.Elem())
		}
	}
	decode := func(to, from reflect.Value) {
		if !from.IsNil() {
			to.Set(reflect.New(domain))
			c.decode(to.Elem(), from)
		}
	}
	return codec{encode, decode}, err
}

// newList makes the codec of two lists, by the types of their elements.
func newList(domain, wire reflect.Type) (codec, error) {
	c, err := newCodec(domain, wire)
	all := func(one fill) fill {
		return func(to, from reflect.Value) {
			n := from.Len()
			if n == 0 {
				return
			}
			to.Set(reflect.MakeSlice(to.Type(), n, n))
			for i := range n {
				one(to.Index(i), from.Index(i))
			}
		}
	}
	return codec{all(c.encode), all(c.decode)}, err
}

// newInnerList makes the codec of a list within a list, for which the wire needs a message.
func newInnerList(domain, message reflect.Type) (codec, error) {
	fields := sent(message)
	if len(fields) != 1 {
		return codec{}, fmt.Errorf("%s does not fit %s: want a message with one field", domain, message)
	}
	only := fields[0].Index[0]
	c, err := newCodec(domain, fields[0].Type)
	encode := func(to, from reflect.Value) {
		to.Set(reflect.New(message))
		c.encode(to.Elem().Field(only), from)
	}
	decode := func(to, from reflect.Value) {
		if !from.IsNil() {
			c.decode(to, from.Elem().Field(only))
		}
	}
	return codec{encode, decode}, err
}

// newMap makes the codec of two maps.
func newMap(domain, wire reflect.Type) (codec, error) {
	key, err := newCodec(domain.Key(), wire.Key())
	if err != nil {
		return key, err
	}
	value, err := newCodec(domain.Elem(), wire.Elem())
	all := func(oneKey, oneValue fill) fill {
		return func(to, from reflect.Value) {
			if from.Len() == 0 {
				return
			}
			m := to.Type()
			to.Set(reflect.MakeMapWithSize(m, from.Len()))
			for k, v := range from.Seq2() {
				toKey, toValue := reflect.New(m.Key()).Elem(), reflect.New(m.Elem()).Elem()
				oneKey(toKey, k)
				oneValue(toValue, v)
				to.SetMapIndex(toKey, toValue)
			}
		}
	}
	return codec{all(key.encode, value.encode), all(key.decode, value.decode)}, err
}
