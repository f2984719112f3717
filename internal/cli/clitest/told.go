package clitest

import (
	"encoding/json"
	"reflect"
	"testing"
)

// Told fails when a value has anything whose type is not known, and so may be durations without their unit.
func Told(t *testing.T, values ...any) {
	t.Helper()
	told := map[reflect.Type]bool{}
	var look func(t reflect.Type, at string)
	look = func(x reflect.Type, at string) {
		if told[x] {
			return
		}
		told[x] = true
		switch x.Kind() {
		case reflect.Interface:
			t.Errorf("%s may hold anything, also durations", at)
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			look(x.Elem(), at)
		case reflect.Struct:
			for i := range x.NumField() {
				if f := x.Field(i); f.IsExported() && !reflect.PointerTo(x).Implements(reflect.TypeFor[json.Marshaler]()) {
					look(f.Type, at+"."+f.Name)
				}
			}
		}
	}
	for _, v := range values {
		look(reflect.TypeOf(v), reflect.TypeOf(v).String())
	}
}
