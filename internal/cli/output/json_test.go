package output

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"holdfast/internal/job"
)

// inner and outer have durations in all places where fields can be.
type inner struct {
	Wait  time.Duration `json:"wait,omitempty"`
	Quiet time.Duration `json:"-"`
	hide  time.Duration
}

type outer struct {
	inner
	Wait   string                   `json:"wait"` // hides the inner one
	Silent time.Duration            `json:"silent,omitzero"`
	Named  time.Duration            `json:"named_ns"`
	Plain  time.Duration            // without a name of its own
	Ptr    *time.Duration           `json:"ptr"`
	List   []time.Duration          `json:"list"`
	More   []*inner                 `json:"more"`
	Map    map[string]inner         `json:"map"`
	Each   map[string]time.Duration `json:"each"`
	Raw    json.RawMessage          `json:"raw"`
	Own    ownJSON                  `json:"own"`
	Any    any                      `json:"any"`
	Nested struct {
		Deep time.Duration `json:"deep"`
	} `json:"nested"`
}

// ownJSON makes its JSON itself.
type ownJSON struct{ Wait time.Duration }

func (ownJSON) MarshalJSON() ([]byte, error) { return []byte(`{"Wait":"1s"}`), nil }

func TestDurationsHaveTheirUnit(t *testing.T) {
	d := 5 * time.Nanosecond
	v := outer{
		inner: inner{hide: 1}, Wait: `a "wait": <1> & {`, Silent: 2, Named: 3, Plain: 4, Ptr: &d,
		List: []time.Duration{6}, More: []*inner{nil, {Wait: 7, Quiet: 1}},
		Map: map[string]inner{"wait": {Wait: 8}}, Each: map[string]time.Duration{"silent": 9},
		Raw: json.RawMessage(`{"wait":[1,{"silent":2}]}`), Any: inner{Wait: 10},
	}
	v.Nested.Deep = 11
	want := `{"wait":"a \"wait\": <1> & {","silent_ns":2,"named_ns":3,"Plain_ns":4,"ptr_ns":5,"list_ns":[6],"more":[null,{"wait_ns":7}],` +
		`"map":{"wait":{"wait_ns":8}},"each":{"silent_ns":9},"raw":{"wait":[1,{"silent":2}]},"own":{"Wait":"1s"},"any":{"wait":10},"nested":{"deep_ns":11}}` + "\n"
	for _, x := range []any{v, &v} {
		var line, lines, flat bytes.Buffer
		if err := JSON(&line, x, true); err != nil || line.String() != want {
			t.Errorf("%v\n%swant\n%s", err, line.String(), want)
		}
		if err := JSON(&lines, x, false); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&flat, lines.Bytes()); err != nil || flat.String()+"\n" != want {
			t.Errorf("%v\n%s", err, lines.String())
		}
	}
}

// FuzzJSON: without durations the output is that of encoding/json, but for characters that are escaped.
func FuzzJSON(f *testing.F) {
	f.Add("h1/x: <&>\u2028\"", "why\xff", int64(-1))
	f.Fuzz(func(t *testing.T, a, b string, n int64) {
		v := map[string]any{a: b, b: []any{n, nil, true, map[string]string{b: a}},
			"job": job.View{ID: a, Waits: []string{b}, Began: time.Unix(n%1e9, 0).UTC()}}
		for _, line := range []bool{true, false} {
			var got, want bytes.Buffer
			e := json.NewEncoder(&want)
			e.SetEscapeHTML(false)
			if !line {
				e.SetIndent("", "  ")
			}
			if err := e.Encode(v); err != nil {
				t.Fatal(err)
			}
			if err := JSON(&got, v, line); err != nil {
				t.Fatal(err)
			}
			if is := unescaped(t, got.String()); is != unescaped(t, want.String()) || strings.ContainsFunc(got.String(), hidden) {
				t.Errorf("%q\nwant\n%q", got.String(), want.String())
			}
		}
	})
}

// unescaped is JSON with its strings as they are read, and all between them.
func unescaped(t *testing.T, text string) string {
	return regexp.MustCompile(`"(?:[^"\\]|\\.)*"`).ReplaceAllStringFunc(text, func(quoted string) (s string) {
		if err := json.Unmarshal([]byte(quoted), &s); err != nil {
			t.Fatal(err)
		}
		return strconv.Quote(s)
	})
}

// TestJSONOrdersNoTerminal: what guests are named reaches no terminal as it is, and a program reads it as it was.
func TestJSONOrdersNoTerminal(t *testing.T) {
	for _, name := range []string{"\u009b2J", "a\u202eb", "\x7f", "\x1b[2J\r\n\t", "zero\u200bwidth", "tag\U000e0041",
		"测试 & <b> \"q\"", "\xff"} {
		for _, line := range []bool{false, true} {
			var b bytes.Buffer
			if err := JSON(&b, map[string]string{name: name}, line); err != nil {
				t.Fatal(err)
			}
			for _, r := range b.String() {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("%q is written with %U", name, r)
				}
			}
			got, want := map[string]string{}, strings.ToValidUTF8(name, "\ufffd")
			if err := json.Unmarshal(b.Bytes(), &got); err != nil || got[want] != want {
				t.Errorf("%q is read as %q, %v", name, got, err)
			}
		}
	}
}
