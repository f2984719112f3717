package strictyaml

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestRaw(t *testing.T) {
	type holder struct {
		Any json.RawMessage `json:"any"`
	}
	for text, want := range map[string]string{
		"any: {b: [1, 2.5, x], a: {c: true, d: null}, e: 2026-01-02}": `{"a":{"c":true,"d":null},"b":[1,2.5,"x"],"e":"2026-01-02"}`,
		"any: 18446744073709551615":                                   `18446744073709551615`,
		"any: text":                                                   `"text"`,
		"any: {}":                                                     `{}`,
		"any:":                                                        ``,
		"any: {a: 1, a: 2}":                                           `any.a: duplicate key`,
		"any: {a: {1: x}}":                                            `any.a: a field name must be a string`,
		"any: [.nan]":                                                 `any[0]: want a number`,
		"any: {a: !!binary /w==}":                                     `any.a: want text, not bytes`,
		"any: " + strings.Repeat("[", 40) + strings.Repeat("]", 40): `at most 32 levels`,
	} {
		var h holder
		faults := Decode([]byte(text), &h).Faults
		got := string(h.Any)
		for _, f := range faults {
			got += fmt.Sprintf("%s: %s", f.Path, f.Want)
		}
		if got != want && !(len(faults) == 1 && strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if len(faults) > 0 && h.Any != nil {
			t.Errorf("%s: faulty, and filled with %s", text, h.Any)
		}
	}
}
