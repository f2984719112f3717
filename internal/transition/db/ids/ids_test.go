package ids

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/internal/transition/db/mapping"
	"holdfast/testbed/need"
)

var kinds = []mapping.Kind{{Kind: "project"}, {Kind: "user"}, {Kind: "zone"}}

// folder makes one with files, by their names.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// show writes sets in one order, without their paths.
func show(sets map[string]Set) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(sets)) {
		s := sets[kind]
		line := kind
		for _, old := range slices.Sorted(maps.Keys(s.Pairs)) {
			line += fmt.Sprintf(" %q=%q", old, s.Pairs[old])
		}
		if s.Default != nil {
			line += fmt.Sprintf(" else %q", *s.Default)
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

func TestLoad(t *testing.T) {
	long := strings.Repeat("\u00fc", maxValue)
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{nil, ""},
		{map[string]string{"project.csv": "a,b\n"}, `project "a"="b"`},
		{map[string]string{"project.csv": "\ufeffold,new\r\na,b\r\n\r\nc,d\r\n*,e"}, `project "a"="b" "c"="d" else "e"`},
		{map[string]string{"project.csv": "a,b\nold,new\n"}, `project "a"="b" "old"="new"`}, // the header is the first line only
		{map[string]string{"project.csv": "\"a,\"\"b\",\"c\"\n\"\",d\n"}, `project ""="d" "a,\"b"="c"`},
		{map[string]string{"project.csv": "*,e"}, `project else "e"`},
		{map[string]string{"project.csv": ""}, `project`},
		{map[string]string{"project.csv": "a," + long + "\nA,x\n" + long + ",y"}, fmt.Sprintf(`project "A"="x" "a"=%q %q="y"`, long, long)},
		{map[string]string{"user.yaml": "map: {a: b, 'c d': \"e\u00fc\"}\ndefault: f\n", "zone.csv": "x,y",
			".zone.csv.swp": "junk"}, "user \"a\"=\"b\" \"c d\"=\"e\u00fc\" else \"f\"; zone \"x\"=\"y\""},
		{map[string]string{"user.yaml": "map: {'*': b}"}, `user "*"="b"`}, // there the others have their own word
		{map[string]string{"user.yaml": "\ufeffdefault: f"}, `user else "f"`},
		{map[string]string{"user.yaml": "map: {}"}, `user`},
	} {
		dir := folder(t, c.files)
		got, err := Load(dir, kinds)
		if err != nil || show(got) != c.want {
			t.Errorf("%q: %v\n got %s\nwant %s", c.files, err, show(got), c.want)
		}
		for kind, s := range got {
			if s.Pairs == nil || filepath.Dir(s.From) != dir || !strings.HasPrefix(filepath.Base(s.From), kind+".") {
				t.Errorf("%s: from %q, %v", kind, s.From, s.Pairs)
			}
		}
	}
	if got, err := Load("", kinds); err != nil || got == nil || len(got) != 0 {
		t.Errorf("no folder: %v, %v", got, err)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // lines; DIR is the folder
	}{
		{"cell.csv", "a,b", "DIR/cell.csv: no file of IDs has this name: want KIND.csv or KIND.yaml, where KIND is one of project, user, zone"},
		{"project.cvs", "a,b", "DIR/project.cvs: no file of IDs has this name: want KIND.csv or KIND.yaml, where " +
			"KIND is one of project, user, zone"},
		{"project.yml", "map: {}", "DIR/project.yml: no file of IDs has this name: want KIND.csv or KIND.yaml, where " +
			"KIND is one of project, user, zone"},
		{"project.csv", "a,b\nc,d\na,e\n*,f\n*,f\n", `DIR/project.csv: line 3: "a", "e": the old value is in line 1 already, for "b"` + "\n" +
			`DIR/project.csv: line 5: "*", "f": the value for all others is in line 4 already: "f"`},
		{"project.csv", "a,b\na,b\n", `DIR/project.csv: line 2: "a", "b": the old value is in line 1 already, for "b"`},
		{"project.csv", "a\na,b,c\n\nx,y\n", "DIR/project.csv: line 1: value \"a\": want two fields with a comma " +
			"between, OLD,NEW\nDIR/project.csv: line 2: value \"a,b,c\": want two fields with a comma between, OLD,NEW"},
		{"project.csv", "a, b\na ,b\na,\n", `DIR/project.csv: line 1: "a", " b": the new value begins or ends with a blank` + "\n" +
			`DIR/project.csv: line 2: "a ", "b": the old value begins or ends with a blank` + "\n" +
			`DIR/project.csv: line 3: "a", "": the new value is empty`},
		{"project.csv", "\"a\nb\",c\nd,\xff\n" + strings.Repeat("x", 256) + ",y\n",
			`DIR/project.csv: line 1: "a\nb", "c": the old value has a control character` + "\n" +
				`DIR/project.csv: line 3: "d", "\xff": the new value is not UTF-8` + "\n" +
				`DIR/project.csv: line 4: "` + strings.Repeat("x", 80) + `...", "y": the old value has 256 characters: want at most 255`},
		{"project.csv", "a,b\n\"c,d\n", "DIR/project.csv: line 2: want OLD,NEW; a value with a quotation mark stands " +
			"in quotes, with the mark twice"},
		{"project.csv", "a,b\n*,\n", `DIR/project.csv: line 2: "*", "": the new value is empty`},
		{"user.yaml", "map: {a: b, c: d, a: e}", `DIR/user.yaml:1:19: map: "a", "e": the old value is in 1:7 already, for "b"`},
		{"user.yaml", "map: {1: b, c: 2, d: }\n",
			`DIR/user.yaml:1:7: map: value "1: b": want a text each, in quotes where YAML reads something else` + "\n" +
				`DIR/user.yaml:1:13: map: value "c: 2": want a text each, in quotes where YAML reads something else` + "\n" +
				`DIR/user.yaml:1:19: map: value "d: null": want a text each, in quotes where YAML reads something else`},
		{"user.yaml", "maps: {a: b}\ndefault: c\ndefault: d\n",
			`DIR/user.yaml:1:1: maps: value "": unknown field; want one of map, default` + "\n" +
				`DIR/user.yaml:3:1: default: value "": duplicate key: each field may be given only once`},
		{"user.yaml", "map: [a]\ndefault: 7\n", `DIR/user.yaml:1:6: map: value "a list": want old: new for each value` +
			"\n" + `DIR/user.yaml:2:10: default: value "7": want a text`},
		{"user.yaml", "default: ' x'\n", `DIR/user.yaml:1:10: default: value " x": want a text of 1 to 255 characters, no blanks at its ends`},
		{"user.yaml", "map: {' a': b, c: ''}\n",
			`DIR/user.yaml:1:7: map: " a", "b": the old value begins or ends with a blank` + "\n" +
				`DIR/user.yaml:1:16: map: "c", "": the new value is empty`},
		{"user.yaml", "", `DIR/user.yaml:1:1: (file): value "": want map, default, or both`},
		{"user.yaml", "map: {a: b", `DIR/user.yaml:1:10: malformed YAML: want a comma before the next field, or } at the end of the object that began with {`},
	} {
		dir := folder(t, map[string]string{c.name: c.text})
		sets, err := Load(dir, kinds)
		if want := strings.ReplaceAll(c.want, "DIR", dir); err == nil || err.Error() != want {
			t.Errorf("%s %q:\n got %v\nwant %s", c.name, c.text, err, want)
		}
		if sets != nil {
			t.Errorf("%s %q: sets beside an error", c.name, c.text)
		}
	}
	dir := folder(t, map[string]string{"user.yaml": "default: x", "user.csv": "a,b", "zone.csv": "a,b,c"})
	if _, err := Load(dir, kinds); err == nil || err.Error() != fmt.Sprintf("%[1]s/user.yaml: the IDs of user are in "+
		"%[1]s/user.csv already: want one of the files\n%[1]s/zone.csv: line 1: value \"a,b,c\": want two fields "+
		"with a comma between, OLD,NEW", dir) {
		t.Errorf("two files of a kind: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none"), kinds); err == nil {
		t.Error("a folder that is not there")
	}
	if _, err := Load(folder(t, map[string]string{"x.csv": ""}), nil); err == nil ||
		!strings.Contains(err.Error(), "the mapping has no kinds of IDs") {
		t.Errorf("no kinds: %v", err)
	}
	many := folder(t, map[string]string{"user.csv": strings.Repeat("x\n", 500)})
	if _, err := Load(many, kinds); err == nil || strings.Count(err.Error(), "\n") != maxFaults ||
		!strings.HasSuffix(err.Error(), "\nand 400 more") {
		t.Errorf("many faults: %v", err)
	}
}

// TestLoadBounds: as many pairs and bytes as are allowed, and one more.
func TestLoadBounds(t *testing.T) {
	need.Seconds(t)
	var b strings.Builder
	for i := range maxPairs {
		fmt.Fprintf(&b, "%d,x\n", i)
	}
	sets, err := Load(folder(t, map[string]string{"user.csv": b.String() + "*,y\n"}), kinds)
	if err != nil || len(sets["user"].Pairs) != maxPairs || sets["user"].Default == nil {
		t.Errorf("%d pairs, %v", len(sets["user"].Pairs), err)
	}
	if _, err := Load(folder(t, map[string]string{"user.csv": b.String() + "more,x\n"}), kinds); err == nil ||
		!strings.HasSuffix(err.Error(), "user.csv: want at most 1000000 pairs") {
		t.Errorf("one more pair: %v", err)
	}
	large := filepath.Join(folder(t, map[string]string{"user.csv": "a,b\n"}), "user.csv")
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(filepath.Dir(large), kinds); err == nil || err.Error() != large+": want at most 67108864 bytes" {
		t.Errorf("one more byte: %.200v", err)
	}
}

// TestLoadBoundOfYAML: a long list is for CSV.
func TestLoadBoundOfYAML(t *testing.T) {
	file := filepath.Join(folder(t, map[string]string{"user.yaml": "default: x #" + strings.Repeat("y", maxYAML)}), "user.yaml")
	if _, err := Load(filepath.Dir(file), kinds); err == nil || err.Error() != file+": want at most 8388608 bytes, or a CSV file" {
		t.Errorf("error %.200v", err)
	}
}

func TestKnown(t *testing.T) {
	x := "x"
	got := Known(map[string]Set{"a": {}, "b": {Default: &x}})
	if len(got) != 2 || got["a"] != (mapping.IDs{Given: true}) || got["b"] != (mapping.IDs{Given: true, Default: true}) || got["c"].Given {
		t.Errorf("known %v", got)
	}
}

// FuzzFiles: whatever a file has, either it is refused with a reason, or each value may
// stand in a table.
func FuzzFiles(f *testing.F) {
	for _, s := range []string{"old,new\na,b\n*,c\n", "\"a\"\"\",b\r\n", "map: {a: b}\ndefault: c", "a,b\na,c",
		"\ufeffa,b", "map: {a: b, a: c}", "\"a\nb\",c"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, yaml bool) {
		if len(text) > 1<<16 {
			return
		}
		c, faults := &collector{set: Set{Pairs: map[string]string{}}, path: "f", unit: "line"}, &faults{}
		c.faults = faults
		if yaml {
			c.yaml([]byte(text))
		} else {
			c.csv([]byte(text))
		}
		if err := faults.err(); err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		values := slices.Concat(slices.Collect(maps.Keys(c.set.Pairs)), slices.Collect(maps.Values(c.set.Pairs)))
		if c.set.Default != nil {
			values = append(values, *c.set.Default)
		}
		for _, v := range values {
			if !utf8.ValidString(v) || utf8.RuneCountInString(v) > maxValue || strings.TrimSpace(v) != v {
				t.Errorf("%q: took %q", text, v)
			}
		}
	})
}
