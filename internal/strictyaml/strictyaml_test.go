package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

type shorthand struct {
	Name string `json:"name"`
	Size int64  `json:"size,omitempty"`
}

// FromText reads the short form.
func (s *shorthand) FromText(text string) error {
	if text == "" {
		return errors.New("want a name")
	}
	s.Name = text
	return nil
}

type level int

func (l level) MarshalText() ([]byte, error) { return []byte(strings.Repeat("+", int(l))), nil }

// UnmarshalText reads as many plus signs as the level has.
func (l *level) UnmarshalText(text []byte) error {
	if strings.Trim(string(text), "+") != "" {
		return errors.New("want plus signs")
	}
	*l = level(len(text))
	return nil
}

type doc struct {
	Name  string      `json:"name"`
	On    bool        `json:"flag,omitempty"`
	Count int         `json:"count,omitempty"`
	Level level       `json:"level,omitempty"`
	Sub   *doc        `json:"sub,omitempty"`
	List  []string    `json:"list,omitempty"`
	Short []shorthand `json:"short,omitempty"`
}

func TestDecode(t *testing.T) {
	var got doc
	faults := Decode([]byte("name: a\nflag: true\ncount: 3\nlevel: ++\nsub: {name: b}\nlist: [x, z]\nshort: [p, {name: q, size: 5}]\n"), &got)
	want := doc{Name: "a", On: true, Count: 3, Level: 2, Sub: &doc{Name: "b"}, List: []string{"x", "z"}, Short: []shorthand{{"p", 0}, {"q", 5}}}
	if len(faults) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%v", got, faults)
	}
	text, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var back doc
	if faults := Decode(text, &back); len(faults) > 0 || !reflect.DeepEqual(back, want) {
		t.Errorf("%s\n%+v\n%v", text, back, faults)
	}
	if !strings.HasPrefix(string(text), "name: a\nflag: true\ncount: 3\n") {
		t.Errorf("the fields have another order:\n%s", text)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"nam: a":                      `nam: "nam": unknown field; want one of name, flag, count, level, sub, list, short`,
		"name: a\nname: b":            `name: "b": duplicate key: each field may be given only once`,
		"name: 2.0":                   `name: "2": want a string, not a number: put it in quotes`,
		"name: [a]":                   `name: "a list": want a string, not a list`,
		"flag: 1":                     `flag: "1": want true or false, not a number`,
		"count: '3'":                  `count: "3": want a whole number, not a string`,
		"count: 1.5":                  `count: "1.5": want a whole number, not a number`,
		"count: 99999999999999999999": `count: "1e+20": want a whole number, not a number`,
		"level: '+-'":                 `level: "+-": want plus signs`,
		"level: 3":                    `level: "3": want a string, not a number: put it in quotes`,
		"sub: {sub: {x: 1}}":          `sub.sub.x: "x": unknown field; want one of name, flag, count, level, sub, list, short`,
		"list: a":                     `list: "a": want a list, not a string`,
		"list: [a, {b: c}]":           `list[1]: "an object": want a string, not an object`,
		"short: ['']":                 `short[0]: "": want a name`,
		"short: [{size: x}]":          `short[0].size: "x": want a whole number, not a string`,
		"short: [2.0]":                `short[0]: "2": want a string or an object, not a number: put it in quotes`,
		"short: [[a]]":                `short[0]: "a list": want a string or an object, not a list`,
		"'a b': c":                    `["a b"]: "a b": unknown field; want one of name, flag, count, level, sub, list, short`,
		"1: a":                        `(file): "1": a field name must be a string, quote it`,
		"sub: &x {name: a}\n<<: *x":   `2:1: "<<": YAML merge keys are not supported, write the fields out`,
		"name: a\n---\nname: b":       `(file): "---": want one YAML document, not several`,
		"name: \"a\xff\"":             `1:9: "\\xff": the file must be UTF-8`,
		"list: [a":                    `1:1: "": malformed YAML: yaml: line 1: did not find expected ',' or ']'`,
	} {
		var d doc
		faults := Decode([]byte(text), &d)
		var got []string
		for _, f := range faults {
			got = append(got, fmt.Sprintf("%s: %q: %s", f.Path, f.Value, f.Want))
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
}

func TestDepth(t *testing.T) {
	var d doc
	faults := Decode([]byte(strings.Repeat("{sub: ", 50)+"null"+strings.Repeat("}", 50)), &d)
	if len(faults) != 1 || faults[0].Want != "at most 32 levels of nesting" {
		t.Errorf("%v", faults)
	}
}

// TestBounds: what is long is cut, and of many faults the first are told.
func TestBounds(t *testing.T) {
	var d doc
	long := strings.Repeat("é", 100)
	faults := Decode([]byte("count: "+long+"\n"+strings.Repeat("a", 100)+": 1\n"+long+": 1\n"), &d)
	var got []string
	for _, f := range faults {
		got = append(got, f.Path+" "+f.Value)
	}
	e, a := strings.Repeat("é", 80)+"...", strings.Repeat("a", 80)+"..."
	if want := []string{"count " + e, a + " " + a, `["` + e + `"] ` + e}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if faults := Decode([]byte("list: ["+strings.Repeat("1,", 1000)+"]"), &d); len(faults) != maxFaults {
		t.Errorf("%d faults, want %d", len(faults), maxFaults)
	}
}
