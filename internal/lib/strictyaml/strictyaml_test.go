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
	faults := Decode([]byte("name: a\nflag: true\ncount: 3\nlevel: ++\nsub: {name: b}\nlist: [x, z]\nshort: [p, "+
		"{name: q, size: 5}]\n"), &got).Faults
	want := doc{Name: "a", On: true, Count: 3, Level: 2, Sub: &doc{Name: "b"}, List: []string{"x", "z"},
		Short: []shorthand{{"p", 0}, {"q", 5}}}
	if len(faults) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\n%v", got, faults)
	}
	text, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var back doc
	if faults := Decode(text, &back).Faults; len(faults) > 0 || !reflect.DeepEqual(back, want) {
		t.Errorf("%s\n%+v\n%v", text, back, faults)
	}
	if !strings.HasPrefix(string(text), "name: a\nflag: true\ncount: 3\n") {
		t.Errorf("the fields have another order:\n%s", text)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"nam: a":                          `1:1: nam: value "nam": unknown field; want one of name, flag, count, level, sub, list, short`,
		"name: a\nname: b":                `2:1: name: value "b": duplicate key: each field may be given only once`,
		"name: 2.0":                       `1:7: name: value "2.0": want a string, not a number: put it in quotes`,
		"name: [a]":                       `1:7: name: value "a list": want a string, not a list`,
		"flag: 1":                         `1:7: flag: value "1": want true or false, not a number`,
		"count: '3'":                      `1:8: count: value "3": want a whole number, not a string`,
		"count: 1.5":                      `1:8: count: value "1.5": want a whole number, written in digits`,
		"count: 99999999999999999999":     `1:8: count: value "99999999999999999999": want a whole number, written in digits`,
		"level: '+-'":                     `1:8: level: value "+-": want plus signs`,
		"level: 3":                        `1:8: level: value "3": want plus signs`,
		"sub: {sub: {x: 1}}":              `1:13: sub.sub.x: value "x": unknown field; want one of name, flag, count, level, sub, list, short`,
		"list: a":                         `1:7: list: value "a": want a list, not a string`,
		"list: [a, {b: c}]":               `1:11: list[1]: value "an object": want a string, not an object`,
		"list:\n- \u00fc\n- [b]":          `3:3: list[1]: value "a list": want a string, not a list`,
		"list: [\u00fc, 1]":               `1:11: list[1]: value "1": want a string, not a number: put it in quotes`,
		"list: &x [a]\nsub: {list: [*x]}": `1:7: sub.list[0]: value "a list": want a string, not a list`,
		"short: ['']":                     `1:9: short[0]: value "": want a name`,
		"short: [{size: x}]":              `1:16: short[0].size: value "x": want a whole number, not a string`,
		"short: [2.0]":                    `1:9: short[0]: value "2.0": want a string or an object, not a number: put it in quotes`,
		"short: [[a]]":                    `1:9: short[0]: value "a list": want a string or an object, not a list`,
		"'a b': c":                        `1:1: ["a b"]: value "a b": unknown field; want one of name, flag, count, level, sub, list, short`,
		"1: a":                            `1:1: (file): value "1": a field name must be a string, quote it`,
		"on: a":                           `1:1: (file): value "on": a field name must be a string, quote it`,
		"{[a]: b}":                        `1:2: (file): value "a list": a field name must be a string, quote it`,
		"sub: &x {name: a}\n<<: *x":       `2:1: value "<<": YAML merge keys are not supported, write the fields out`,
		"name: a\n---\nname: b":           `2:1: (file): value "---": want one YAML document, not several`,
		"- a":                             `1:1: (file): value "a list": want an object, not a list`,
		"name: \"a\xff\"":                 `1:9: value "\\xff": the file must be UTF-8`,
		"count: !!int a":                  `1:8: value "a": malformed YAML: want what !!int takes`,
		"list: &x [*x]":                   `1:11: value "*x": malformed YAML: the value contains itself`,
		"name: a\nlist: [a\n":             `2:8: malformed YAML: want a comma before the next value, or ] at the end of the list that began with [`,
		"name: a\nlist:\n  - x\n - y":     `4:2: malformed YAML: want NAME: VALUE that begins in the column of the lines above, or in the one of what it belongs to`,
		"name: a\nlist: 'a\n\n":           `2:7: malformed YAML: want the quote at the end of a text that began with one`,
		"name: a\n\tlist: x":              `2:1: malformed YAML: want spaces at the beginning of a line, and no tab`,
		"name: *x":                        `1:8: malformed YAML: want quotes around a value that begins with *: there is no anchor "x"`,
		"name: a\nlist:\n\t- x":           `3:1: malformed YAML: want spaces at the beginning of a line, and no tab`,
		"name: @x":                        `1:7: malformed YAML: want quotes around a value that begins with such a character`,
		"name: a: b":                      `1:8: malformed YAML: want quotes around a value that has a colon and a space in it, and NAME: VALUE on a line of its own`,
		"name: a\n...\n]":                 `3:1: malformed YAML: did not find expected <document start>`,
	} {
		var d doc
		faults := Decode([]byte(text), &d).Faults
		var got []string
		for _, f := range faults {
			got = append(got, f.In(""))
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%q\ngot  %q\nwant %q", text, got, want)
		}
	}
}

func TestDepth(t *testing.T) {
	var d doc
	faults := Decode([]byte(strings.Repeat("{sub: ", 50)+"null"+strings.Repeat("}", 50)), &d).Faults
	if len(faults) != 1 || faults[0].Want != "at most 32 levels of nesting" {
		t.Errorf("%v", faults)
	}
}

// TestBounds: what is long is cut, and of many faults the first are told.
func TestBounds(t *testing.T) {
	var d doc
	long := strings.Repeat("é", 100)
	faults := Decode([]byte("count: "+long+"\n"+strings.Repeat("a", 100)+": 1\n"+long+": 1\n"), &d).Faults
	var got []string
	for _, f := range faults {
		got = append(got, f.Path+" "+f.Value)
	}
	e, a := strings.Repeat("é", 80)+"...", strings.Repeat("a", 80)+"..."
	if want := []string{"count " + e, a + " " + a, `["` + e + `"] ` + e}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if faults := Decode([]byte("list: ["+strings.Repeat("1,", 1000)+"]"), &d).Faults; len(faults) != maxFaults {
		t.Errorf("%d faults, want %d", len(faults), maxFaults)
	}
}

// TestStyles: what settings and credentials take otherwise than documents.
func TestStyles(t *testing.T) {
	type file struct {
		Names map[string]string `json:"names"`
		List  []string          `json:"list"`
		Rest  map[string]doc    `yaml:",inline"`
	}
	for _, c := range []struct {
		style Style
		text  string
		want  string
	}{
		{Style{}, "names: {a: x, b: \"y\\n\"}\nlist: []\nc: {count: 1}", `{map[a:x b:y\n] [] map[c:{ false 1 0 <nil> [] []}]}`},
		{Style{}, "names: {a: 1}", `1:12: names.a: value "1": want a string, not a number: put it in quotes`},
		{Style{}, "c: {nam: x}", `1:5: c.nam: value "nam": unknown field; want one of name, flag, count, level, sub, list, short`},
		{Style{Settings: true}, "c: {nam: x}", `1:5: c.nam: value "nam": unknown field; the nearest known one is "name"`},
		{Style{Settings: true}, "names: {a: \"y\\n\"}", `1:12: names.a: value "y\n": want text without control characters`},
		{Style{Settings: true}, "names: {\"y\\n\": a}", `1:9: names["y\n"]: value "y\n": want a name without control characters`},
		{Style{Settings: true}, "names: {a: !!binary /w==}", `1:12: names.a: value "\xff": a string must be UTF-8`},
		{Style{Loose: true}, "names: {a: 12, 3: true, c: -0.5}", `{map[3:true a:12 c:-0.5] [] map[]}`},
		{Style{Loose: true}, "names: {a: 007}", `1:12: names.a: value "007": want a string, not a number: put it in quotes`},
		{Style{Loose: true}, "names: {a: yes}", `1:12: names.a: value "yes": want a string, not true or false: put it in quotes`},
		{Style{Loose: true}, "names: {007: a}", `1:9: names: value "007": a field name must be a string, quote it`},
	} {
		var v file
		d := c.style.Decode([]byte(c.text), &v)
		got := strings.ReplaceAll(fmt.Sprint(v), "\n", `\n`)
		if len(d.Faults) > 0 {
			got = Lines("", d.Faults)
		}
		if got != c.want {
			t.Errorf("%q\ngot  %s\nwant %s", c.text, got, c.want)
		}
	}
}

// TestLocate: later checks find the places of what they name.
func TestLocate(t *testing.T) {
	var v doc
	d := Decode([]byte("# c\nname: a\nsub:\n  list: [x, 'y']\n  short:\n  - {name: z}\n  - b\ncount: ~\n"), &v)
	for path, want := range map[string]string{
		"name": "2:7", "sub": "4:3", "sub.list": "4:9", "sub.list[1]": "4:13", "sub.short[0].name": "6:12",
		"sub.short[0].size": "6:5", "sub.short[1]": "7:5",
		"sub.list[7]": "4:9", "sub.nothing": "4:3", "other[3].x": "2:1", "nam": "2:1", "": "2:1",
	} {
		if got := d.Place(path).String(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if d.Given("count") || d.Given("sub.short[0].size") || !d.Given("sub.short[0].name") || d.Refused("name") {
		t.Error("what is given, and what is refused")
	}
	faults := d.Locate([]Fault{{Path: "sub.list[0]"}, {Path: "(tree)"}})
	if faults[0].Place.String() != "4:10" || faults[1].Place != (Place{}) {
		t.Errorf("%v", faults)
	}
}

// TestAnEmptyDocumentIsOneFault: what it lacks is told together, not field by field; and a missing number is not shown as 0.
func TestAnEmptyDocumentIsOneFault(t *testing.T) {
	for text, want := range map[string]string{
		"":          `f:1:1: (file): value "": want fields such as name, count: there are none in the file`,
		"# nothing": `f:1:1: (file): value "": want fields such as name, count: there are none in the file`,
		"flag: on":  "f:1:1: name: value \"\": want one\nf:1:1: count: value \"\": want one",
		"count: 0":  "f:1:1: name: value \"\": want one\nf:1:8: count: value \"0\": want one",
	} {
		d := Decode([]byte(text), &doc{})
		got := Lines("f", d.Locate([]Fault{{Path: "name", Want: "want one"}, {Path: "count", Value: "0", Want: "want one"}}))
		if got != want {
			t.Errorf("%q\ngot  %s\nwant %s", text, got, want)
		}
	}
}
