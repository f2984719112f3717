package strictyaml

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

// anything has each type of field that is read.
type anything struct {
	doc
	Size  float64           `json:"size,omitempty"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Names map[string]string `json:"names,omitempty"`
	Rest  map[string]*doc   `yaml:",inline"`
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"name: a\nflag: yes\ncount: 0x10\nlevel: ++\nsub: {name: b}\nlist: [x, z]\nshort: [p, {name: q, size: 5}]\n",
		"a: &x {name: b}\nc: *x\nsize: 1e3\nraw: {d: [1, .5, ~, 2026-01-02]}\nnames: {? e : f}\n",
		"%YAML 1.1\n--- # c\nname: !!str 1\nlist:\n- |\n  a\n- >-\n  b\n- 'c'\n- \"\\u00fc\"\n...\n",
		"names: {a: 1, b: true, c: 007, d: yes}\n", "x: &x [*x]\n", "<<: {name: a}\n", "name: [", "a: 1\n---\nb: 2\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range []Style{{}, {Settings: true}, {Loose: true}} {
			var v anything
			d := s.Decode(data, &v)
			last := Place{}
			for _, x := range d.Faults {
				if x.Place.Line < 1 || x.Place.Column < 1 || x.Want == "" || strings.Contains(x.Error(), "\n") {
					t.Errorf("fault %#v", x)
				}
				if x.Place.Compare(last) < 0 {
					t.Errorf("%v is before %v", x, last)
				}
				last = x.Place
				d.Given(x.Path)
			}
			if len(d.Faults) > 0 {
				continue
			}
			if math.IsNaN(v.Size) || math.IsInf(v.Size, 0) || v.Raw != nil && !json.Valid(v.Raw) {
				t.Errorf("%+v", v)
			}
			text, err := Encode(v.doc)
			if err != nil {
				t.Fatal(err)
			}
			var back, again doc
			if d := Decode(text, &back); len(d.Faults) > 0 {
				t.Fatalf("%s\n%v", text, d.Faults)
			}
			if twice, err := Encode(back); err != nil || string(twice) != string(text) {
				t.Fatalf("%s\nwritten again\n%s\n%v", text, twice, err)
			}
			if Decode(text, &again); !reflect.DeepEqual(back, again) {
				t.Fatalf("%+v, %+v", back, again)
			}
		}
	})
}
